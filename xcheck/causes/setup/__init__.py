"""Causes in how the sides are built: ties, frozen parameters, initial weights, sizes."""
