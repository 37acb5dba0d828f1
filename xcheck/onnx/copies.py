"""Weights that a file stores more than once, unchanged or transposed."""

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
    """A constant that duplicates a different one.

    Attributes:
        kept: name of the constant that stays.
        dropped: name of the constant that is removed.
        axes: transposition of the first that gives the second; None where they are equal.
        nbytes: size of the second.
    """

    kept: str
    dropped: str
    axes: Axes | None
    nbytes: int

    @property
    def how(self) -> str:
        """The relation of the two, in words."""
        return "the same" if self.axes is None else "transposed" if self.axes == (1, 0) else f"axes {self.axes}"


_COUNTS = re.compile(r"_+\d+(?=[_/:]|$)")


def relation(left: Array, right: Array) -> Axes | str | None:
    """The transposition of `left` that gives `right` bit for bit, "same" if they are equal, otherwise None."""
    if left.dtype != right.dtype:
        return None
    bits = f"u{left.dtype.itemsize}"  # in which NaN equals itself
    left, right = left.view(bits), right.view(bits)
    if left.shape == right.shape and np.array_equal(left, right):
        return "same"
    return next(
        (axes for axes in permutations(left.shape, right.shape) if np.array_equal(left.transpose(axes), right)), None
    )


def equal_ones(weights: Sequence[Weight]) -> list[Copy]:
    """All copies among weights with equal values; weights with a single number throughout are skipped."""
    groups: dict[Any, list[Weight]] = {}
    for weight in weights:
        if weight.value.size > 1 and weight.value.min() != weight.value.max():
            groups.setdefault((weight.value.dtype, *fingerprint(weight.value)), []).append(weight)
    return [copy for group in groups.values() for copy in _merged(group)]


def _merged(group: Sequence[Weight]) -> list[Copy]:
    """The copies among weights of one fingerprint; the most frequent arrangement is kept."""
    copies: list[Copy] = []
    remaining = list(group)
    while remaining:
        relations = {w.name: relation(remaining[0].value, w.value) for w in remaining}
        members = [w for w in remaining if relations[w.name] is not None]
        kept = max(members, key=lambda w: sum(relations[w.name] == relations[other.name] for other in members))
        for weight in members:
            if weight.name != kept.name:
                axes = relation(kept.value, weight.value)
                assert axes is not None  # both are `remaining[0]` with its axes in some order
                copies.append(Copy(kept.name, weight.name, None if isinstance(axes, str) else axes, weight.nbytes))
        remaining = [w for w in remaining if relations[w.name] is None]
    return copies


def named_ones(weights: Sequence[Weight], ties: Sequence[str]) -> list[Copy]:
    """The copies that the user names.

    Args:
        weights: of the file.
        ties: "A=B"; a name may contain the sign.

    Raises:
        MatchError: a name is not in the file, or the values of the two differ.
    """
    by_name = {weight.name: weight for weight in weights}
    return [_named_copy(by_name, tie) for tie in ties]


def _named_copy(by_name: Mapping[str, Weight], tie: str) -> Copy:
    parts = tie.split("=")
    splits = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    if not splits:
        raise MatchError("--tie takes A=B.", numbers=f"--tie {tie}", todo="name two initializers: --tie A=B")
    pair = next((split for split in splits if split[0] in by_name and split[1] in by_name), None)
    if pair is None:
        unknown = next(name for name in splits[0] if name not in by_name)
        close = difflib.get_close_matches(unknown, by_name, n=3, cutoff=0.3) or list(by_name)[:6]
        raise MatchError(
            "--tie has a weight that is not in this file.",
            where=f"--tie {tie}",
            numbers=f"{unknown!r}; {len(by_name)} weights in the file",
            cause=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
            todo="`xcheck retie MODEL` lists the weights that are stored more than once",
        )
    left, right = (by_name[name] for name in pair)
    axes = relation(left.value, right.value)
    if axes is None or left.name == right.name:
        raise MatchError(
            "These two weights differ and cannot be tied.",
            where=f"--tie {tie}",
            numbers=f"{_shown(left)} and {_shown(right)}, {_difference(left, right)}",
            cause="they were trained or changed separately, or are not copies of one weight",
        )
    return Copy(left.name, right.name, None if isinstance(axes, str) else axes, right.nbytes)


