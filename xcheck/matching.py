"""Two inventories and a weight map -> the match plan: which parameter is which, through which layout."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .errors import MatchError
from .inventory import Entry, Inventory
from .layouts import GATED, LAYOUTS, Layout, between, fitting
from .pair import Waiver, WeightTarget
from .trace import Array, State

SideName = Literal["torch", "keras"]


def other_side(side: SideName) -> SideName:
    """The side that `side` is not."""
    return "keras" if side == "torch" else "torch"


@dataclass(frozen=True, slots=True)
class Match:
    """One parameter or buffer, known by both sides.

    Attributes:
        torch, keras: canonical paths.
        layout: from the PyTorch to the Keras layout.
        torch_shape, keras_shape: of the values.
        buffer: on neither side a parameter.
        trainable: on either side.
    """

    torch: str
    keras: str
    layout: Layout
    torch_shape: tuple[int, ...]
    keras_shape: tuple[int, ...]
    buffer: bool = False
    trainable: bool = True

    def path(self, side: SideName) -> str:
        """The path on one side."""
        return self.torch if side == "torch" else self.keras

    def shape(self, side: SideName) -> tuple[int, ...]:
        """The shape on one side."""
        return self.torch_shape if side == "torch" else self.keras_shape

    def to(self, side: SideName, array: Array) -> Array:
        """An array of the other side's layout in the layout of `side`."""
        if side == "keras":
            return self.layout.forward(array, self.keras_shape)
        return self.layout.inverse(array, self.torch_shape)


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """What is compared with what.

    Attributes:
        reference: the side whose names and layouts the comparison uses.
        matches: parameters, then buffers.
        waived: path -> reason.
        unmatched_torch, unmatched_keras: canonical paths of parameters without a counterpart.
        unmatched_buffers: (side, path) of buffers without one; they count only if training changes them.
    """

    reference: SideName
    matches: tuple[Match, ...]
    waived: Mapping[str, str] = field(default_factory=dict[str, str])
    unmatched_torch: tuple[str, ...] = ()
    unmatched_keras: tuple[str, ...] = ()
    unmatched_buffers: tuple[tuple[SideName, str], ...] = ()

    @property
    def follower(self) -> SideName:
        """The other side."""
        return other_side(self.reference)

    @property
    def parameters(self) -> tuple[Match, ...]:
        """The matches that are parameters."""
        return tuple(m for m in self.matches if not m.buffer)

    @property
    def buffers(self) -> tuple[Match, ...]:
        """The matches that are buffers."""
        return tuple(m for m in self.matches if m.buffer)

    def for_follower(self, state: State, *, slots: bool) -> State:
        """A state of the reference in the names and layouts of the other side.

        Args:
            state: of the reference.
            slots: also carry over the optimizer's slots; those of a scalar role pass unchanged.
        """
        follower, reference = self.follower, self.reference
        parameters: dict[str, Array] = {}
        buffers: dict[str, Array] = {}
        carried: dict[str, dict[str, Array]] = {}
        for m in self.matches:
            target = buffers if m.buffer else parameters
            target[m.path(follower)] = m.to(follower, state.value(m.path(reference)))
            if slots and not m.buffer:
                roles = state.slots.get(m.path(reference), {})
                carried[m.path(follower)] = {
                    role: m.to(follower, value) if value.ndim else value for role, value in roles.items()
                }
        return State(parameters, buffers, carried, state.updates)


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
    builder = _Builder(torch, keras)
    for key, target in weight_map.items():
        builder.add(key, target)
    builder.add_buffers()
    return builder.plan(reference)


