"""Causes of buffers that differ: the running statistics of a batch normalization."""
