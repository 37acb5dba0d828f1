"""What the passes of a training step computed and dropped, with and without those that are not differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from ..records.trace import Arrays
from .drawing import Noise, rates_setting
from .tree import outputs_record


@dataclass
class Drops:
    """The dropouts of one step.

    Attributes:
        rates: of those that would have dropped something, in order.
        noise: what each of them would have drawn; None where that is not known.
        differentiated: whether gradients were being recorded at each of them.
    """

    rates: list[float] = field(default_factory=list[float])
    noise: list[Noise | None] = field(default_factory=list["Noise | None"])
    differentiated: list[bool] = field(default_factory=list[bool])

    def add(self, rate: float, noise: Noise | None, differentiated: bool) -> None:
        """Add a dropout."""
        self.rates.append(float(rate))
        self.noise.append(noise)
        self.differentiated.append(differentiated)


Engaged = tuple[Arrays, Arrays] | None


def passes_record(
    calls: Sequence[Arrays], differentiated: Sequence[bool], drops: Drops, at_inference: Sequence[float], size: int
) -> tuple[Arrays, Arrays, Engaged]:
    """The outputs and settings of `StepRecord`, and its `engaged`.

    Args:
        calls: outputs of each call of the model.
        differentiated: whether gradients were being recorded in each of them.
        drops: the dropouts of the step.
        at_inference: rates that drop something in a pass in inference mode.
        size: examples in the batch.
    """
    outputs = outputs_record(calls, size)
    settings = rates_setting(drops.rates, at_inference, drops.noise)
    flags = [*differentiated, *drops.differentiated]
    if all(flags) or not any(differentiated):
        return outputs, settings, None
    rates, noise = list(compress(drops.rates, drops.differentiated)), list(compress(drops.noise, drops.differentiated))
    engaged = outputs_record(list(compress(calls, differentiated)), size), rates_setting(rates, at_inference, noise)
    return outputs, settings, engaged