def _shown(weight: Weight) -> str:
    return f"{weight.value.dtype}{weight.value.shape}"


def _difference(left: Weight, right: Weight) -> str:
    if left.name == right.name:
        return "one and the same"
    arranged = [left.value, *(left.value.transpose(a) for a in permutations(left.value.shape, right.value.shape))]
    fewest = min((int((a != right.value).sum()) for a in arranged if a.shape == right.value.shape), default=None)
    return "of different sizes" if fewest is None else f"{fewest} of {right.value.size} elements differ"


def planned_ones(weights: Sequence[Weight], exports: Sequence[Mapping[str, Any]], where: str) -> list[Copy]:
    """The copies of the storages that a run found to be stored more than once.

    A storage is identified by the names of its constants in the run's own export; a constant with equal values is a
    copy of it, unless it belongs to a different storage in the run.

    Args:
        weights: of the file.
        exports: of the run's result.
        where: for the message.

    Raises:
        MatchError: the run exported nothing, or none of its names are in this file.
    """
    by_name = {weight.name: weight for weight in weights}
    storages_by_export = [_storages(by_name, export) for export in exports]
    storages = max(
        storages_by_export, key=lambda export_storages: _matching_names(by_name, export_storages), default=[]
    )
    names = {name for storage_names in storages for name in storage_names}
    if not names & by_name.keys():
        planned_names = {
            name
            for export_storages in storages_by_export
            for storage_names in export_storages
            for name in storage_names
        }
        raise MatchError(
            "This plan does not cover any weight of this file.",
            where=where,
            numbers=f"{len(planned_names)} weights in the plan's exports, {len(by_name)} in the file, no name in "
            "common",
            cause="the run has no phase export" if not exports else "the file is the export of a different model",
            todo="run `xcheck run PAIR --phases all`, or name the weights with --tie A=B",
        )
    copies: list[Copy] = []
    merged: set[str] = set()
    for storage_names in storages:
        anchor = next((by_name[name] for name in storage_names if name in by_name), None)
        if anchor is None or len(storage_names) < 2 or anchor.name in merged:
            continue
        others = names - set(storage_names)
        group = [w for w in weights if w.name not in others and w.value.size == anchor.value.size]
        group = [w for w in group if relation(anchor.value, w.value) is not None]
        copies += _merged(group)
        merged |= {w.name for w in group}
    return copies


def _storages(by_name: Mapping[str, Weight], export: Mapping[str, Any]) -> list[list[str]]:
    """The names in this file of each storage in one export of the run."""
    planned_names: list[list[str]] = [list(storage["names"]) for storage in export["storages"]]
    translated = _translations(by_name, {name for storage_names in planned_names for name in storage_names})
    return [[translated.get(name, name) for name in storage_names] for storage_names in planned_names]


def _matching_names(by_name: Mapping[str, Weight], storages: Sequence[Sequence[str]]) -> int:
    """The number of names of the storages that are in the file, with values equal to the first of their storage.

    A run has several exports, and names invented by tf2onnx, such as "const_fold_opt__12", denote different storages
    in different exports: only the export that matches this file may be used.
    """
    groups = [[by_name[name] for name in names if name in by_name] for names in storages]
    return sum(relation(group[0].value, weight.value) is not None for group in groups for weight in group)


def _translations(file_names: Iterable[str], planned_names: Iterable[str]) -> dict[str, str]:
    """Name in the plan -> name in the file, where they differ only in counts.

    Keras numbers its layers, and TensorFlow its operations, by their count in the process: "functional_1/..." of the
    run is "functional_7/..." in an export from a process that created other models first. A name is translated only
    if it is the only one of its kind in the plan and in the file.
    """
    by_kind: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})
    for names, names_by_kind in zip((file_names, planned_names), by_kind, strict=True):
        for name in names:
            names_by_kind.setdefault(_COUNTS.sub("", name), set()).add(name)
    in_file, in_plan = by_kind
    return {
        planned_name: name
        for kind, (planned_name, *others) in in_plan.items()
        for name in in_file.get(kind, ())
        if not others and len(in_file[kind]) == 1
    }
