"""That a file is the network it was made of, and what reduced precision costs."""
