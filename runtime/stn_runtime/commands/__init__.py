"""The commands run, verify and models."""
