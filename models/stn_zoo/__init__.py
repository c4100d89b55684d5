"""Released models: .onnx files and their cards."""
