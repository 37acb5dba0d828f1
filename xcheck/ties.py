"""The tie contract: which parameters are one storage, group against group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from .errors import MatchError
from .inventory import Inventory
from .matching import MatchPlan, SideName
from .result import Tie


def ties(plan: MatchPlan, torch: Inventory, keras: Inventory) -> tuple[Tie, ...]:
    """The tie groups of both sides, group against group.

    Two matched parameters belong together when either side keeps them in one storage. Groups that are a single
    path on both sides are left out.
    """
    torch_of, keras_of = _storage_by_path(torch), _storage_by_path(keras)
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for m in plan.matches:
        if not m.plain:  # what shares no element is not tied
            continue
        parent[root(("torch", torch_of[m.torch]))] = root(("keras", keras_of[m.keras]))
    groups: dict[Hashable, tuple[list[str], list[str]]] = {}
    for side, inventory, at in (("torch", torch, 0), ("keras", keras, 1)):
        for entry in inventory.entries:
            groups.setdefault(root((side, entry.storage)), ([], []))[at].append(entry.path)
    found: list[Tie] = []
    for torch_paths, keras_paths in groups.values():
        if not torch_paths or not keras_paths or len(torch_paths) == len(keras_paths) == 1:
            continue  # without a counterpart it is unmatched, not tied
        torch_one, keras_one = torch.same_storage(torch_paths), keras.same_storage(keras_paths)
        tied, other = (torch_one, keras_one) if plan.reference == "torch" else (keras_one, torch_one)
        status = "same" if tied and other else "missing" if tied else "extra"
        found.append(Tie(tuple(torch_paths), tuple(keras_paths), status))
    return tuple(found)


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
                "A promised tie group names paths that are not all on one side.",
                where="Pair.ties",
                numbers=", ".join(group),
                todo="give each group the paths of one side, as `xcheck run` prints them",
            )
    return broken
