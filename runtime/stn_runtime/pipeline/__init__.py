"""From the frames of a source to records."""
