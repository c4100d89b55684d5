"""What is written of each frame."""
