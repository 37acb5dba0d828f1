"""Weight layouts of PyTorch and Keras: named transforms, the layer kinds that use them, and parts of arrays."""

from .named import LAYOUTS, Layout, Shape, fitting, layout_named, pattern_layout

__all__ = ["LAYOUTS", "Layout", "Shape", "fitting", "layout_named", "pattern_layout"]
