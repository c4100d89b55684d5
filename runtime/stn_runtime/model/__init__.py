"""A model file: what it says of itself, its network, and what came of a picture."""
