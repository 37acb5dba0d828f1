"""The tie groups of a result: how often each is used, and its state after each stage."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.result import ResultData, Tie
from .words import count, listed, one_line

STAGES = {"build": "built", "sync": "synced", "step": "each step", "save": "saved", "export": "exported"}
_ORDER = (
    "tied",
    "same",
    "once",
    "in parts or folded",
    "more than once",
    "untied by design",
    "apart",
    "joined with others",
    "not known",
    "lost",
)
"""States of a tie, the worst last."""


def shown_ties(result: ResultData) -> list[Tie]:
    """The tie groups to show, broken ones first; intact groups only where a weight is shared."""
    ties = [
        t for t in result.ties if t.status != "same" or len(t.torch) > 1 or len(t.keras) > 1 or _used_several_times(t)
    ]
    return sorted(ties, key=lambda tie: tie.status == "same")


def _used_several_times(tie: Tie) -> bool:
    return max(tie.uses.values(), default=0) > 1


def uses(tie: Tie) -> str:
    """How often a step uses it: `3`, or `3 and 2` where the sides differ; `-` where unknown."""
    counts = [str(tie.uses.get(side, "-")) for side in ("torch", "keras")]
    return counts[0] if counts[0] == counts[1] else listed(counts)


def stage_rows(result: ResultData) -> list[tuple[str, str, str]]:
    """A line per stage that ran: its name, and the state of the ties of each side after it."""
    rows: list[tuple[str, str, str]] = []
    for stage, name in STAGES.items():
        torch, keras = (_stage_cell(stage, side, shown_ties(result)) for side in ("torch", "keras"))
        if torch or keras:
            rows.append((name, torch or "-", keras or "-"))
    return rows


def _stage_cell(stage: str, side: str, ties: Sequence[Tie]) -> str:
    """The state of one side's ties after a stage: the worst for each route, and for how many groups it holds."""
    tables = [table for tie in ties if (table := tie.stages.get(stage, {}).get(side))]
    worst: dict[str, str] = {}
    for route in dict.fromkeys(route for table in tables for route in table):
        states = [table[route] for table in tables if route in table]
        state = max(states, key=_rank)
        share = f" ({states.count(state)} of {len(states)} groups)" if states.count(state) < len(states) else ""
        worst[route] = one_line(state) + share
    groups = {
        state: [route for route, worst_state in worst.items() if worst_state == state]
        for state in sorted(set(worst.values()), key=_rank)
    }
    return "; ".join(f"{state}{_where(stage, routes)}" for state, routes in groups.items())


def _rank(state: str) -> int:
    base = state.partition(" (")[0]
    return _ORDER.index(base) if base in _ORDER else len(_ORDER)


def _where(stage: str, routes: Sequence[str]) -> str:
    if stage in ("build", "sync"):
        return ""
    if stage == "step":
        return f" in {routes[0]}" if len(routes) == 1 else f" in {count(len(routes), 'step')}"
    return f": {', '.join(map(one_line, routes))}"


def status(tie: Tie) -> str:
    """The status of a group as text."""
    return one_line(tie.status.replace("_", " "))
