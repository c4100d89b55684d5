"""What is found, read and rewritten in ONNX graphs."""
