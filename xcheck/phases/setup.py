"""Before the steps: what exists on both sides, what is tied, and whether the values arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..compare import measure
from ..inventory import Inventory
from ..judge import Frame, Item
from ..matching import MatchPlan
from ..result import Check, Tie, Verdict
from ..ties import broken_ties
from ..trace import State


def inventory_checks(
    plan: MatchPlan,
    torch: Inventory,
    keras: Inventory,
    ties: Sequence[Tie],
    promised: Sequence[Sequence[str]] = (),
) -> list[Check]:
    """What exists on both sides, and which of it is one storage.

    A parameter without a counterpart is INCONCLUSIVE, a tie that one side lacks is DIFFERENT.

    Raises:
        MatchError: a promised tie names unknown paths.
    """
    checks: list[Check] = []

    def add(name: str, torch_path: str | None, keras_path: str | None, verdict: Verdict, detail: str = "") -> None:
        checks.append(Check("inventory", None, None, name, torch_path, keras_path, verdict, detail=detail))

    for match in plan.parameters:
        left, right = torch.find(match.torch), keras.find(match.keras)
        assert left is not None
        assert right is not None
        same = left.trainable == right.trainable
        trained = {True: "trainable", False: "frozen"}
        add(
            match.path(plan.reference),
            match.torch,
            match.keras,
            Verdict.EQUIVALENT if same else Verdict.DIFFERENT,
            match.layout.name if same else f"torch: {trained[left.trainable]}, keras: {trained[right.trainable]}",
        )
    for path in plan.unmatched_torch:
        add(
            path,
            path,
            None,
            Verdict.INCONCLUSIVE,
            "no counterpart on the keras side: add it to weight_map or waive it",
        )
    for path in plan.unmatched_keras:
        add(
            path,
            None,
            path,
            Verdict.INCONCLUSIVE,
            "no counterpart on the torch side: add it to weight_map or waive it",
        )
    if not checks:
        add("parameters", None, None, Verdict.INCONCLUSIVE, "neither side has a parameter that is compared")
    for tie in ties:
        name = (tie.torch if plan.reference == "torch" else tie.keras)[0]
        detail = {
            "same": "tied on both sides",
            "missing": f"one storage on the {plan.reference} side, several on the {plan.follower} side",
            "extra": f"one storage on the {plan.follower} side, several on the {plan.reference} side",
        }[tie.status]
        verdict = Verdict.EQUIVALENT if tie.status == "same" else Verdict.DIFFERENT
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


def sync_checks(plan: MatchPlan, precision: str, wanted: State, read_back: State) -> list[Check]:
    """Whether the other side now holds exactly the reference's values; bit for bit, no allowance.

    Args:
        plan: whose matches are read.
        precision: of the run.
        wanted: the reference's state in the other side's layout.
        read_back: what the other side says it holds.
    """
    checks: list[Check] = []
    frame = Frame("sync", precision, None, plan.reference)
    for match in plan.matches:
        path = match.path(plan.follower)
        sent, got = wanted.value(path), read_back.value(path)
        item = Item(match.path(plan.reference), match.torch, match.keras, sent, got)
        if sent.shape != got.shape:
            checks.append(frame.check(item, Verdict.DIFFERENT, f"shape {sent.shape} sent, {got.shape} read back"))
        elif np.array_equal(sent, got, equal_nan=True):
            checks.append(replace(frame.check(item, Verdict.EQUIVALENT), error=0.0, allowed=0.0))
        else:
            checks.append(
                replace(
                    frame.check(item, Verdict.DIFFERENT, "set from the reference, but reads back another value"),
                    error=measure(sent, got).element,
                    allowed=0.0,
                    metric="element",
                    worst_index=measure(sent, got).worst_index,
                )
            )
    return checks
