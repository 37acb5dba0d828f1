"""Named, invertible transforms between the PyTorch and the Keras layout of a weight.

The kinds of the two layers and the role of the parameter in them (`kinds.py`) determine the transform, never only the
shape: a square matrix fits transposed and untransposed, and only one of them is right. For unknown layers, the weight
map names the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..records.trace import Array
from .patterns import Shape, parse_pattern


@dataclass(frozen=True, slots=True)
class Layout:
    """A transform and its inverse.

    Attributes:
        name: in a weight map.
        summary: PyTorch shape -> Keras shape.
        forward: (PyTorch array, Keras shape) -> Keras array. Raises ValueError if the shapes do not fit.
        inverse: (Keras array, PyTorch shape) -> PyTorch array; raises the same.
        pattern: the transform as a pattern of `patterns.py`; None if it has none.
    """

    name: str
    summary: str
    forward: Callable[[Array, Shape], Array]
    inverse: Callable[[Array, Shape], Array]
    pattern: str | None = None

    def fits(self, torch_shape: Shape, keras_shape: Shape) -> bool:
        """Whether the transform converts each shape into the other."""
        try:
            converted = self.forward(_one_byte_array(torch_shape), keras_shape)
            restored = self.inverse(_one_byte_array(keras_shape), torch_shape)
        except (ValueError, IndexError):
            return False
        return converted.shape == keras_shape and restored.shape == torch_shape


def _one_byte_array(shape: Shape) -> Array:
    """An array of this shape that uses one byte of memory."""
    return np.broadcast_to(np.zeros((), np.int8), shape)


def pattern_layout(name: str, summary: str, text: str, ndims: tuple[int, ...] = ()) -> Layout:
    """A layout from a pattern of `patterns.py`.

    Args:
        name, summary: of the layout.
        text: the pattern.
        ndims: numbers of axes that the PyTorch array may have; () for any that the pattern allows.

    Raises:
        ValueError: the text is not a pattern.
    """
    pattern = parse_pattern(text)

    def check_axes(shape: Shape) -> None:
        if ndims and len(shape) not in ndims:
            raise ValueError(f"{name} does not apply to {len(shape)} axes")

    def forward(array: Array, keras_shape: Shape) -> Array:
        check_axes(array.shape)
        return pattern.forward(array, keras_shape)

    def inverse(array: Array, torch_shape: Shape) -> Array:
        check_axes(torch_shape)
        return pattern.inverse(array, torch_shape)

    return Layout(name, summary, forward, inverse, text)


def _unchanged(array: Array, _: Shape) -> Array:
    return array


def _to_channels_last(array: Array, keras_shape: Shape) -> Array:
    if array.ndim != 1 or keras_shape != (*[1] * (len(keras_shape) - 1), array.size) or len(keras_shape) < 2:
        raise ValueError("channels_last converts a vector to (1, ..., 1, channels)")
    return array.reshape(keras_shape)


def _from_channels_last(array: Array, torch_shape: Shape) -> Array:
    _to_channels_last(array.reshape(-1), array.shape)
    return array.reshape(torch_shape)


_CONV = (3, 4, 5)
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("identity", "any shape, unchanged", _unchanged, _unchanged),
        pattern_layout("transpose", "(out, in) -> (in, out)", "o i -> i o"),
        pattern_layout("conv", "(out, in, *k) -> (*k, in, out)", "o i ... -> ... i o", _CONV),
        pattern_layout("conv_transpose", "(in, out, *k) -> (*k, out, in)", "i o ... -> ... o i", _CONV),
        pattern_layout("depthwise", "(c * m, 1, *k) -> (*k, c, m)", "(c m) 1 ... -> ... c m", _CONV),
        pattern_layout("gru_kernel", "(3h, in), gates r z n -> (in, 3h), gates z r h", "(g h) i -> i (g@102 h)"),
        pattern_layout("gru_bias", "(3h,), gates r z n -> (3h,), gates z r h", "(g h) -> (g@102 h)"),
        pattern_layout("split_heads", "(heads * d, in) -> (in, heads, d)", "(h d) i -> i h d"),
        pattern_layout("heads_first", "(heads * d, in) -> (heads, in, d)", "(h d) i -> h i d"),
        pattern_layout("merge_heads", "(out, heads * d) -> (heads, d, out)", "o (h d) -> h d o"),
        pattern_layout("head_bias", "(heads * d,) -> (heads, d)", "(h d) -> h d"),
        pattern_layout("split_last", "(in, heads * d) -> (in, heads, d)", "i (h d) -> i h d"),
        pattern_layout("merge_first", "(heads * d, out) -> (heads, d, out)", "(h d) o -> h d o"),
        Layout("channels_last", "(c,) -> (1, ..., 1, c)", _to_channels_last, _from_channels_last),
    )
}
"""Every layout by name. A square `transpose` differs from `identity` in its values only."""


def layout_named(name: str) -> Layout | None:
    """The layout for a name or pattern in a weight map; None if it is neither.

    Raises:
        ValueError: the text contains "->" but is not a pattern.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    return pattern_layout(name, name, name) if "->" in name else None


def fitting(torch_shape: Shape, keras_shape: Shape) -> list[str]:
    """Names of all layouts that fit the shapes: candidates to show to the user, never a choice."""
    return [name for name, layout in LAYOUTS.items() if layout.fits(torch_shape, keras_shape)]
