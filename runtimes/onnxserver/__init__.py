"""ONNX models: one .onnx file, with its external data beside it."""
