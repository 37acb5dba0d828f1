"""The tie contract: which parameters share one storage, group against group."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...errors import MatchError
from ...matching import MatchPlan
from ...records.inventory import Inventory
from ...records.result import APART, TIED, Tie
from ...records.sides import SideName
from ...records.trace import State, StepRecord
from ...records.uses import LOSS, PENALTY


def ties(plan: MatchPlan, torch: Inventory, keras: Inventory, initial: State | None = None) -> tuple[Tie, ...]:
    """The tie groups of both sides, group against group.

    Two matched parameters belong together if either side keeps them in one storage. Groups with a single path on both
    sides are left out.

    Args:
        plan: of the run.
        torch, keras: inventories of the sides.
        initial: initial state of the follower; shows groups that are untied but have equal values.
    """
    torch_of, keras_of = _storage_by_path(torch), _storage_by_path(keras)
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for m in plan.matches:
        if not m.plain:  # matches of parts are not tied
            continue
        parent[root(("torch", torch_of[m.torch]))] = root(("keras", keras_of[m.keras]))
    groups: dict[Hashable, tuple[list[str], list[str]]] = {}
    for side, inventory, position in (("torch", torch, 0), ("keras", keras, 1)):
        for entry in inventory.entries:
            groups.setdefault(root((side, entry.storage)), ([], []))[position].append(entry.path)
    result: list[Tie] = []
    for torch_paths, keras_paths in groups.values():
        if not torch_paths or not keras_paths or len(torch_paths) == len(keras_paths) == 1:
            continue  # without a counterpart it is unmatched, not tied
        torch_one, keras_one = torch.same_storage(torch_paths), keras.same_storage(keras_paths)
        reference_tied, follower_tied = (torch_one, keras_one) if plan.reference == "torch" else (keras_one, torch_one)
        if torch_one and not keras_one and plan.copies & set(torch_paths):
            status = "duplicated"
        elif reference_tied and not follower_tied:
            equal = initial is not None and _equal(plan, initial, {"torch": torch_paths, "keras": keras_paths})
            status = "equal_but_untied" if equal else "missing"
        else:
            status = "same" if reference_tied else "extra"
        built = {"torch": {"build": TIED if torch_one else APART}, "keras": {"build": TIED if keras_one else APART}}
        result.append(Tie(tuple(torch_paths), tuple(keras_paths), status, stages={"build": built}))
    return tuple(result)


def used(ties: Sequence[Tie], plan: MatchPlan, record: StepRecord, other: StepRecord) -> tuple[Tie, ...]:
    """The tie groups with their uses, and those parameters of a single path that both sides use several times.

    A layer of one side may correspond to many small layers of the other, such as a recurrent layer: that is not a tie.

    Args:
        ties: of the run.
        plan: of the run.
        record: of the reference, with gradients split by use.
        other: of the other side, with gradients split by use.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    result = [replace(tie, uses=_uses(tie.torch, tie.keras, records)) for tie in ties]
    known = {path for tie in ties for path in tie.torch}
    for m in plan.parameters:
        uses = _uses((m.torch,), (m.keras,), records) if m.plain and m.torch not in known else {}
        if len(uses) == 2 and min(uses.values()) > 1:
            built = {side: {"build": TIED} for side in ("torch", "keras")}
            result.append(Tie((m.torch,), (m.keras,), "same", uses, {"build": built}))
    return tuple(result)


def _uses(torch: Sequence[str], keras: Sequence[str], records: Mapping[SideName, StepRecord]) -> dict[str, int]:
    """Side -> number of uses of some paths by layers; a side without gradients by use is left out."""
    counts: dict[str, int] = {}
    for side, record in records.items():
        paths = torch if side == "torch" else keras
        if record.uses:
            with_gradient = [path for path in paths if record.gradients.get(path) is not None]
            by_layer = [[u for u in record.uses.get(p, {"": None}) if u not in (PENALTY, LOSS)] for p in with_gradient]
            counts[side] = sum(map(len, by_layer))
    return counts


def _equal(plan: MatchPlan, initial: State, group: Mapping[SideName, Sequence[str]]) -> bool:
    """Whether the follower's variables of a group have equal values that are not just the same constant."""
    values = [
        m.value_to(plan.reference, initial.value(m.path(plan.follower)))
        for m in plan.matches
        if m.plain and m.path(plan.follower) in group[plan.follower]
    ]
    first = values[0]
    return bool((first != first.ravel()[:1]).any()) and all(np.array_equal(first, value) for value in values[1:])


def _storage_by_path(inventory: Inventory) -> dict[str, Hashable]:
    return {entry.path: entry.storage for entry in inventory.entries}


def broken_ties(
    expected: Sequence[Sequence[str]], torch: Inventory, keras: Inventory
) -> list[tuple[SideName, tuple[str, ...]]]:
    """The groups a pair promises that are not one storage on their side.

    Raises:
        MatchError: a group names paths of neither side, or mixes the sides.
    """
    broken: list[tuple[SideName, tuple[str, ...]]] = []
    for group in expected:
        sides: tuple[tuple[SideName, Inventory], ...] = (("torch", torch), ("keras", keras))
        for side, inventory in sides:
            if all(inventory.find(path) for path in group):
                if not inventory.same_storage(group):
                    broken.append((side, tuple(group)))
                break
        else:
            raise MatchError(
                "A group of Pair.ties has paths that are not all on one side.",
                where="Pair.ties",
                numbers=", ".join(group),
                todo="give each group the paths of one side, as `xcheck run` prints them",
            )
    return broken
