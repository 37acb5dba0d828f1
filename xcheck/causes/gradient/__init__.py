"""Causes of gradients that differ though outputs and losses agree."""
