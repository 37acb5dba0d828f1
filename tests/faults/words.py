"""The functions that formulas are written in, by one name for both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np

SAME = ("exp", "log", "log1p", "sqrt", "abs", "tanh", "sigmoid", "sign", "maximum", "minimum", "where", "matmul")
SAME += ("square", "stack")
"""What both call alike."""


class TorchWords:
    """Functions of PyTorch; images have their channels first."""

    side = "torch"

    def __init__(self) -> None:
        import torch
        from torch.nn import functional as F

        self.t, self.F = torch, F
        for name in SAME:
            setattr(self, name, getattr(torch, name))
        for name in ("relu", "silu", "softplus", "one_hot"):
            setattr(self, name, getattr(F, name))
        self.gelu = lambda x, tanh=False: F.gelu(x, approximate="tanh" if tanh else "none")
        self.hard_sigmoid, self.stop, self.round = F.hardsigmoid, lambda x: x.detach(), torch.round
        self.logsumexp = lambda x, axis: torch.logsumexp(x, axis)
        self.hw = (2, 3)

    def sum(self, x: Any, axis: Any = None, keep: bool = False) -> Any:
        return x.sum() if axis is None else x.sum(axis, keepdim=keep)

    def mean(self, x: Any, axis: Any = None, keep: bool = False) -> Any:
        return x.mean() if axis is None else x.mean(axis, keepdim=keep)

    def max(self, x: Any, axis: int, keep: bool = False) -> Any:
        return x.amax(axis, keepdim=keep)

    def softmax(self, x: Any, axis: int) -> Any:
        return self.t.softmax(x, axis)

    def log_softmax(self, x: Any, axis: int = -1) -> Any:
        return self.t.log_softmax(x, axis)

    def cat(self, xs: Any, axis: int = -1) -> Any:
        return self.t.cat(xs, axis)

    def split(self, x: Any, n: int) -> Any:
        return x.chunk(n, -1)

    def turn(self, x: Any, *axes: int) -> Any:
        return x.permute(axes)

    def reshape(self, x: Any, *shape: int) -> Any:
        return x.reshape(shape)

    def roll(self, x: Any, by: int, axis: int) -> Any:
        return self.t.roll(x, by, axis)

    def flip(self, x: Any, axis: int) -> Any:
        return self.t.flip(x, [axis])

    def cumsum(self, x: Any, axis: int) -> Any:
        return self.t.cumsum(x, axis)

    def clip(self, x: Any, low: float, high: float) -> Any:
        return self.t.clamp(x, low, high)

    def const(self, array: Any, like: Any) -> Any:
        array = np.asarray(array)
        return self.t.tensor(array, dtype=like.dtype if array.dtype.kind == "f" else None)

    def pad_steps(self, x: Any, before: int, after: int) -> Any:
        return self.F.pad(x, (0, 0, before, after))

    def top(self, x: Any, k: int) -> Any:
        return x.topk(k, -1).values[..., -1:]

    def pad_image(self, x: Any, n: int, mode: str) -> Any:
        if mode == "symmetric":
            for axis in self.hw:
                first, last = x.narrow(axis, 0, n), x.narrow(axis, x.shape[axis] - n, n)
                x = self.t.cat([first.flip(axis), x, last.flip(axis)], axis)
            return x
        return self.F.pad(x, (n,) * 4, mode={"zeros": "constant", "edge": "replicate"}.get(mode, mode))

    def normalize(self, x: Any, eps: float) -> Any:
        return self.F.normalize(x, dim=-1, eps=eps)

    def norm(self, x: Any) -> Any:
        return self.t.linalg.vector_norm(x, dim=-1, keepdim=True)

    def cast(self, x: Any, like: Any) -> Any:
        return x.to(like.dtype)

    def max_pool(self, x: Any, k: int, stride: int, ceil: bool) -> Any:
        return self.F.max_pool2d(x, k, stride, ceil_mode=ceil)

    def blur(self, x: Any) -> Any:
        return self.F.avg_pool2d(x, 3, 1)

    def attend(self, q: Any, k: Any, v: Any, **options: Any) -> Any:
        """Of (B, T, H, D)."""
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        return self.F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)


class KerasWords:
    """Functions of Keras; images have their channels last."""

    side = "keras"

    def __init__(self) -> None:
        import keras
        from keras import ops

        self.k, self.o = keras, ops
        for name in (*SAME, "relu", "silu", "softplus", "round"):
            setattr(self, name, getattr(ops, name))
        self.hard_sigmoid, self.stop = ops.hard_sigmoid, ops.stop_gradient
        self.gelu = lambda x, tanh=False: ops.gelu(x, approximate=tanh)
        self.one_hot = lambda x, n: ops.one_hot(x, n)
        self.logsumexp = lambda x, axis: ops.logsumexp(x, axis=axis)
        self.hw = (1, 2)

    def sum(self, x: Any, axis: Any = None, keep: bool = False) -> Any:
        return self.o.sum(x, axis=axis, keepdims=keep)

    def mean(self, x: Any, axis: Any = None, keep: bool = False) -> Any:
        return self.o.mean(x, axis=axis, keepdims=keep)

    def max(self, x: Any, axis: int, keep: bool = False) -> Any:
        return self.o.max(x, axis=axis, keepdims=keep)

    def softmax(self, x: Any, axis: int) -> Any:
        return self.o.softmax(x, axis=axis)

    def log_softmax(self, x: Any, axis: int = -1) -> Any:
        return self.o.log_softmax(x, axis=axis)

    def cat(self, xs: Any, axis: int = -1) -> Any:
        return self.o.concatenate(xs, axis=axis)

    def split(self, x: Any, n: int) -> Any:
        return self.o.split(x, n, axis=-1)

    def turn(self, x: Any, *axes: int) -> Any:
        return self.o.transpose(x, axes)

    def reshape(self, x: Any, *shape: int) -> Any:
        return self.o.reshape(x, shape)

    def roll(self, x: Any, by: int, axis: int) -> Any:
        return self.o.roll(x, by, axis=axis)

    def flip(self, x: Any, axis: int) -> Any:
        return self.o.flip(x, axis=axis)

    def cumsum(self, x: Any, axis: int) -> Any:
        return self.o.cumsum(x, axis=axis)

    def clip(self, x: Any, low: float, high: float) -> Any:
        return self.o.clip(x, low, high)

    def const(self, array: Any, like: Any) -> Any:
        array = np.asarray(array)
        return self.o.convert_to_tensor(array, dtype=like.dtype if array.dtype.kind == "f" else None)

    def pad_steps(self, x: Any, before: int, after: int) -> Any:
        return self.o.pad(x, [[0, 0], [before, after], [0, 0]])

    def top(self, x: Any, k: int) -> Any:
        return self.o.top_k(x, k)[0][..., -1:]

    def pad_image(self, x: Any, n: int, mode: str) -> Any:
        widths = [[0, 0], [n, n], [n, n], [0, 0]]
        if mode == "edge":
            for axis in self.hw:
                first, last = self.o.split(x, [1, x.shape[axis] - 1], axis=axis)[::2]
                x = self.o.concatenate([*[first] * n, x, *[last] * n], axis=axis)
            return x
        return self.o.pad(x, widths, mode="constant" if mode == "zeros" else mode)

    def normalize(self, x: Any, eps: float) -> Any:
        return x / self.o.maximum(self.o.norm(x, axis=-1, keepdims=True), eps)

    def norm(self, x: Any) -> Any:
        return self.o.sqrt(self.o.sum(self.o.square(x), axis=-1, keepdims=True))

    def cast(self, x: Any, like: Any) -> Any:
        return self.o.cast(x, like.dtype)

    def max_pool(self, x: Any, k: int, stride: int, ceil: bool) -> Any:
        if ceil:
            spare = [(-(x.shape[a] - k)) % stride for a in self.hw]
            x = self.o.pad(x, [[0, 0], [0, spare[0]], [0, spare[1]], [0, 0]], constant_values=float("-inf"))
        return self.o.max_pool(x, k, stride)

    def blur(self, x: Any) -> Any:
        return self.o.average_pool(x, 3, 1)

    def attend(self, q: Any, k: Any, v: Any, **options: Any) -> Any:
        mask = options.pop("attn_mask", None)
        return self.k.ops.dot_product_attention(q, k, v, mask=mask, **options)
