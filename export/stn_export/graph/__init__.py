"""From a PyTorch module to an ONNX graph, and what is rewritten in graphs."""
