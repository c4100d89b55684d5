"""Measuring a model on labelled images, and understanding what its transformers do."""
