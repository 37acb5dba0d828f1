"""What is left to compare where a step leaves the finite numbers on both sides alike."""

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

_BEHIND_THE_LOSS = ("gradient", "update", "state")


def within_range(steps: Iterable[StepPair], precision: str, notes: list[str]) -> Iterator[StepPair]:
    """The steps of a run until its training overflows on both sides, which says nothing about the port.

    Args:
        steps: of both sides.
        precision: of the run.
        notes: receives where it ended.
    """
    for step in steps:
        if step.number > JUDGED[precision] and _overflows(*_sides(step, precision)):
            notes.append(
                f"the training overflows in {precision} at step {step.number}, on both sides: "
                f"the {step.number - 1} steps before it were judged; a smaller learning rate shows more of them"
            )
            return
        yield step
        del step  # before the next one is made


def _sides(step: StepPair, precision: str) -> tuple[StepRecord, StepRecord]:
    """Both sides in the precision of the run."""
    numeric = precision == "float32" and step.reference.twins
    return (step.reference.twins[0] if numeric else step.reference.record), step.follower


def _overflows(reference: StepRecord, follower: StepRecord) -> bool:
    """Whether the first numbers of a step that are not finite, in dataflow order, are infinite on both sides."""
    for kind in _kinds:
        found = [_unfinite(kind(record)) for record in (reference, follower)]
        if any(found):
            seen = found[0] | found[1]
            return all(found) and "inf" in seen and (kind is _gradients or "nan" not in seen)
    return False


def _outputs(record: StepRecord) -> Iterable[Array | None]:
    return record.outputs.values()


def _losses(record: StepRecord) -> Iterable[Array | None]:
    return record.losses.values()


def _gradients(record: StepRecord) -> Iterable[Array | None]:
    return (*record.gradients.values(), *record.after.parameters.values())


_kinds = (_outputs, _losses, _gradients)


def _unfinite(arrays: Iterable[Array | None]) -> set[str]:
    """Which numbers there are that are not finite: "inf", "nan"."""
    floats = [a for a in arrays if a is not None and a.dtype.kind == "f"]
    return {word for a in floats for word, of in (("inf", np.isinf), ("nan", np.isnan)) if of(a).any()}


def settled(checks: Sequence[Check], step: StepPair, precision: str) -> list[Check]:
    """The checks of a step, with those undecided that follow from numbers that are not finite on either side.

    A library may give a zero or a NaN to what lies behind a NaN; neither is wrong.

    Args:
        checks: of all phases of the step.
        step: that they are of.
        precision: of the run.
    """
    sides = _sides(step, precision)
    loss = all(_unfinite([total_of(side.losses)]) for side in sides)
    names = [name for name, g in sides[0].gradients.items() if g is not None and _unfinite([g])]
    gradients = bool(names) and any(_unfinite([g]) for g in sides[1].gradients.values())
    if not loss and not gradients:
        return list(checks)
    what = "a loss that is" if loss else "gradients that are"
    told = f"not judged: it follows from {what} not finite on either side"

    def of(check: Check) -> Check:
        failed = check.phase in _BEHIND_THE_LOSS and check.verdict in (Verdict.DIFFERENT, Verdict.NUMERIC)
        if not failed or (not loss and check.error is not None):
            return check
        return replace(check, verdict=Verdict.INCONCLUSIVE, detail="; ".join(filter(None, (told, check.detail))))

    return [of(check) for check in checks]
