"""The match plan: which pieces of the two sides' states correspond, and in which layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..layouts import Layout
from ..layouts.parts import WHOLE, Part
from ..layouts.patterns import Shape
from ..records.sides import SideName, other_side
from ..records.slots import ADDED_UP
from ..records.trace import Array, State


@dataclass(frozen=True, slots=True)
class Piece:
    """One side's half of a match: a parameter or buffer, a slice of one, or the sum of several.

    Attributes:
        paths: canonical; their values are summed.
        whole: shape of each of them.
        trained: those of them that are trainable.
        part: the slice of each of them.
    """

    paths: tuple[str, ...]
    whole: Shape
    trained: tuple[str, ...] = ()
    part: Part = WHOLE

    @property
    def name(self) -> str:
        """The name, as a weight map writes it."""
        return " + ".join(f"{path}{self.part}" for path in self.paths)

    @property
    def shape(self) -> Shape:
        """The shape of the slice."""
        return self.part.shape(self.whole)

    @property
    def plain(self) -> bool:
        """Whether it is one whole parameter or buffer."""
        return len(self.paths) == 1 and not self.part.cuts

    def total(self, get: Callable[[str], Array | None]) -> Array | None:
        """The sum of the slices of the values that `get` returns for the paths; None if it returns none.

        An array with a different shape than the parameter, such as a single number, is returned unchanged.
        """
        total: Array | None = None
        for path in self.paths:
            array = get(path)
            if array is None or array.shape != self.whole:
                return array
            array = self.part.select(array)
            total = array if total is None else total + array
        return total


@dataclass(frozen=True, slots=True)
class Match:
    """Two corresponding pieces, one of each side.

    Attributes:
        torch_piece, keras_piece: the two halves.
        layout: from the PyTorch to the Keras layout.
        offset: keras = layout(torch) + offset.
        buffer: a buffer on both sides.
        evidence: the evidence for a match without a map: "by value" if its outputs were found on the other side, "by
            name" if only its name distinguishes it from similar ones, "by structure" if it follows only from layer
            kinds, shapes and the order of use.
        basis: the observation behind it, in words, such as the call whose value the other side has; "" if none.
    """

    torch_piece: Piece
    keras_piece: Piece
    layout: Layout
    offset: float = 0.0
    buffer: bool = False
    evidence: str = ""
    basis: str = ""

    @property
    def torch(self) -> str:
        """The first canonical path on the PyTorch side."""
        return self.torch_piece.paths[0]

    @property
    def keras(self) -> str:
        """The first canonical path on the Keras side."""
        return self.keras_piece.paths[0]

    @property
    def trainable(self) -> bool:
        """Whether either side trains it."""
        return bool(self.torch_piece.trained or self.keras_piece.trained)

    @property
    def plain(self) -> bool:
        """Whether it matches one whole parameter with one whole parameter."""
        return self.torch_piece.plain and self.keras_piece.plain

    def piece(self, side: SideName) -> Piece:
        """The half of one side."""
        return self.torch_piece if side == "torch" else self.keras_piece

    def path(self, side: SideName) -> str:
        """The first canonical path on one side."""
        return self.piece(side).paths[0]

    def name(self, side: SideName) -> str:
        """Its name on one side, with the slice."""
        return self.piece(side).name

    def shape(self, side: SideName) -> Shape:
        """The shape of the piece on one side."""
        return self.piece(side).shape

    def to(self, side: SideName, array: Array) -> Array:
        """An array of the other side's piece in the layout of `side`: a gradient, an update."""
        if side == "keras":
            return self.layout.forward(array, self.keras_piece.shape)
        return self.layout.inverse(array, self.torch_piece.shape)

    def value_to(self, side: SideName, array: Array) -> Array:
        """A value of the other side's piece as `side` stores it."""
        moved = self.to(side, array)
        return moved + (self.offset if side == "keras" else -self.offset) if self.offset else moved

    def trained_part(self) -> Match:
        """The match without the terms that are not trained."""
        torch, keras = (replace(p, paths=p.trained or p.paths) for p in (self.torch_piece, self.keras_piece))
        return replace(self, torch_piece=torch, keras_piece=keras)

    def terms(self) -> tuple[Match, ...]:
        """The match; for a sum of trained parameters, one match for each of them: each has the same gradient."""
        torch, keras = (
            [
                replace(p, paths=(path,), trained=(path,) if path in p.trained else ())
                for path in p.trained or p.paths[:1]
            ]
            for p in (self.torch_piece, self.keras_piece)
        )
        return tuple(replace(self, torch_piece=t, keras_piece=k) for t in torch for k in keras)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A match that could be a different one.

    Attributes:
        torch, keras: names of the pieces.
        detail: the alternatives, and why they are open.
    """

    torch: str
    keras: str
    detail: str

    def about(self, path: str) -> bool:
        """Whether a PyTorch path is in one of the pieces."""
        return any(path == name or path.startswith(f"{name}.") for name in self.torch.split(", "))


@dataclass(frozen=True, slots=True)
class PackedOrder:
    """An order of the outputs of dense layers under which the sides agree, unlike as the plan takes them.

    Attributes:
        matches: the parameters through the layouts that agree; the plan has them through the usual ones.
        layers: paths of the first of these layers.
        orders: sizes of the parts on each side, the outermost first.
        without, with_: error, allowance and number of elements of the outputs, with drawn weights and inputs.
    """

    matches: tuple[Match, ...]
    layers: Mapping[SideName, str]
    orders: Mapping[SideName, tuple[int, ...]]
    without: tuple[float, float, int]
    with_: tuple[float, float, int]


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """Which parameters and buffers of the two sides are compared with each other.

    Attributes:
        reference: the side whose names and layouts the comparison uses.
        matches: parameters, then buffers.
        waived: path -> reason.
        unmatched_torch, unmatched_keras: canonical paths of parameters with elements without a counterpart.
        unmatched_buffers: (side, path) of buffers without a counterpart; they count only if training changes them.
        copies: canonical PyTorch paths of parameters with several declared Keras copies, kept equal by the pair's code.
        doubts: matches that values could not decide.
        idle: unmatched parameters that no output depends on; steps can be made without them.
        frozen: unmatched parameters that are not trained; each side keeps its initial values.
        doings: path of an unmatched parameter -> its use, in words.
        proven: all compared outputs agree with other weights and on other inputs, too; None if that was not tried or
            could not be decided.
        unproven: why it is not proven, if that was tried.
        open: PyTorch names of matches with possible alternatives.
        tried: how many alternatives were tried for a plan that is not proven.
        exhausted: these were all possible alternatives for the values that differ.
        packed: dense layers whose outputs are ordered differently, the only difference of the sides; None for none.
    """

    reference: SideName
    matches: tuple[Match, ...]
    waived: Mapping[str, str] = field(default_factory=dict[str, str])
    unmatched_torch: tuple[str, ...] = ()
    unmatched_keras: tuple[str, ...] = ()
    unmatched_buffers: tuple[tuple[SideName, str], ...] = ()
    copies: frozenset[str] = frozenset()
    doubts: tuple[Doubt, ...] = ()
    idle: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    doings: Mapping[str, str] = field(default_factory=dict[str, str])
    proven: bool | None = None
    unproven: str = ""
    open: frozenset[str] = frozenset()
    tried: int = 0
    exhausted: bool = True
    packed: PackedOrder | None = None

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

    @property
    def proof(self) -> str:
        """The proof of the whole plan, in words; "" if it was not tried."""
        lone = [path for path in self.unmatched(self.reference) if path not in self.idle]
        if self.proven:
            but = f", with {', '.join(lone)} set to a neutral value" if lone else ""
            return f"proven: all outputs agree with other weights and on other inputs{but}"
        return f"not proven: with other weights and on other inputs {self.unproven}" if self.unproven else ""

    @property
    def mapped(self) -> bool:
        """Whether it comes only from the user's map."""
        return not any(m.evidence for m in self.parameters)

    def unmatched(self, side: SideName) -> tuple[str, ...]:
        """Canonical paths of parameters of a side with elements without a counterpart."""
        return self.unmatched_torch if side == "torch" else self.unmatched_keras

    @property
    def needed(self) -> tuple[str, ...]:
        """Unmatched parameters that prevent the sides from starting in the same state.

        If all parameters of the follower have a counterpart, it can be set from the reference. A parameter that exists
        only in the reference is then a difference that the steps show.
        """
        known = {path for m in self.parameters for path in m.piece(self.reference).paths}
        open_, lone = (
            [path for path in self.unmatched(side) if path not in (*self.idle, *self.frozen)]
            for side in (self.follower, self.reference)
        )
        follows = bool(self.parameters) and not (open_ or self.doubts or known & set(lone))
        return () if follows else (*lone, *open_)

    @property
    def trained(self) -> tuple[Match, ...]:
        """The matches that have a gradient, one for each term of a sum."""
        return tuple(term for m in self.parameters if m.trainable for term in m.terms())

    def copies_of(self, match: Match) -> tuple[Match, ...]:
        """The matches of all copies of a parameter; none if no copies are declared."""
        return tuple(m for m in self.parameters if m.torch == match.torch) if match.torch in self.copies else ()

    def for_follower(self, state: State, *, slots: bool) -> State:
        """A state of the reference in the names and layouts of the other side.

        Unmatched elements of a partly matched parameter are zero. If the other side sums several parameters, the first
        trained one gets the value, and the others zero.

        Args:
            state: of the reference.
            slots: also transfer the optimizer's slots; those of a scalar role are copied.
        """
        follower = self.follower
        parameters: dict[str, Array] = {}
        buffers: dict[str, Array] = {}
        slots_of: dict[str, dict[str, Array]] = {}  # role -> path -> value
        for m in self.matches:
            mine, theirs = m.piece(self.reference), m.piece(follower)
            value = mine.total(state.value)
            assert value is not None
            _put(buffers if m.buffer else parameters, theirs, m.value_to(follower, value), alone=True)
            if slots and not m.buffer:
                trained = replace(theirs, paths=theirs.trained or theirs.paths)
                for role, slot in _slots(mine, state).items():
                    moved = m.to(follower, slot) if slot.shape == mine.shape else slot
                    _put(slots_of.setdefault(role, {}), trained, moved, alone=role in ADDED_UP)
        return State(
            parameters,
            buffers,
            {path: {role: by[path] for role, by in slots_of.items() if path in by} for path in parameters},
            state.updates,
        )


def _slots(piece: Piece, state: State) -> dict[str, Array]:
    """Role -> slot of a piece; all terms of a sum have the same gradients, and so the same slots."""
    trained = replace(piece, paths=piece.trained or piece.paths)
    found: dict[str, Array] = {}
    for role in dict.fromkeys(role for path in trained.paths for role in state.slots.get(path, {})):
        of = trained if role in ADDED_UP else replace(trained, paths=trained.paths[:1])
        total = of.total(lambda path, role=role: state.slots.get(path, {}).get(role))
        if total is not None:
            found[role] = total
    return found


def _put(target: dict[str, Array], piece: Piece, value: Array, *, alone: bool) -> None:
    """Set a piece to a value; `alone`: one term of a sum gets it and the others get zero, otherwise each gets it."""
    first = (piece.trained or piece.paths)[0]
    for path in piece.paths:
        array = value if path == first or not alone else np.zeros_like(value)
        if piece.part.cuts and array.ndim:
            whole = target.setdefault(path, np.zeros(piece.whole, array.dtype))
            piece.part.fill(whole, array)
        else:
            target[path] = array
