"""ONNX files: written by both sides, run, compared, and their ties stored once."""
