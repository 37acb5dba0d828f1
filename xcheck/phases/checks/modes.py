"""The same side run in another way: eager, compiled, and the path that users ship must agree."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UserCodeError
from ...numerics.compare import rms
from ...numerics.judge import Frame, Item, compare_items
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import StepRecord, total_of
from ...stepping.lockstep import ReferenceStep


def mode_checks(
    side: SideName, step: ReferenceStep, modes: Mapping[str, StepRecord | UserCodeError], precision: str
) -> list[Check]:
    """One side against itself, per mode: its total loss and every update, from one state on one batch.

    In float32 the question is whether a mode loses far more precision than the eager one, as in the numeric verdict.

    Args:
        side: that was run.
        step: in eager mode, with the twins that show its noise; in a float32 comparison as `ReferenceStep` has it.
        modes: mode -> the same step in that mode, or what kept it from running.
        precision: of the modes.
    """
    checks: list[Check] = []
    eager = step.record
    frame = Frame("modes", precision, eager.step, side, *step.sums)
    for mode, record in modes.items():
        name = f"{side} {mode}"
        if isinstance(record, UserCodeError):
            stopped = Item(name, side if side == "torch" else None, side if side == "keras" else None, None, None)
            why = f"{record.what} {record.parts['cause'] or ''}".strip()
            checks.append(frame.check(stopped, Verdict.INCONCLUSIVE, f"did not run: {why}"[:600]))
            continue
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
