"""Weights that a file stores more than once, as they are or transposed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MatchError
from ..records.trace import Array
from .files import Weight
from .parameters import fingerprint, permutations

Axes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A constant that another one makes superfluous.

    Attributes:
        kept: name of the one that stays.
        dropped: name of the one that goes.
        axes: transposition of the first that gives the second; None where they are the same.
        nbytes: that the second takes.
    """

    kept: str
    dropped: str
    axes: Axes | None
    nbytes: int

    @property
    def how(self) -> str:
        """In words."""
        return "the same" if self.axes is None else "transposed" if self.axes == (1, 0) else f"axes {self.axes}"


_COUNTS = re.compile(r"_+\d+(?=[_/:]|$)")


def relation(left: Array, right: Array) -> Axes | str | None:
    """The transposition of `left` that gives `right` bit for bit, "same" if it is equal, None if there is neither."""
    if left.dtype != right.dtype:
        return None
    if left.shape == right.shape and np.array_equal(left, right):
        return "same"
    return next(
        (axes for axes in permutations(left.shape, right.shape) if np.array_equal(left.transpose(axes), right)), None
    )


def equal_ones(weights: Sequence[Weight]) -> list[Copy]:
    """Every pair of weights that is equal by value; those that are one number throughout say nothing and are left."""
    groups: dict[Any, list[Weight]] = {}
    for weight in weights:
        if weight.value.size > 1 and weight.value.min() != weight.value.max():
            groups.setdefault((weight.value.dtype, *fingerprint(weight.value)), []).append(weight)
    return [copy for group in groups.values() for copy in _merged(group)]


def _merged(group: Sequence[Weight]) -> list[Copy]:
    """The copies among weights of one fingerprint; the arrangement that most of them have is the one that stays."""
    found: list[Copy] = []
    rest = list(group)
    while rest:
        alike = {w.name: relation(rest[0].value, w.value) for w in rest}
        members = [w for w in rest if alike[w.name] is not None]
        kept = max(members, key=lambda w: sum(alike[w.name] == alike[other.name] for other in members))
        for weight in members:
            if weight.name != kept.name:
                axes = relation(kept.value, weight.value)
                assert axes is not None  # both are `rest[0]` with its axes in some order
                found.append(Copy(kept.name, weight.name, None if isinstance(axes, str) else axes, weight.nbytes))
        rest = [w for w in rest if alike[w.name] is None]
    return found


def named_ones(weights: Sequence[Weight], ties: Sequence[str]) -> list[Copy]:
    """The copies that the user names.

    Args:
        weights: of the file.
        ties: "A=B", where a name may itself hold the sign.

    Raises:
        MatchError: a name is not in the file, or the two are not equal by value.
    """
    by_name = {weight.name: weight for weight in weights}
    return [_named(by_name, tie) for tie in ties]


def _named(by_name: Mapping[str, Weight], tie: str) -> Copy:
    parts = tie.split("=")
    cuts = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    if not cuts:
        raise MatchError("A tie is not A=B.", numbers=f"--tie {tie}", todo="name two initializers: --tie A=B")
    pair = next((cut for cut in cuts if cut[0] in by_name and cut[1] in by_name), None)
    if pair is None:
        wrong = next(name for name in cuts[0] if name not in by_name)
        close = difflib.get_close_matches(wrong, by_name, n=3, cutoff=0.3) or list(by_name)[:6]
        raise MatchError(
            "A tie names a weight that this file does not have.",
            where=f"--tie {tie}",
            numbers=f"{wrong!r}; {len(by_name)} weights in the file",
            cause=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
            todo="`xcheck retie MODEL` lists what is stored more than once",
        )
    left, right = (by_name[name] for name in pair)
    axes = relation(left.value, right.value)
    if axes is None or left.name == right.name:
        raise MatchError(
            "These two weights are not one.",
            where=f"--tie {tie}",
            numbers=f"{_shown(left)} and {_shown(right)}, {_apart(left, right)}",
            cause="they were trained or changed apart, or they are not the copies of one weight",
        )
    return Copy(left.name, right.name, None if isinstance(axes, str) else axes, right.nbytes)


