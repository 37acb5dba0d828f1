"""One side in different modes: eager, compiled, and the path that users ship must agree."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UserCodeError
from ...numerics.compare import rms
from ...numerics.judge import Frame, Item, compare_items
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import DROPOUT_RATES, StepRecord, total_of
from ...stepping.lockstep import ReferenceStep


def mode_checks(
    side: SideName, step: ReferenceStep, modes: Mapping[str, StepRecord | UserCodeError], precision: str
) -> list[Check]:
    """One side against itself, per mode: its total loss and every update, from one state on one batch.

    In float32 the question is whether a mode loses far more precision than the eager one, as in the numeric verdict.

    Args:
        side: the side that was run.
        step: in eager mode, with the twins that show its noise; in a float32 comparison as in `ReferenceStep`.
        modes: mode -> the same step in that mode, or the error that stopped it.
        precision: of the modes.
    """
    checks: list[Check] = []
    eager = step.record
    frame = Frame("modes", precision, eager.step, side, *step.sums)
    for mode, record in modes.items():
        name = f"{side} {mode}"
        if reason := _stopped(record) or _drops_out(side, eager, record):
            stopped = Item(name, side if side == "torch" else None, side if side == "keras" else None, None, None)
            checks.append(frame.check(stopped, Verdict.INCONCLUSIVE, reason))
            continue
        assert isinstance(record, StepRecord)
        loss = Item(
            f"{name}: total loss",
            "total" if side == "torch" else None,
            "total" if side == "keras" else None,
            total_of(eager.losses),
            total_of(record.losses),
            tuple(total_of(twin.losses) for twin in step.twins),
        )
        updates = [
            Item(
                f"{name}: {path}",
                path if side == "torch" else None,
                path if side == "keras" else None,
                eager.update(path),
                record.update(path),
                tuple(twin.update(path) for twin in step.twins),
                source=rms(weight),
            )
            for path, weight in eager.before.parameters.items()
        ]
        checks += compare_items(frame, [loss]) + compare_items(frame, updates)
    return checks


def _stopped(record: StepRecord | UserCodeError) -> str | None:
    if isinstance(record, StepRecord):
        return None
    return f"did not run: {record.what} {record.parts['cause'] or ''}".strip()[:600]


def _drops_out(side: SideName, eager: StepRecord, record: StepRecord | UserCodeError) -> str | None:
    """Why a compiled PyTorch model cannot be compared: dropout inside a PyTorch function cannot be switched off."""
    if isinstance(record, UserCodeError) or side != "torch":
        return None
    counts = [0 if (rates := run.settings.get(DROPOUT_RATES)) is None else rates.size for run in (eager, record)]
    if counts[0] == counts[1]:
        return None
    return (
        "the compiled model applies dropout that is switched off in the eager model: set these rates to 0 to compare it"
    )
