"""What draws random numbers in a training pass: named by the layer it is drawn in, and shown by drawing otherwise."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..records.trace import Arrays

ELSEWHERE = "random numbers from outside of the framework"
"""The name of what shows in the outputs and is not seen to be drawn."""

SEEDS = (0, 1)
"""A training pass is made from each; what differs then was drawn."""


def drawn_by(kind: type, function: str, name_of: Callable[[Any], str | None]) -> str:
    """ "layer: function" of the innermost layer whose method is running; the function alone outside of every layer.

    Args:
        kind: class of the framework's layers.
        function: that draws.
        name_of: path of a layer.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        layer = frame.f_locals.get("self")
        if isinstance(layer, kind):
            name = name_of(layer)
            return f"{name}: {function}" if name else function
        frame = frame.f_back
    return function


def shown(passes: list[tuple[Arrays, list[str]]]) -> tuple[str, ...]:
    """What draws at random, each named once; nothing where the outputs of all passes are the same.

    Args:
        passes: (outputs, what was seen to draw) of training passes from one state, each from a seed of its own.
    """
    first, *others = (outputs for outputs, _ in passes)
    alike = all(np.array_equal(a, o[name], equal_nan=a.dtype.kind == "f") for o in others for name, a in first.items())
    return () if alike else tuple(dict.fromkeys(name for _, names in passes for name in names)) or (ELSEWHERE,)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Python and NumPy draw from a seed until the block ends; then they go on from where they were.

    Args:
        seed: of both.
    """
    python, state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(state)
