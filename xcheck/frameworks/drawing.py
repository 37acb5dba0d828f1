"""Functions that draw random numbers in a training pass, named by their layer and detected with different seeds."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..records.trace import Arrays

ELSEWHERE = "random numbers from outside of the framework"
"""The name for randomness that shows in the outputs but is not observed."""

SEEDS = (0, 1)
"""Seeds of the training passes; values that differ between them are random."""


def drawn_by(kind: type, function: str, name_of: Callable[[Any], str | None]) -> str:
    """The innermost running layer and the function, as "layer: function"; only the function outside of every layer.

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
    """Names of all random functions; empty if the outputs of all passes are the same.

    Args:
        passes: (outputs, observed random functions) of training passes from one state with different seeds.
    """
    first, *others = (outputs for outputs, _ in passes)
    equal = all(
        np.array_equal(a, other[name], equal_nan=a.dtype.kind == "f") for other in others for name, a in first.items()
    )
    return () if equal else tuple(dict.fromkeys(name for _, names in passes for name in names)) or (ELSEWHERE,)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed Python and NumPy until the block ends; then restore their former states.

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
