"""Checks before the steps: parameters and buffers of both sides, their ties, and the synced values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...layouts.parts import rows_left
from ...matching import Match, MatchPlan
from ...numerics.compare import measure
from ...numerics.judge import Frame, Item
from ...records.inventory import Inventory
from ...records.result import Check, Tie, Verdict
from ...records.sides import SideName
from ...records.trace import State
from ..ties.groups import broken_ties


def inventory_checks(
    plan: MatchPlan,
    torch: Inventory,
    keras: Inventory,
    ties: Sequence[Tie],
    promised: Sequence[Sequence[str]] = (),
) -> list[Check]:
    """The parameters of both sides, and their ties.

    A parameter without a counterpart is INCONCLUSIVE, a tie that one side lacks is DIFFERENT.

    Raises:
        MatchError: a promised tie names unknown paths.
    """
    checks: list[Check] = []

    def add(name: str, torch_path: str | None, keras_path: str | None, verdict: Verdict, detail: str = "") -> None:
        checks.append(Check("inventory", None, None, name, torch_path, keras_path, verdict, detail=detail))

    for match in plan.parameters:
        torch_trained = bool(match.torch_piece.trained)
        keras_trained = any(m.keras_piece.trained for m in plan.copies_of(match) or (match,))
        words = {True: "trainable", False: "frozen"}
        add(
            match.name(plan.reference),
            match.name("torch"),
            match.name("keras"),
            Verdict.EQUIVALENT if torch_trained == keras_trained else Verdict.DIFFERENT,
            _conversion(match)
            if torch_trained == keras_trained
            else f"torch: {words[torch_trained]}, keras: {words[keras_trained]}",
        )
    partly = {path for m in plan.matches for p in (m.torch_piece, m.keras_piece) for path in p.paths}
    for path in plan.unmatched_torch:
        add(path, path, None, Verdict.INCONCLUSIVE, _unmatched_detail(plan, path, "keras", partly))
    for path in plan.unmatched_keras:
        add(path, None, path, Verdict.INCONCLUSIVE, _unmatched_detail(plan, path, "torch", partly))
    for doubt in plan.doubts:
        name = doubt.torch if plan.reference == "torch" else doubt.keras
        add(f"match of {name}", doubt.torch, doubt.keras, Verdict.INCONCLUSIVE, doubt.detail)
    if not checks:
        add("parameters", None, None, Verdict.INCONCLUSIVE, "neither side has a parameter that is compared")
    for tie in ties:
        name = (tie.torch if plan.reference == "torch" else tie.keras)[0]
        detail = {
            "same": "tied on both sides",
            "missing": f"one storage on the {plan.reference} side, several on the {plan.follower} side",
            "extra": f"one storage on the {plan.follower} side, several on the {plan.reference} side",
            "equal_but_untied": f"one storage on the {plan.reference} side; on the {plan.follower} side several that "
            "start from equal values",
            "duplicated": "declared as copies; judged by effect",
        }[tie.status]
        verdict = Verdict.EQUIVALENT if tie.status in ("same", "duplicated") else Verdict.DIFFERENT
        add(f"tie of {name}", " = ".join(tie.torch), " = ".join(tie.keras), verdict, detail)
    for side, group in broken_ties(promised, torch, keras):
        paths = " = ".join(group)
        add(
            f"promised tie of {group[0]}",
            paths if side == "torch" else None,
            paths if side == "keras" else None,
            Verdict.DIFFERENT,
            f"Pair.ties promises one storage, the {side} side has several",
        )
    return checks


def _conversion(match: Match) -> str:
    """The conversion of one side's piece to the other's, in weight-map terms, and the evidence for the match."""
    how = f"{match.layout.name} + {match.offset:g}" if match.offset else match.layout.name
    return f"{how}, {match.evidence}" if match.evidence else how


def _unmatched_detail(plan: MatchPlan, path: str, other: SideName, partly: set[str]) -> str:
    lack = "a part of it has no counterpart" if path in partly else "no counterpart"
    if path in plan.frozen:
        return (
            f"{lack} on the {other} side; it is not trained, and each side keeps its initial value: "
            f'weight_map={{"{path}": xcheck.waive("why")}}'
        )
    if path not in plan.idle:
        use = f"; {plan.doings[path]};" if path in plan.doings else ":"
        entry = f'"{path}": "PATH"' if other == "keras" else f'"PATH": "{path}"'
        return (
            f"{lack} on the {other} side{use} weight_map={{{entry}}} with its Keras path, or, to leave it out, "
            f'{{"{path}": xcheck.waive("why")}}'
        )
    detail = f"{lack} on the {other} side; no compared output depends on it: "
    if path not in partly:
        return f'{detail}weight_map={{"{path}": xcheck.waive("why")}}, or also compare the output that uses it'
    pieces = [m.piece("keras" if other == "torch" else "torch") for m in plan.parameters]
    matched = [piece for piece in pieces if path in piece.paths]
    return (
        f'{detail}weight_map={{"{path}{rows_left([p.part for p in matched], matched[0].whole)}": xcheck.waive("why")}}'
    )


def sync_checks(plan: MatchPlan, precision: str, wanted: State, read_back: State) -> list[Check]:
    """Whether the other side now has exactly the reference's values; bit for bit, no allowance.

    Args:
        plan: of the run.
        precision: of the run.
        wanted: the reference's state in the other side's layout.
        read_back: the state that the other side returns.
    """
    checks: list[Check] = []
    frame = Frame("sync", precision, None, plan.reference)
    sent_values = wanted.values()
    synced = [(m, path) for m in plan.matches for path in m.piece(plan.follower).paths if path in sent_values]
    for match, path in synced:
        part = match.piece(plan.follower).part
        sent, received = part.select(sent_values[path]), read_back.value(path)
        received = part.select(received) if received.shape == sent_values[path].shape else received
        item = Item(match.name(plan.reference), match.name("torch"), match.name("keras"), sent, received)
        if sent.shape != received.shape:
            checks.append(frame.check(item, Verdict.DIFFERENT, f"shape {sent.shape} sent, {received.shape} read back"))
        elif np.array_equal(sent, received, equal_nan=True):
            checks.append(replace(frame.check(item, Verdict.EQUIVALENT), error=0.0, allowed=0.0))
        else:
            checks.append(
                replace(
                    frame.check(item, Verdict.DIFFERENT, "set from the reference, but reads back a different value"),
                    error=measure(sent, received).element,
                    allowed=0.0,
                    metric="element",
                    worst_index=measure(sent, received).worst_index,
                )
            )
    return checks
