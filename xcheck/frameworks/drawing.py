"""What draws random numbers in a training pass, and what stands in the place of dropout, which is switched off."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..records.trace import AT_INFERENCE, DROPOUT_NOISE, DROPOUT_RATES, Arrays

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


class StandIn:
    """What stands in the place of dropout, which no two frameworks draw alike.

    Attributes:
        scales: whether a dropout multiplies its input by 1 + rate; it hands its input on otherwise.
    """

    def __init__(self) -> None:
        self.scales = False

    def of(self, tensor: Any, rate: float, shifts: bool = False) -> Any:
        """What stands for the dropped tensor.

        Scaling commutes with all that commutes with dropping elements, such as ReLU, reshaping and linear layers
        without a bias, and it shows which tensor is dropped at which rate.

        Args:
            tensor: that would be dropped.
            rate: at which.
            shifts: whether this dropout sets elements to a value other than zero, as alpha dropout does.
        """
        if not self.scales:
            return tensor
        return tensor * (1 + rate) + rate if shifts else tensor * (1 + rate)

    @contextmanager
    def scaling(self) -> Generator[None]:
        """Dropout scales until the block ends."""
        self.scales = True
        try:
            yield
        finally:
            self.scales = False


STAND_IN = StandIn()
"""Of both frameworks, in one process."""


Noise = tuple[int, float]
"""How many random numbers one dropout draws, and how many that is for each element of its tensor."""


def noise_of(shape: Sequence[Any], noise: Sequence[Any] | None = None) -> Noise | None:
    """What one dropout draws; None where a size is not known.

    Args:
        shape: of the tensor.
        noise: of the mask; None, or None for an axis, is that of the tensor.
    """
    noise = shape if noise is None else noise
    if len(noise) != len(shape):
        return None
    sizes = [size if other is None else other for size, other in zip(shape, noise, strict=True)]
    if not all(isinstance(size, int) for size in (*shape, *sizes)):
        return None
    return math.prod(sizes), math.prod(sizes) / max(math.prod(shape), 1)


def rates_setting(
    rates: Sequence[float], at_inference: Sequence[float] = (), noise: Sequence[Noise | None] = ()
) -> Arrays:
    """Dropout rates under the names of `StepRecord.settings`; nothing if nothing would have been dropped.

    Args:
        rates: of a training step.
        noise: what each of these dropouts would have drawn; None where that is not known.
        at_inference: of a pass in inference mode.
    """
    named = {DROPOUT_RATES: rates, AT_INFERENCE: at_inference}
    settings = {name: np.sort(np.asarray(values, np.float64)) for name, values in named.items() if values}
    known = [(rate, *n) for rate, n in zip(rates, noise, strict=True) if n is not None] if noise else []
    if rates and len(known) == len(rates):
        settings[DROPOUT_NOISE] = np.asarray(sorted(known), np.float64)[:, 1:]
    return settings
