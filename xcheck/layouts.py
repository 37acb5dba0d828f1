"""Named, invertible transforms between the way PyTorch and the way Keras lay out a weight.

Which transform belongs to a parameter follows from the kinds of the two layers and the role of the parameter in
them, never from its shape alone: a square matrix fits transposed and untransposed, and only one of them is right.
For layers this table does not know, the weight map names the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .trace import Array

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A transform and its inverse.

    Attributes:
        name: what a weight map calls it.
        summary: PyTorch shape -> Keras shape.
        forward: (PyTorch array, Keras shape) -> Keras array. Raises ValueError where it does not fit.
        inverse: (Keras array, PyTorch shape) -> PyTorch array, likewise.
    """

    name: str
    summary: str
    forward: Callable[[Array, Shape], Array]
    inverse: Callable[[Array, Shape], Array]

    def fits(self, torch_shape: Shape, keras_shape: Shape) -> bool:
        """Whether the transform turns the one shape into the other, and back."""
        try:
            there = self.forward(np.zeros(torch_shape, np.int8), keras_shape)
            back = self.inverse(there, torch_shape)
        except (ValueError, IndexError):
            return False
        return there.shape == keras_shape and back.shape == torch_shape


def _permute(name: str, summary: str, ndims: tuple[int, ...], axes: Callable[[int], tuple[int, ...]]) -> Layout:
    def forward(array: Array, _: Shape) -> Array:
        if array.ndim not in ndims:
            raise ValueError(f"{name} does not take {array.ndim} axes")
        return array.transpose(axes(array.ndim))

    def inverse(array: Array, _: Shape) -> Array:
        if array.ndim not in ndims:
            raise ValueError(f"{name} does not give {array.ndim} axes")
        return array.transpose(np.argsort(axes(array.ndim)))

    return Layout(name, summary, forward, inverse)


def _same(array: Array, _: Shape) -> Array:
    return array


def _spatial_first(ndim: int) -> tuple[int, ...]:
    """(O, I, *k) -> (*k, I, O), and (I, O, *k) -> (*k, O, I) for the transposed convolutions."""
    return (*range(2, ndim), 1, 0)


def _depthwise_forward(array: Array, keras_shape: Shape) -> Array:
    channels, multiplier = keras_shape[-2:]
    if array.shape[:2] != (channels * multiplier, 1):
        raise ValueError(f"depthwise needs ({channels * multiplier}, 1, ...), got {array.shape}")
    return np.moveaxis(array.reshape(channels, multiplier, *array.shape[2:]), (0, 1), (-2, -1))


def _depthwise_inverse(array: Array, torch_shape: Shape) -> Array:
    return np.moveaxis(array, (-2, -1), (0, 1)).reshape(torch_shape)


