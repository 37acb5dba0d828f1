"""ONNX: both sides exported and run, what of a tie survives in a file, and files compared with each other."""
