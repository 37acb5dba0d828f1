"""The Keras side: what a runner can do, one file each."""
