"""Arrays owned by xcheck: plain, in native byte order, sharing no memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def owned(value: Any) -> Any:
    """A copy of the arrays in a dict or a tuple; values that are not arrays stay as they are.

    A matrix, a memory map or another subclass of an array becomes a plain array, numbers get native byte order, and
    floats wider than float64, which no framework has, become float64.

    Args:
        value: one array, or a dict or tuple of them.
    """
    if isinstance(value, Mapping):
        return {key: owned(item) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, tuple):
        return tuple(map(owned, value))  # pyright: ignore
    if not isinstance(value, np.ndarray) or np.dtype(value.dtype).kind not in "fiubc":  # pyright: ignore
        return value  # pyright: ignore[reportUnknownVariableType]
    array: np.ndarray[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
    dtype = np.dtype(array.dtype).newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return np.array(array, dtype=dtype, order="C", subok=False)
