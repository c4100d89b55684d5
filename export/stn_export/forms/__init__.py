"""What a target gets: one graph or two, and in which precision."""
