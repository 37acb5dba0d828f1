"""The layers of a side that hold parameters, in the order in which a forward pass first uses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ..layouts.patterns import Shape
from ..records.calls import Call, Calls
from ..records.inventory import Entry, Inventory


@dataclass(frozen=True, slots=True)
class Param:
    """The properties of a parameter that matching uses; equal for similar parameters.

    Attributes:
        unit: number of its layer among those that are matched together.
        kind: of its layer. role: its name there. shape: of the value.
        inner: last name of its layer's path.
    """

    unit: int
    kind: str
    role: str
    shape: Shape
    inner: str


@dataclass(frozen=True, eq=False)
class Unit:
    """A layer and the parameters that it is the first to use.

    Attributes:
        owner, kind: path and class name of the layer.
        entries: its parameters, with their paths in this layer.
        calls: positions in the trace at which calls of it ended; () for a layer that is never called.
        words: of its path, except those that all layers have.
    """

    owner: str
    kind: str
    entries: tuple[Entry, ...]
    calls: tuple[int, ...] = ()
    words: frozenset[str] = frozenset()

    def params(self, unit: int = 0) -> tuple[Param, ...]:
        """The parameters without their paths."""
        inner = re.split(r"[./]", self.owner)[-1]
        return tuple(Param(unit, e.kind, e.role, e.shape, inner) for e in self.entries)


FUNCTIONS = {"linear": "Linear"} | {f"conv{n}d": f"Conv{n}d" for n in (1, 2, 3)}
"""PyTorch functions of a weight and a bias -> the equivalent module."""

PRODUCTS = ("matmul", "dot", "mm", "einsum", "tensordot")
"""Functions of one weight, to whose result a bias may be added."""


def _called_bare(inventory: Inventory, calls: Calls, free: Collection[str]) -> Iterator[tuple[int, tuple[Entry, ...]]]:
    """Parameters that only functions use: the function that takes them, and how many calls ended before.

    Args:
        inventory: of the side.
        calls: of one forward pass, with its functions.
        free: canonical paths of such parameters.
    """
    ended, left = 0, set(free)
    views: dict[int, str] = {}
    for at, call in enumerate(calls):
        ended += not call.function
        held = [p for p in call.parameters if p in free]
        if call.function and len(held) == 1 and not call.inputs:  # only a view of it
            views |= {id(array): held[0] for array in call.outputs.values()}
            continue
        seen = [views[id(array)] for array in call.inputs.values() if id(array) in views]
        held += seen
        if not call.function or not held or len(held) > 2 or not left >= set(held) or len(held) < len(call.parameters):
            continue
        if call.kind in PRODUCTS or seen:
            held += _added(calls[at + 1 :], call, left - set(held))
        elif call.kind not in FUNCTIONS:
            continue
        entries = [e for path in held if (e := inventory.find(path)) is not None]
        weights, biases = ([e for e in entries if (len(e.shape) > 1) is of] for of in (True, False))
        if len(weights) == 1 and len(biases) == len(entries) - 1:
            left -= set(held)
            named = zip((*weights, *biases), ("weight", "bias")[: len(entries)], strict=True)
            kind = None if seen else FUNCTIONS.get(call.kind)
            yield ended, tuple(replace(e, kind=kind, role=role) if kind else e for e, role in named)


def _added(later: Calls, call: Call, free: Collection[str]) -> list[str]:
    """The parameter that is added to the result of a function."""
    made = {id(array) for array in call.outputs.values()}
    users = [c for c in later if c.function and made & {id(array) for array in c.inputs.values()}]
    held = users[0].parameters if users and users[0].kind == "add" else ()
    return list(held) if len(held) == 1 and held[0] in free else []


def units_of(inventory: Inventory, calls: Calls, without: Collection[str] = (), every: Calls = ()) -> tuple[Unit, ...]:
    """The layers that hold parameters, in order of first use.

    A layer that is never called, although the layer around it may use its parameters, comes directly after that layer.

    Args:
        inventory: of the side.
        calls: of one forward pass.
        without: canonical paths that are already matched.
        every: the calls including those of functions.
    """
    canonical = {e.path: e for e in (*inventory.parameters(), *_alone(inventory)) if e.path not in without}
    by_owner: dict[str, list[Entry]] = {}
    for entry in inventory.entries:
        if inventory.canonical_path(entry.path) in canonical:
            by_owner.setdefault(entry.owner, []).append(entry)
    ended: dict[str, list[int]] = {}
    for at, call in enumerate(calls):
        ended.setdefault(call.path, []).append(at)
    roots = {call.path for call in calls if call.parent is None}
    bare = {p for p, e in canonical.items() if e.owner not in ended or e.owner in roots}
    taken: set[str] = set()
    found: list[tuple[tuple[float, int], Unit]] = []
    called = list(_called_bare(inventory, every, bare))
    known = {inventory.canonical_path(e.path) for _, entries in called for e in entries}
    partly = {e.owner for p, e in canonical.items() if p not in known and e.owner in ended}  # they stay one layer
    for i, (at, entries) in enumerate(of for of in called if of[1][0].owner not in partly):
        taken |= {inventory.canonical_path(e.path) for e in entries}
        found.append(((at - 0.5, i), Unit(entries[0].path, entries[0].kind, entries)))
    for at, call in enumerate(calls):
        own = {inventory.canonical_path(e.path): e for e in reversed(by_owner.get(call.path, []))}
        entries = [own.get(path) or canonical[path] for path in call.parameters if path in canonical]
        new = [e for e in entries if inventory.canonical_path(e.path) not in taken]
        if new:
            taken |= {inventory.canonical_path(e.path) for e in new}
            found.append(((at, 0), Unit(call.path, new[0].kind, tuple(new), tuple(ended[call.path]))))
    rest: dict[str, list[Entry]] = {}
    for path, entry in canonical.items():
        if path not in taken:
            rest.setdefault(entry.owner, []).append(entry)
    for i, (owner, entries) in enumerate(rest.items()):
        around = next((ended[a][0] for a in _around(owner) if a and a in ended), len(calls))
        found.append(((around, i + 1), Unit(owner, entries[0].kind, tuple(entries))))
    units = [unit for _, unit in sorted(found, key=lambda f: f[0])]
    words = [words_of(name) for name in _from_zero([unit.owner for unit in units])]
    common = frozenset[str].intersection(*words) if len(words) > 1 else frozenset[str]()
    return tuple(replace(unit, words=of - common) for unit, of in zip(units, words, strict=True))


def _from_zero(names: Sequence[str]) -> list[str]:
    """The names, with their numbering changed to start from 0: some frameworks, and people, count from 1."""
    numbers = {name: [int(n) for n in re.findall(r"\d+", name)] for name in names}
    alike: dict[str, list[list[int]]] = {}
    for name, own in numbers.items():
        alike.setdefault(re.sub(r"\d+", "#", name), []).append(own)
    found: list[str] = []
    for name in names:
        rows = alike[re.sub(r"\d+", "#", name)]
        counted = iter([n - min(column) for n, column in zip(numbers[name], zip(*rows, strict=True), strict=True)])
        found.append(re.sub(r"\d+", lambda _, counted=counted: str(next(counted)), name))
    return found


STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance")
"""Buffers that both sides have; others, such as position tables, exist on one side only."""


def _alone(inventory: Inventory) -> list[Entry]:
    """Statistics of layers without parameters: no parameter leads to them."""
    owners = {entry.owner for entry in inventory.entries if not entry.buffer}
    return [e for e in inventory.buffers() if e.role in STATISTICS and e.owner not in owners]


def again(units: Sequence[Unit]) -> list[Unit]:
    """Each further call of a layer as a separate layer, in order."""
    further = [(at, unit) for unit in units for at in unit.calls[1:]]
    return [replace(unit, calls=(at,)) for at, unit in sorted(further, key=lambda f: f[0])]


def _around(path: str) -> list[str]:
    """The paths of the layers around a layer, the nearest first."""
    ends = [found.start() for found in re.finditer(r"[./]", path)]
    return [path[:end] for end in reversed(ends)]


_SAME_WORD: dict[str, str] = {
    "q": "query",
    "k": "key",
    "v": "value",
    "o": "output",
    "out": "output",
    "kernel": "weight",
    "embeddings": "embedding",
    "gamma": "weight",
    "scale": "weight",
    "beta": "bias",
    "norm": "normalization",
    "attn": "attention",
    "running": "moving",
    "var": "variance",
}
_EMPTY: frozenset[str] = frozenset({"proj", "projection", "dense", "layer", "layers", "module", "model", "linear"})


@cache
def words_of(path: str) -> frozenset[str]:
    """The words of a path that may have a meaning common to both sides."""
    split: list[str] = re.findall(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+", path)
    words = {word.lower() for word in split}
    return frozenset({_SAME_WORD.get(word, word) for word in words} - _EMPTY)


def likeness(words: frozenset[str], others: frozenset[str]) -> float:
    """How similar two names are, from 0 to 1."""
    return len(words & others) / len(words | others) if words or others else 0.0