def _shown(weight: Weight) -> str:
    return f"{weight.value.dtype}{weight.value.shape}"


def _apart(left: Weight, right: Weight) -> str:
    if left.name == right.name:
        return "one and the same"
    arranged = [left.value, *(left.value.transpose(a) for a in permutations(left.value.shape, right.value.shape))]
    fewest = min((int((a != right.value).sum()) for a in arranged if a.shape == right.value.shape), default=None)
    return "of other sizes" if fewest is None else f"{fewest} of {right.value.size} elements differ"


def planned_ones(weights: Sequence[Weight], exports: Sequence[Mapping[str, Any]], where: str) -> list[Copy]:
    """The copies of the storages that a run has found to be stored more than once.

    A storage is known by the names that its constants had in the run's own export; a constant that is equal to one of
    these is a copy of it, unless the run has seen it hold another storage.

    Args:
        weights: of the file.
        exports: of the run's result.
        where: for the message.

    Raises:
        MatchError: the run has exported nothing, or nothing of it is in this file.
    """
    by_name = {weight.name: weight for weight in weights}
    read = [_storages(by_name, export) for export in exports]
    storages = max(read, key=lambda one: _fitting(by_name, one), default=[])
    names = {name for held in storages for name in held}
    if not names & by_name.keys():
        given = {name for one in read for held in one for name in held}
        raise MatchError(
            "This plan says nothing of this file.",
            where=where,
            numbers=f"{len(given)} weights in the plan's exports, {len(by_name)} in the file, none of one name",
            cause="the run has no phase export" if not exports else "the file is the export of another model",
            todo="run `xcheck run PAIR --phases all`, or name the weights with --tie A=B",
        )
    found: list[Copy] = []
    done: set[str] = set()
    for held in storages:
        anchor = next((by_name[name] for name in held if name in by_name), None)
        if anchor is None or len(held) < 2 or anchor.name in done:
            continue
        others = names - set(held)
        group = [w for w in weights if w.name not in others and w.value.size == anchor.value.size]
        group = [w for w in group if relation(anchor.value, w.value) is not None]
        found += _merged(group)
        done |= {w.name for w in group}
    return found


def _storages(by_name: Mapping[str, Weight], export: Mapping[str, Any]) -> list[list[str]]:
    """The names that each storage of one export of the run has in this file."""
    given: list[list[str]] = [list(storage["names"]) for storage in export["storages"]]
    called = _called(by_name, {name for held in given for name in held})
    return [[called.get(name, name) for name in held] for held in given]


def _fitting(by_name: Mapping[str, Weight], storages: Sequence[Sequence[str]]) -> int:
    """How many names of the storages are in the file, equal to the first of their storage.

    The exports of a run are several, and the names that tf2onnx makes up, "const_fold_opt__12", are those of one
    storage in one of them and of another in the next: only the export that this file is may be read.
    """
    held = [[by_name[name] for name in names if name in by_name] for names in storages]
    return sum(relation(group[0].value, weight.value) is not None for group in held for weight in group)


def _called(here: Iterable[str], planned: Iterable[str]) -> dict[str, str]:
    """Name in the plan -> name in the file, where they differ in nothing but counts.

    Keras numbers its layers, and TensorFlow its operations, by how many a process has made before: "functional_1/..."
    of the run is "functional_7/..." of the export of somebody who made other models first. A name is translated only
    where it is the only one of its kind, in the plan and in the file.
    """
    by_kind: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})
    for names, found in zip((here, planned), by_kind, strict=True):
        for name in names:
            found.setdefault(_COUNTS.sub("", name), set()).add(name)
    in_file, in_plan = by_kind
    return {
        planned_name: name
        for kind, (planned_name, *more) in in_plan.items()
        for name in in_file.get(kind, ())
        if not more and len(in_file[kind]) == 1
    }
