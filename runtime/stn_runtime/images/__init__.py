"""Image files and pictures: read, written, and made into a network's input."""
