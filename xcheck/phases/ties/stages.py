"""The state of each tie, stage by stage: after the build, the sync, every step, saving and exporting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...records.result import Check, Tie, Verdict

SAME, LOST, JOINED, UNKNOWN = "same", "lost", "joined with others", "not known"
DESIGN = "untied by design"
ONCE, OFTEN, FOLDED = "once", "more than once", "in parts or folded"

_STEPS = {"sync": "sync", "update": "step"}
_FILES = {"persistence": "save", "export": "export"}
_AFTER = re.compile(r"(?P<side>torch|keras): tie of .+ after (?P<by>.+)", re.DOTALL)


def staged(ties: Sequence[Tie], checks: Sequence[Check]) -> tuple[Tie, ...]:
    """The tie groups with their states from the checks of a run, stage by stage.

    A group that a side builds untied has no tie that a file could lose.

    Args:
        ties: after the build.
        checks: of the run.
    """
    return tuple(_staged(tie, checks) for tie in ties)


def _staged(tie: Tie, checks: Sequence[Check]) -> Tie:
    stages = {stage: {side: dict(by) for side, by in sides.items()} for stage, sides in tie.stages.items()}
    for side in ("torch", "keras"):
        entries = list(_training_stages(tie, side, checks))
        entries += _file_stages(tie, side, checks) if tie.tied(side) else []
        for stage, by, word in entries:
            stages.setdefault(stage, {}).setdefault(side, {})[by] = word
    return replace(tie, stages=stages)


def _training_stages(tie: Tie, side: str, checks: Sequence[Check]) -> Iterator[tuple[str, str, str]]:
    """(stage, when, word) of the sync and of every step; without a check the tie is unchanged."""
    for phase, stage in _STEPS.items():
        of_phase = [c for c in checks if c.phase == phase and c.precision == "float64" and not c.at_ordinary]
        for step in dict.fromkeys(c.step for c in of_phase):
            broken = [
                c for c in of_phase if c.step == step and c.name.startswith("tie of ") and _concerns(c, tie, side)
            ]
            word = SAME if tie.tied(side) else "apart"
            if broken:
                word = JOINED if "made them one storage" in broken[0].detail else LOST
            yield stage, stage if step is None else f"step {step}", word


def _file_stages(tie: Tie, side: str, checks: Sequence[Check]) -> Iterator[tuple[str, str, str]]:
    """(stage, route, word) of every route of saving and of exporting."""
    for c in checks:
        match = _AFTER.fullmatch(c.name) if c.phase in _FILES else None
        if match is not None and match["side"] == side and _concerns(c, tie, side):
            yield _FILES[c.phase], match["by"], _saved(c) if c.phase == "persistence" else _exported(c)
        elif c.phase == "persistence" and c.verdict is Verdict.INCONCLUSIVE and c.detail.startswith("did not run"):
            name, _, route = c.name.partition(": ")
            if name == side:
                yield "save", route, UNKNOWN
        elif c.phase == "export" and c.detail.startswith("not exported") and _path(c, side):
            yield "export", c.name, UNKNOWN


def _saved(check: Check) -> str:
    if check.verdict is Verdict.EQUIVALENT:
        return DESIGN if check.detail.startswith("by design") else SAME
    return UNKNOWN if check.verdict is Verdict.INCONCLUSIVE else LOST


def _exported(check: Check) -> str:
    if check.detail.startswith("stored once"):
        return ONCE
    return OFTEN if re.match(r"\d+ copies", check.detail) else FOLDED


def _path(check: Check, side: str) -> str | None:
    return check.torch if side == "torch" else check.keras


def _concerns(check: Check, tie: Tie, side: str) -> bool:
    return bool(set((_path(check, side) or "").split(" = ")) & set(tie.paths(side)))
