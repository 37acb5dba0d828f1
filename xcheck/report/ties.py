"""The tie groups of a result: how often each is used, and what became of them stage by stage."""

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
"""What can be said of a tie, the worst last."""


def shown_ties(result: ResultData) -> list[Tie]:
    """The tie groups worth a line, broken ones first; none where no weight is shared and all is well."""
    ties = [t for t in result.ties if t.status != "same" or len(t.torch) > 1 or len(t.keras) > 1 or _many(t)]
    return sorted(ties, key=lambda tie: tie.status == "same")


def _many(tie: Tie) -> bool:
    return max(tie.uses.values(), default=0) > 1


def uses(tie: Tie) -> str:
    """How often a step uses it, `3`, or `3 and 2` where the sides differ in that; `-` where neither told."""
    told = [str(tie.uses.get(side, "-")) for side in ("torch", "keras")]
    return told[0] if told[0] == told[1] else listed(told)


def stage_rows(result: ResultData) -> list[tuple[str, str, str]]:
    """A line per stage that ran: its name, and what it left of the ties of either side."""
    rows: list[tuple[str, str, str]] = []
    for stage, name in STAGES.items():
        torch, keras = (_told(stage, side, shown_ties(result)) for side in ("torch", "keras"))
        if torch or keras:
            rows.append((name, torch or "-", keras or "-"))
    return rows


def _told(stage: str, side: str, ties: Sequence[Tie]) -> str:
    """What a stage left of the ties of a side: of each route the worst, and of how many groups it is true."""
    tables = [table for tie in ties if (table := tie.stages.get(stage, {}).get(side))]
    worst: dict[str, str] = {}
    for by in dict.fromkeys(by for table in tables for by in table):
        words = [table[by] for table in tables if by in table]
        word = max(words, key=_rank)
        some = f" ({words.count(word)} of {len(words)} groups)" if words.count(word) < len(words) else ""
        worst[by] = one_line(word) + some
    groups = {word: [by for by, w in worst.items() if w == word] for word in sorted(set(worst.values()), key=_rank)}
    return "; ".join(f"{word}{_where(stage, found)}" for word, found in groups.items())


def _rank(word: str) -> int:
    known = word.partition(" (")[0]
    return _ORDER.index(known) if known in _ORDER else len(_ORDER)


def _where(stage: str, by: Sequence[str]) -> str:
    if stage in ("build", "sync"):
        return ""
    if stage == "step":
        return f" in {by[0]}" if len(by) == 1 else f" in {count(len(by), 'step')}"
    return f": {', '.join(map(one_line, by))}"


def status(tie: Tie) -> str:
    """The status of a group as it is written."""
    return one_line(tie.status.replace("_", " "))
