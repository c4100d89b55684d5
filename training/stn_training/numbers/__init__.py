"""House numbers: the Street View data set, and plates that are drawn."""
