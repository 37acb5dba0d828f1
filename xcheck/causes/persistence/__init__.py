"""Causes of a side that is not the same after it was saved and loaded."""
