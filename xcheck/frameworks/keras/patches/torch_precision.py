"""Keras on PyTorch in float64: convolutions in the layout in memory for which PyTorch has every float64 kernel."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ....records.islands import Islands


@contextmanager
def torch_in_float64(islands: Islands) -> Generator[None]:
    """Keep images and kernels one after the other in memory until the block ends.

    Keras asks for `torch.channels_last`, which is faster and changes no number. PyTorch's float64 convolution on the
    CPU refuses the gradient of a kernel with one filter in that layout: "grad_weight must be contiguous".

    Args:
        islands: unused; the signature of its siblings.
    """
    from keras.src.backend.torch import nn

    name = "_maybe_convert_to_channels_last"
    original: Any = getattr(nn, name, None)
    if original is None:
        yield
        return
    setattr(nn, name, lambda tensor: tensor.contiguous())
    try:
        yield
    finally:
        setattr(nn, name, original)
