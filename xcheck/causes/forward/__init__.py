"""Causes of a difference in what a model computes, one file per kind of layer."""
