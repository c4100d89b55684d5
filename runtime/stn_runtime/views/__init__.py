"""What shows or saves each frame with its record."""
