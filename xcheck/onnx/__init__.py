"""ONNX files: export from both sides, execution, comparison, and single storage of tied weights."""
