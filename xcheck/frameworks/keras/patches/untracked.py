"""A method of a model, replaced for a while, without Keras tracking it as state of the model."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced_method(model: Any, name: str, method: Callable[..., Any]) -> Generator[None]:
    """Until the block ends, a model or an optimizer has a different method.

    Args:
        model: of Keras.
        name: of the method.
        method: called without the model.
    """
    own = vars(model).get(name)
    object.__setattr__(model, name, method)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(model, name)
        else:
            object.__setattr__(model, name, own)