def _gates(order: tuple[int, ...], transpose: bool) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Reorder equal blocks of the last Keras axis; `order[i]` is the PyTorch block that Keras has at i."""

    def permuted(array: Array, blocks: tuple[int, ...]) -> Array:
        parts = np.split(array, len(blocks), axis=-1)
        return np.concatenate([parts[b] for b in blocks], axis=-1)

    def checked(array: Array) -> Array:
        if array.ndim != 1 + transpose:
            raise ValueError(f"gates are laid out along {1 + transpose} axes, not {array.ndim}")
        return array

    def forward(array: Array, _: Shape) -> Array:
        return permuted(checked(array).T if transpose else checked(array), order)

    def inverse(array: Array, _: Shape) -> Array:
        checked(array)
        back = permuted(array, tuple(int(i) for i in np.argsort(order)))
        return back.T if transpose else back

    return forward, inverse


def _heads_forward(array: Array, keras_shape: Shape) -> Array:
    """(heads * size, inputs) -> (inputs, heads, size)."""
    if array.ndim != 2 or len(keras_shape) != 3:
        raise ValueError("split_heads takes a matrix to three axes")
    return array.T.reshape(array.shape[1], *keras_shape[1:])


def _heads_inverse(array: Array, torch_shape: Shape) -> Array:
    return array.reshape(array.shape[0], -1).T.reshape(torch_shape)


def _merge_forward(array: Array, keras_shape: Shape) -> Array:
    """(outputs, heads * size) -> (heads, size, outputs)."""
    if array.ndim != 2 or len(keras_shape) != 3:
        raise ValueError("merge_heads takes a matrix to three axes")
    return array.T.reshape(*keras_shape[:2], array.shape[0])


def _merge_inverse(array: Array, torch_shape: Shape) -> Array:
    return array.reshape(-1, array.shape[-1]).T.reshape(torch_shape)


def _head_bias_forward(array: Array, keras_shape: Shape) -> Array:
    if array.ndim != 1 or len(keras_shape) != 2:
        raise ValueError("head_bias takes a vector to two axes")
    return array.reshape(keras_shape)


def _head_bias_inverse(array: Array, torch_shape: Shape) -> Array:
    if array.ndim != 2 or len(torch_shape) != 1:
        raise ValueError("head_bias takes two axes to a vector")
    return array.reshape(torch_shape)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("identity", "any shape, unchanged", _same, _same),
        _permute("transpose", "(out, in) -> (in, out)", (2,), lambda _: (1, 0)),
        _permute("conv", "(out, in, *k) -> (*k, in, out)", (3, 4, 5), _spatial_first),
        _permute("conv_transpose", "(in, out, *k) -> (*k, out, in)", (3, 4, 5), _spatial_first),
        Layout("depthwise", "(c * m, 1, *k) -> (*k, c, m)", _depthwise_forward, _depthwise_inverse),
        Layout("gru_kernel", "(3h, in), gates r z n -> (in, 3h), gates z r h", *_gates((1, 0, 2), True)),
        Layout("gru_bias", "(3h,), gates r z n -> (3h,), gates z r h", *_gates((1, 0, 2), False)),
        Layout("split_heads", "(heads * d, in) -> (in, heads, d)", _heads_forward, _heads_inverse),
        Layout("merge_heads", "(out, heads * d) -> (heads, d, out)", _merge_forward, _merge_inverse),
        Layout("head_bias", "(heads * d,) -> (heads, d)", _head_bias_forward, _head_bias_inverse),
    )
}
"""Every layout by name. A square `transpose` differs from `identity` in its values only."""

_AFFINE = {"weight": ("gamma", "identity"), "bias": ("beta", "identity")}
_RUNNING = {"running_mean": ("moving_mean", "identity"), "running_var": ("moving_variance", "identity")}
_BIAS = {"bias": ("bias", "identity")}
_LSTM = {"weight_ih": ("kernel", "transpose"), "weight_hh": ("recurrent_kernel", "transpose")}
_GRU = {"weight_ih": ("kernel", "gru_kernel"), "weight_hh": ("recurrent_kernel", "gru_kernel")}
GATED = ("GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell")
"""Layer kinds whose vectors are made of gates, in another order in each framework."""


def _with_layer_suffix(roles: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """nn.LSTM calls the weights of its first layer weight_ih_l0, nn.LSTMCell weight_ih."""
    return roles | {f"{role}_l0": there for role, there in roles.items()}


KINDS: dict[tuple[str, str], dict[str, tuple[str, str]]] = {
    ("Linear", "Dense"): {"weight": ("kernel", "transpose"), **_BIAS},
    ("Embedding", "Embedding"): {"weight": ("embeddings", "identity")},
    ("Embedding", "ReversibleEmbedding"): {"weight": ("embeddings", "identity")},
    ("Linear", "ReversibleEmbedding"): {"weight": ("embeddings", "identity")},
    ("LayerNorm", "LayerNormalization"): _AFFINE,
    ("GroupNorm", "GroupNormalization"): _AFFINE,
    ("RMSNorm", "RMSNormalization"): {"weight": ("scale", "identity")},
    ("PReLU", "PReLU"): {"weight": ("alpha", "identity")},
    ("LSTM", "LSTMCell"): _with_layer_suffix(_LSTM),
    ("LSTMCell", "LSTMCell"): _LSTM,
    ("GRU", "GRUCell"): _with_layer_suffix(_GRU),
    ("GRUCell", "GRUCell"): _GRU,
    **{(f"BatchNorm{n}d", "BatchNormalization"): _AFFINE | _RUNNING for n in (1, 2, 3)},
    **{(f"Conv{n}d", f"Conv{n}D"): {"weight": ("kernel", "conv"), **_BIAS} for n in (1, 2, 3)},
    **{(f"Conv{n}d", f"DepthwiseConv{n}D"): {"weight": ("kernel", "depthwise"), **_BIAS} for n in (1, 2)},
    **{
        (f"ConvTranspose{n}d", f"Conv{n}DTranspose"): {"weight": ("kernel", "conv_transpose"), **_BIAS}
        for n in (1, 2, 3)
    },
}
"""(PyTorch layer kind, Keras layer kind) -> PyTorch role -> (Keras role, layout name)."""


def between(torch_kind: str, torch_role: str, keras_kind: str, keras_role: str) -> Layout | None:
    """The layout that the two layer kinds promise for a parameter; None if the table does not know the pair.

    Args:
        torch_kind, keras_kind: class names of the layers that own the parameter, such as "Conv2d", "Conv2D".
        torch_role, keras_role: its name in the layer, such as "weight", "kernel".
    """
    there = KINDS.get((torch_kind, keras_kind), {}).get(torch_role)
    if there is None or there[0] != keras_role:
        return None
    return LAYOUTS[there[1]]


def fitting(torch_shape: Shape, keras_shape: Shape) -> list[str]:
    """Names of all layouts whose shapes fit: candidates to tell the user about, never a choice."""
    return [name for name, layout in LAYOUTS.items() if layout.fits(torch_shape, keras_shape)]
