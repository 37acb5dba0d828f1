"""Causes of an update that differs though the gradients agree."""
