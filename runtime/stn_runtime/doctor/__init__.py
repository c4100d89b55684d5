"""The command doctor: what this device, or a model on a target, cannot do, and what mends it."""
