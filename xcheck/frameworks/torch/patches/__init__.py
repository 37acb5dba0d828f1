"""Every interception of PyTorch: what is replaced while a block runs, and put back after it."""
