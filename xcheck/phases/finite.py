"""The comparisons that remain where a step overflows on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..records.result import Check, Verdict
from ..records.trace import Array, StepRecord, total_of
from ..stepping.lockstep import StepPair

JUDGED = {"float64": 2, "float32": 1}
"""Steps that must have been judged before a run may end with its numbers: the second starts from slots that are not
zero, which a run in float32 need not show again."""

_AFTER_THE_LOSS = ("gradient", "update", "state")


def within_range(steps: Iterable[StepPair], precision: str, notes: list[str]) -> Iterator[StepPair]:
    """The steps of a run until its training overflows on both sides; that is no difference of the port.

    Args:
        steps: of both sides.
        precision: of the run.
        notes: receives the step at which the run ended.
    """
    for step in steps:
        if step.number > JUDGED[precision] and _overflows(*_in_precision(step, precision)):
            notes.append(
                f"the training overflows in {precision} at step {step.number}, on both sides: "
                f"the {step.number - 1} steps before it were judged; a smaller learning rate shows more of them"
            )
            return
        yield step
        del step  # before the next one is made


def _in_precision(step: StepPair, precision: str) -> tuple[StepRecord, StepRecord]:
    """Both sides in the precision of the run."""
    numeric = precision == "float32" and step.reference.twins
    return (step.reference.twins[0] if numeric else step.reference.record), step.follower


def _overflows(reference: StepRecord, follower: StepRecord) -> bool:
    """Whether the first non-finite numbers of a step, in dataflow order, are infinite on both sides."""
    for arrays_of in _STAGES:
        nonfinite = [_nonfinite(arrays_of(record)) for record in (reference, follower)]
        if any(nonfinite):
            kinds = nonfinite[0] | nonfinite[1]
            return all(nonfinite) and "inf" in kinds and (arrays_of is _gradients or "nan" not in kinds)
    return False


def _outputs(record: StepRecord) -> Iterable[Array | None]:
    return record.outputs.values()


def _losses(record: StepRecord) -> Iterable[Array | None]:
    return record.losses.values()


def _gradients(record: StepRecord) -> Iterable[Array | None]:
    return (*record.gradients.values(), *record.after.parameters.values())


_STAGES = (_outputs, _losses, _gradients)


def _nonfinite(arrays: Iterable[Array | None]) -> set[str]:
    """The kinds of non-finite numbers in the arrays: "inf", "nan"."""
    floats = [a for a in arrays if a is not None and a.dtype.kind == "f"]
    return {kind for a in floats for kind, test in (("inf", np.isinf), ("nan", np.isnan)) if test(a).any()}


def without_nonfinite(checks: Sequence[Check], step: StepPair, precision: str) -> list[Check]:
    """The checks of a step; those that follow from non-finite numbers on both sides become undecided.

    From a NaN a library may compute a zero or a NaN; neither is wrong.

    Args:
        checks: of all phases of the step.
        step: of the checks.
        precision: of the run.
    """
    sides = _in_precision(step, precision)
    loss = all(_nonfinite([total_of(side.losses)]) for side in sides)
    names = [name for name, g in sides[0].gradients.items() if g is not None and _nonfinite([g])]
    gradients = bool(names) and any(_nonfinite([g]) for g in sides[1].gradients.values())
    if not loss and not gradients:
        return list(checks)
    origin = "a loss that is" if loss else "gradients that are"
    detail = f"not judged: it follows from {origin} not finite on either side"

    def judged(check: Check) -> Check:
        failed = check.phase in _AFTER_THE_LOSS and check.verdict in (Verdict.DIFFERENT, Verdict.NUMERIC)
        if not failed or (not loss and check.error is not None):
            return check
        return replace(check, verdict=Verdict.INCONCLUSIVE, detail="; ".join(filter(None, (detail, check.detail))))

    return [judged(check) for check in checks]
