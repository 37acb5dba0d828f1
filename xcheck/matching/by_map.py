"""Two inventories and a weight map -> the match plan."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..errors import MatchError
from ..layouts import LAYOUTS, Layout, fitting, layout_named
from ..layouts.kinds import GATED, Promise, promised, role_family
from ..layouts.parts import WHOLE, parse_part, read_expression
from ..layouts.patterns import Undetermined, parse_pattern
from ..pairs.pair import Copies, Waiver, WeightTarget
from ..records.inventory import Entry, Inventory
from ..records.sides import SideName
from .plan import Match, MatchPlan, Piece
from .plan_builder import Builder


def plan_from_map(
    torch: Inventory,
    keras: Inventory,
    weight_map: Mapping[str, WeightTarget],
    reference: SideName = "torch",
) -> MatchPlan:
    """The plan that an explicit weight map describes.

    A path of a shared parameter stands for all of its aliases. Buffers follow the layer whose parameters are
    mapped, so that BatchNorm statistics need no entries of their own.

    Raises:
        MatchError: the map names a path that does not exist, an unknown layout, or a layout that does not fit;
            or the layer kinds promise no layout and the map gives none.
    """
    reader = MapReader(torch, keras)
    reader.add_all(weight_map)
    return reader.builder.plan(reference)


class MapReader:
    """Turns the entries of a weight map into matches.

    Attributes:
        builder: of the plan; others may also add to it.
    """

    def __init__(self, torch: Inventory, keras: Inventory) -> None:
        self.torch, self.keras = torch, keras
        self.builder = Builder(torch, keras)

    def add_all(self, weight_map: Mapping[str, WeightTarget]) -> None:
        """Add every entry, waivers first: a sum leaves out waived parameters.

        Raises:
            MatchError: as for `plan_from_map`.
        """
        for key, target in weight_map.items():
            if isinstance(target, Waiver):
                self._waive(key, target)
        for key, target in weight_map.items():
            if not isinstance(target, Waiver):
                self._add(key, target)
        self.builder.add_buffers()

    def _waive(self, key: str, target: Waiver) -> None:
        sides: list[SideName] = ["torch", "keras"]
        paths = [self._path(side, key) for side in sides]
        side, (path, part) = sides[paths[0] is None and paths[1] is not None], paths[0] or paths[1] or (key, "")
        piece = self._piece(side, [self._entry(side, path)], [(path, part)])
        self.builder.waive(side, piece.paths[0], target.reason, piece.part)

    def _path(self, side: SideName, key: str) -> tuple[str, str] | None:
        """The single parameter of an expression, and its slice; None if this side has no such parameter."""
        inventory = self.torch if side == "torch" else self.keras
        terms = read_expression(key, lambda path: inventory.find(path) is not None).terms
        return terms[0] if len(terms) == 1 and inventory.find(terms[0][0]) else None

    def _add(self, key: str, target: Any) -> None:
        copies = isinstance(target, Copies)
        targets = list(target.paths) if copies else cast(list[Any], target) if isinstance(target, list) else [target]
        for one in targets:
            if isinstance(one, str):
                self._match(key, one, None)
                continue
            if not (isinstance(one, tuple) and len(cast(Any, one)) == 2):
                raise _no_target(key, target)
            path, name = cast(tuple[str, str], one)
            self._match(key, path, _named(key, name))
        if not targets:
            raise _no_target(key, target)
        if copies:
            self.builder.declare_copies(self.torch.canonical_path(self._entry("torch", key).path))

    def _match(self, key: str, target: str, layout: Layout | None) -> None:
        torch = read_expression(key, lambda path: self.torch.find(path) is not None)
        keras = read_expression(target, lambda path: self.keras.find(path) is not None)
        entries = [self._entry("torch", path) for path, _ in torch.terms]
        others = [self._entry("keras", path) for path, _ in keras.terms]
        found = [] if layout else _promises(entries[0], others[0])
        if found and not any(part for _, part in (*torch.terms, *keras.terms)) and len(entries) == 1:
            for promise in found:
                self._keep(promise, entries[0], others[0], torch.offset)
            return
        pieces = (self._piece("torch", entries, torch.terms), self._piece("keras", others, keras.terms))
        layout = layout or _layout_of(entries[0], others[0], found, pieces[0], pieces[1])
        self._checked(entries, others, Match(*pieces, layout, torch.offset - keras.offset))

    def _keep(self, promise: Promise, entry: Entry, other: Entry, offset: float) -> None:
        """Add the match that two layer kinds promise, with its slices and the other terms of the sum."""
        _, suffix = role_family(entry.kind, entry.role)
        entries = [entry]
        if len(promise.torch_roles) > 1:
            siblings = (self.torch.find(_sibling(entry, role + suffix)) for role in promise.torch_roles)
            entries = [e for e in siblings if e is not None and not self.builder.is_waived("torch", e.path)]
        parts = [_bracket(promise.torch)] * len(entries)
        terms = [(e.path, part) for e, part in zip(entries, parts, strict=True)]
        torch = self._piece("torch", entries, terms)
        keras = self._piece("keras", [other], [(other.path, _bracket(promise.keras))])
        layout = promise.layout(torch.shape, keras.shape) or _unpromised(entry, other, torch, keras)
        self._checked(entries, [other], Match(torch, keras, layout, offset))

    def _checked(self, entries: Sequence[Entry], others: Sequence[Entry], match: Match) -> None:
        torch, keras, layout = match.torch_piece, match.keras_piece, match.layout
        if not layout.fits(torch.shape, keras.shape):
            _ask_for_sizes(match)
            candidates = fitting(torch.shape, keras.shape)
            raise MatchError(
                f"Layout {layout.name!r} does not convert one shape into the other.",
                where=f"torch {torch.name} -> keras {keras.name}",
                numbers=f"shapes {torch.shape} -> {keras.shape}; {layout.name} is {layout.summary}",
                cause=(
                    "the layers differ in size, or the map pairs the wrong parameters; layouts that fit the "
                    f"shapes: {', '.join(candidates)}"
                    if candidates
                    else "no known layout fits: the layers differ in size, or the map pairs the wrong parameters"
                ),
            )
        self.builder.add(match, entries, others)

    def _piece(self, side: SideName, entries: Sequence[Entry], terms: Sequence[tuple[str, str]]) -> Piece:
        inventory = self.torch if side == "torch" else self.keras
        try:
            parts = {parse_part(text, e.shape) if text else WHOLE for e, (_, text) in zip(entries, terms, strict=True)}
        except ValueError as error:
            raise MatchError(
                f"The weight map has a slice that does not fit the {side} parameter.",
                where=", ".join(path + text for path, text in terms),
                numbers=f"{error}; shape {entries[0].shape}",
            ) from error
        if len(parts) > 1 or len({e.shape for e in entries}) > 1:
            raise MatchError(
                f"The weight map sums {side} parameters of different shapes.",
                where=" + ".join(path + text for path, text in terms),
                numbers=f"shapes {', '.join(str(e.shape) for e in entries)}",
                todo="sum only parameters, or slices, of the same shape",
            )
        paths = [inventory.canonical_path(e.path) for e in entries]
        trained = tuple(p for p, e in zip(paths, entries, strict=True) if e.trainable)
        return Piece(tuple(paths), entries[0].shape, trained, parts.pop())

    def _entry(self, side: SideName, path: str) -> Entry:
        inventory = self.torch if side == "torch" else self.keras
        entry = inventory.find(path)
        if entry is None:
            known = [e.path for e in inventory.entries]
            close = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
            shown = close or known[:8]
            raise MatchError(
                f"The weight map names a {side} parameter that does not exist.",
                where=f"weight_map, {path!r}",
                numbers=f"{len(known)} paths on the {side} side",
                cause=f"did you mean {' or '.join(map(repr, shown))}?" if shown else "this side has no parameters",
                todo="correct the path in the pair's weight_map",
            )
        return entry


def _ask_for_sizes(match: Match) -> None:
    """Say which sizes a pattern lacks, if that is all that is wrong with it."""
    torch, keras, text = match.torch_piece, match.keras_piece, match.layout.pattern
    try:
        parse_pattern(text or "").order(torch.shape, keras.shape)
    except Undetermined as error:
        some = {axis: f"{axis}=SIZE" for axis in error.axes[1:]}
        written = re.sub(r"\b[a-z]\w*\b", lambda found: some.pop(found[0], found[0]), match.layout.name)
        named = ", ".join(error.axes)
        raise MatchError(
            f"The sizes of the axes {named} are not determined by the shapes.",
            where=f"torch {torch.name} -> keras {keras.name}",
            numbers=f"layout {match.layout.name!r}, {torch.shape} -> {keras.shape}",
            cause="axes that are merged on both sides can have any sizes with the same product",
            todo=f'in weight_map, add the sizes of all but one of these axes to the pattern, such as "{written}"',
        ) from error
    except ValueError:
        return


def _no_target(key: str, target: Any) -> MatchError:
    return MatchError(
        "The weight map has a value that is not a target.",
        where=f"weight_map[{key!r}]",
        numbers=f"got {target!r:.80}",
        todo='give "keras/path", ("keras/path", "layout"), ["keras/copy_1", ...], '
        'xcheck.copies("keras/1", "keras/2") or xcheck.waive("reason")',
    )


def _named(key: str, name: Any) -> Layout:
    try:
        layout = layout_named(name) if isinstance(name, str) else None
        problem = ""
    except ValueError as error:
        layout, problem = None, str(error)
    if layout is None:
        raise MatchError(
            "The weight map names a layout that does not exist.",
            where=f"weight_map[{key!r}]",
            numbers=f"got {name!r}; layouts: {', '.join(LAYOUTS)}",
            cause=problem or None,
            todo='use one of these, or a pattern such as "(h d) i -> i h d"',
        )
    return layout


def _bracket(role: str) -> str:
    return role[role.index("[") :] if "[" in role else ""


def _sibling(entry: Entry, role: str) -> str:
    return entry.path[: len(entry.path) - len(entry.role)] + role


def _promises(entry: Entry, other: Entry) -> list[Promise]:
    """The promises of the layer kinds for two parameters whose shapes allow them."""
    found = promised(entry.kind, entry.role, other.kind, other.role, other.owner)
    return [p for p in found if _has(_bracket(p.torch), entry) and _has(_bracket(p.keras), other)]


def _has(part: str, entry: Entry) -> bool:
    try:
        shape = parse_part(part, entry.shape).shape(entry.shape) if part else entry.shape
    except ValueError:
        return False
    return not part or bool(shape)


def _layout_of(entry: Entry, other: Entry, found: Sequence[Promise], torch: Piece, keras: Piece) -> Layout:
    """The layout of slices that the map defines: the one that the layer kinds promise for the two roles."""
    layouts = [layout for p in found if (layout := p.layout(torch.shape, keras.shape))]
    if layouts and all(layout is layouts[0] for layout in layouts):
        return layouts[0]
    return _unpromised(entry, other, torch, keras)


def _unpromised(entry: Entry, other: Entry, torch: Piece, keras: Piece) -> Layout:
    # A scalar or a vector has only one order of elements, unless it consists of gates.
    if entry.kind not in GATED and torch.shape == keras.shape and len(torch.shape) <= 1:
        return LAYOUTS["identity"]
    candidates = fitting(torch.shape, keras.shape)
    raise MatchError(
        "No layout is known between these two layer kinds.",
        where=f"torch {torch.name} -> keras {keras.name}",
        numbers=f"{entry.kind}.{entry.role} {torch.shape} -> {other.kind}.{other.role} {keras.shape}",
        cause=f"layouts whose shapes fit: {', '.join(candidates)}" if candidates else "no named layout fits",
        todo=(
            f'choose the right one: weight_map={{"{torch.name}": ("{keras.name}", "{candidates[0]}")}}'
            if candidates
            else "compare the two layers' sizes"
        ),
    )
