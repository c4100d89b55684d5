"""From a PyTorch module as people keep it to the graph that PyTorch's exporter makes of it."""