class _Builder:
    def __init__(self, torch: Inventory, keras: Inventory) -> None:
        self.torch, self.keras = torch, keras
        self.matches: dict[tuple[str, str], Match] = {}
        self.waived: dict[tuple[SideName, str], str] = {}
        self.owners: dict[str, str] = {}

    def add(self, key: str, target: WeightTarget) -> None:
        if isinstance(target, Waiver):
            side = self.torch if self.torch.find(key) or not self.keras.find(key) else self.keras
            name: SideName = "torch" if side is self.torch else "keras"
            self.waived[name, side.canonical_path(_entry(side, name, key).path)] = target.reason
            return
        torch_entry = _entry(self.torch, "torch", key)
        if isinstance(target, str):
            self.match(torch_entry, target, None)
        elif isinstance(target, tuple) and len(target) == 2 and target[1] in LAYOUTS:
            self.match(torch_entry, target[0], LAYOUTS[target[1]])
        elif isinstance(target, tuple):
            raise MatchError(
                "The weight map names a layout that does not exist.",
                where=f"weight_map[{key!r}]",
                numbers=f"got {target!r}; layouts: {', '.join(LAYOUTS)}",
            )
        elif isinstance(target, list) and target and all(isinstance(path, str) for path in target):  # pyright: ignore
            for path in target:
                self.match(torch_entry, path, None)
        else:
            raise MatchError(
                "The weight map holds something that is no target.",
                where=f"weight_map[{key!r}]",
                numbers=f"got {target!r:.80}",
                todo='give "keras/path", ("keras/path", "layout"), ["keras/copy_1", ...] or xcheck.waive("reason")',
            )

    def match(self, torch_entry: Entry, keras_path: str, layout: Layout | None) -> None:
        keras_entry = _entry(self.keras, "keras", keras_path)
        layout = layout or _promised(torch_entry, keras_entry)
        if not layout.fits(torch_entry.shape, keras_entry.shape):
            candidates = fitting(torch_entry.shape, keras_entry.shape)
            raise MatchError(
                f"Layout {layout.name!r} does not turn one shape into the other.",
                where=f"torch {torch_entry.path} -> keras {keras_entry.path}",
                numbers=f"{torch_entry.shape} -> {keras_entry.shape}; {layout.name} is {layout.summary}",
                cause=(
                    f"the layers differ in size, or the map pairs the wrong ones; shapes alone would allow "
                    f"{', '.join(candidates)}"
                    if candidates
                    else "no known layout turns one into the other: the layers differ in size, or the map pairs "
                    "the wrong ones"
                ),
            )
        torch_path = self.torch.canonical_path(torch_entry.path)
        keras_path = self.keras.canonical_path(keras_entry.path)
        self.owners.setdefault(torch_entry.owner, keras_entry.owner)
        self.matches[torch_path, keras_path] = Match(
            torch_path,
            keras_path,
            layout,
            torch_entry.shape,
            keras_entry.shape,
            torch_entry.buffer and keras_entry.buffer,
            torch_entry.trainable or keras_entry.trainable,
        )

    def add_buffers(self) -> None:
        taken = {m.torch for m in self.matches.values()} | self._waived("torch")
        for entry in self.torch.buffers():
            owner = self.owners.get(entry.owner)
            if entry.path in taken or owner is None:
                continue
            for other in self.keras.buffers():
                layout = between(entry.kind, entry.role, other.kind, other.role)
                if other.owner == owner and layout is not None:
                    self.match(entry, other.path, layout)

    def _waived(self, side: SideName) -> set[str]:
        return {path for of, path in self.waived if of == side}

    def plan(self, reference: SideName) -> MatchPlan:
        torch_done = {m.torch for m in self.matches.values()} | self._waived("torch")
        keras_done = {m.keras for m in self.matches.values()} | self._waived("keras")
        ordered = sorted(self.matches.values(), key=lambda m: m.buffer)
        left: list[tuple[SideName, str]] = []
        left.extend(("torch", e.path) for e in self.torch.buffers() if e.path not in torch_done)
        left.extend(("keras", e.path) for e in self.keras.buffers() if e.path not in keras_done)
        return MatchPlan(
            reference,
            tuple(ordered),
            {path: reason for (_, path), reason in self.waived.items()},
            tuple(e.path for e in self.torch.parameters() if e.path not in torch_done),
            tuple(e.path for e in self.keras.parameters() if e.path not in keras_done),
            tuple(left),
        )


def _entry(inventory: Inventory, side: SideName, path: str) -> Entry:
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


def _promised(torch_entry: Entry, keras_entry: Entry) -> Layout:
    layout = between(torch_entry.kind, torch_entry.role, keras_entry.kind, keras_entry.role)
    if layout is not None:
        return layout
    # A number or a vector of one shape has a single order of elements, unless it is made of gates.
    if torch_entry.kind not in GATED and torch_entry.shape == keras_entry.shape and len(torch_entry.shape) <= 1:
        return LAYOUTS["identity"]
    candidates = fitting(torch_entry.shape, keras_entry.shape)
    raise MatchError(
        "No layout is known between these two layer kinds.",
        where=f"torch {torch_entry.path} -> keras {keras_entry.path}",
        numbers=(
            f"{torch_entry.kind}.{torch_entry.role} {torch_entry.shape} -> "
            f"{keras_entry.kind}.{keras_entry.role} {keras_entry.shape}"
        ),
        cause=f"layouts whose shapes fit: {', '.join(candidates)}" if candidates else "no named layout fits",
        todo=(
            f'name the right one: weight_map={{"{torch_entry.path}": ("{keras_entry.path}", "{candidates[0]}")}}'
            if candidates
            else "compare the two layers' sizes"
        ),
    )
