"""How PyTorch and Keras lay out the same weight: named transforms, the layers that promise them, and their parts."""

from .named import LAYOUTS, Layout, Shape, fitting, layout_named, pattern_layout

__all__ = ["LAYOUTS", "Layout", "Shape", "fitting", "layout_named", "pattern_layout"]
