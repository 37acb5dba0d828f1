"""Every interception of Keras and its backend: what is replaced while a block runs, and put back after it."""
