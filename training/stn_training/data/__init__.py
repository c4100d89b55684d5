"""Training and test images: where they come from, and how they are distorted, augmented and batched."""
