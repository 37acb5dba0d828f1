"""Keras without dropout: no two frameworks draw alike, so it is switched off, and its rates are what is compared."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from keras.src import backend


@contextmanager
def dropout_off(rates: list[float]) -> Generator[None]:
    """Dropout hands its input on until the block ends.

    Every layer of Keras that drops something, and `keras.random.dropout`, goes through one function of the backend.

    Args:
        rates: of the calls that would have dropped something, in order; filled in.
    """
    random: Any = backend.random
    original = random.dropout

    def dropout(inputs: Any, rate: float, *_: Any, **__: Any) -> Any:
        if rate > 0:
            rates.append(float(rate))
        return inputs

    random.dropout = dropout
    try:
        yield
    finally:
        random.dropout = original
