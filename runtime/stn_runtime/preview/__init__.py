"""A web page on which people watch a run."""
