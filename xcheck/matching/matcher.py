"""The state of matching by value: the guesses, the values of both sides under them, and which values agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import UserCodeError
from ..pairs.pair import Batch, WeightTarget
from ..records.calls import Call, Calls, Swap, everywhere
from ..records.inventory import Inventory
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State
from .activations import Look
from .by_map import MapReader
from .dataflow import Flow, Place, in_place, size_of
from .fingerprints import Known, in_shape_of, nearly
from .guess import Guess
from .initial_values import as_loaded
from .layers import STATISTICS, Unit, again, units_of
from .lively import lively
from .matchable import Matchable
from .partial_run import Following
from .plan import MatchPlan
from .sequences import Group, aligned

SPREAD = 0.1
"""Relative size of the random change of each parameter: large enough to distinguish any two weights, small enough to
keep the behaviour of the model."""

FEW = 2
"""Number of examples that is enough to distinguish values."""


class Matcher:
    """The sides with unique weights, and the guesses about them.

    Attributes:
        reference, follower: the sides.
        torch, keras: their inventories.
        batch: their input.
        units: the layers with parameters of each side.
        calls: of the reference.
        known: its activations.
        guesses: the current ones.
        shared: further matches, if the follower calls one layer for several of the reference; its values are those of
            the first.
        forced: names of calls of the follower whose outputs are replaced by those of the reference; None: its
            partner's.
        looks: how often the follower was run.
        traces: calls of each side with its initial weights, functions included.
        flows: the layers before and after each layer of each side, if several layers are similar.
    """

    def __init__(
        self,
        reference: Matchable,
        follower: Matchable,
        batch: Batch,
        weight_map: Mapping[str, WeightTarget],
        seed: int,
    ) -> None:
        self.reference, self.follower = reference, follower
        self._following = Following(follower)
        inventories = {runner.side: runner.inventory() for runner in (reference, follower)}
        self.torch, self.keras = inventories["torch"], inventories["keras"]
        self._weight_map = weight_map
        self.forced: dict[str, Mapping[str, Array] | None] = {}
        self.guesses: list[Guess] = []
        self.shared: list[Guess] = []
        self.looks = 0
        self.flows: dict[SideName, Flow] = {}
        fixed = self._reader().builder.plan(reference.side)
        before = {runner.side: runner.read() for runner in (reference, follower)}
        _unique(reference, seed)
        self.batch = _few(batch)
        kept = follower.snapshot()
        try:
            calls, others = (lively(runner, self.batch, seed) for runner in (reference, follower))
        except UserCodeError:  # a model that needs the whole batch
            self.batch = batch
            calls, others = (lively(runner, batch, seed) for runner in (reference, follower))
        self.state = reference.read()
        self._seen(calls)
        self.units: dict[SideName, tuple[Unit, ...]] = {}
        for side, every in zip((reference.side, follower.side), (calls, others), strict=True):
            trace = tuple(call for call in every if not call.function)
            done = {path for m in fixed.matches for path in m.piece(side).paths} | set(fixed.waived)
            self.units[side] = units_of(inventories[side], trace, done, every)
        self.traces: dict[SideName, Calls] = {reference.side: calls, follower.side: others}
        groups, alone = self._placed(self.traces)
        follower.restore(kept)
        self.guesses = [Guess(group) for group in groups]
        for guess in self.guesses:
            guess.decided = id(guess.group) in alone
            guess.placed = guess.decided
        for guess in self.guesses:
            as_loaded(guess, before["torch"], before["keras"])
        # The remaining layers may be copies of a layer that the other side calls again, or vice versa.
        mine, theirs = reference.side, follower.side
        self.guesses += self._again({mine: again(self.units[mine]), theirs: self.left(theirs)})
        self.shared = self._again({mine: self.left(mine), theirs: again(self.units[theirs])})

    def _placed(self, traces: Mapping[SideName, Calls]) -> tuple[list[Group], set[int]]:
        """The aligned groups, similar ones reordered by their place in the dataflow; which places are unique."""
        groups = aligned(self.units["torch"], self.units["keras"])
        if len({size_of(group) for group in groups}) == len(groups):
            return groups, set()
        outputs = {runner.side: runner.infer(self.batch) for runner in (self.reference, self.follower)}
        inventories: dict[SideName, Inventory] = {"torch": self.torch, "keras": self.keras}
        for side, inventory in inventories.items():
            self.flows[side] = Flow(self.units[side], inventory, traces[side], outputs[side])
        names = outputs["torch"].keys() & outputs["keras"].keys()
        return in_place(groups, [*self.flows.values()], [self.units["torch"], self.units["keras"]], names)

    @staticmethod
    def _again(units: Mapping[SideName, Sequence[Unit]]) -> list[Guess]:
        return [Guess(group) for group in aligned(units["torch"], units["keras"])]

    def _reader(self) -> MapReader:
        reader = MapReader(self.torch, self.keras)
        reader.add_all(self._weight_map)
        return reader

    def plan(self) -> MatchPlan:
        """The plan of the map and the guesses."""
        reader = self._reader()
        for guess in (*self.shared, *self.guesses):  # later matches set the values
            for match, entries, others in guess.matches(self.torch, self.keras):
                reader.builder.add(match, entries, others)
        reader.builder.add_buffers(likely=True)
        return reader.builder.plan(self.reference.side)

    def mark(self) -> Callable[[], None]:
        """Remember the current guesses; returns a function that restores them."""
        guesses = [(guess, guess.group, guess.variant, guess.by_value) for guess in self.guesses]
        forced = dict(self.forced)

        def back() -> None:
            self.guesses[:] = [guess for guess, *_ in guesses]
            self.forced.clear()
            self.forced.update(forced)
            for guess, group, variant, by_value in guesses:
                guess.group, guess.variant, guess.by_value = group, variant, by_value

        return back

    def look(self) -> Look:
        """Run the follower with the reference's weights under the current guesses."""
        self.looks += 1
        return Look(self._following.whole(*self._what_to_run()), self.known, self.forced)

    def glimpse(self, look: Look, at: int) -> Look | None:
        """Run as much of the follower as needed to see whether the current guesses make one call known.

        Args:
            look: the last one.
            at: position of the call in it.

        Returns:
            None if that needs a whole run.
        """
        calls = self._following.part(*self._what_to_run(), look.last_of(at))
        if calls is None or len(calls) <= at or calls[at].name != look.seen[at].call.name:
            return None
        self.looks += 1
        return Look(calls, self.known, self.forced, whole=False)

    def _what_to_run(self) -> tuple[State, Batch, Swap | None]:
        return self.plan().for_follower(self.state, slots=False), self.batch, self._swap if self.forced else None

    def add_noise(self) -> bool:
        """Use inputs with noise from now on; False if no input takes noise, or a model refuses it."""
        noisy = _noisy(self.batch)
        if noisy is None:
            return False
        try:
            calls = self.reference.calls(noisy, inside=everywhere)
            self.follower.calls(noisy)
        except UserCodeError:
            return False
        self._quiet = self.batch, self.calls, self.known
        self.batch = noisy
        self._seen(calls)
        return True

    def renew(self, state: State) -> None:
        """Set values of the reference and record its activations again.

        Args:
            state: values of some parameters.

        Raises:
            UserCodeError: the model cannot be called with them.
        """
        self.reference.write(state)
        self.state = self.reference.read()
        self._seen(self.reference.calls(self.batch, inside=everywhere))

    def _seen(self, calls: Calls) -> None:
        """Store the activations of the reference."""
        self.calls: Calls = tuple(call for call in calls if not call.function)
        self.functions: Calls = tuple(call for call in calls if call.function and call.parameters)
        self.known: Known = Known(calls)
        self._bare: dict[str, Call] = {p: call for call in reversed(calls) if call.function for p in call.parameters}

    def without_noise(self) -> None:
        """Undo `add_noise`."""
        self.batch, self.calls, self.known = self._quiet

    def _swap(self, call: Call) -> Mapping[str, Array] | None:
        return (self.forced[call.name] or self.instead(call)) if call.name in self.forced else None

    def nearly(self, call: Call) -> Mapping[str, Array] | None:
        """The value of the reference that differs from the output of a call of the follower only by a setting; None if
        there is none."""
        near: dict[str, Array] = {}
        for other in self.reference.calls(self.batch, inside=everywhere):
            for name, own in call.outputs.items():
                if name not in near:
                    found = next((a for array in other.outputs.values() if (a := nearly(array, own)) is not None), None)
                    near |= {} if found is None else {name: found}
        return near if near and len(near) == len(call.outputs) else None

    def instead(self, call: Call) -> Mapping[str, Array] | None:
        """The output of the reference that corresponds to this call of the follower; None if unknown.

        It is the output of the smallest module whose parameters are exactly the partners of those of the call: a layer
        of several kernels may be one module, and a module of several may be one layer.
        """
        mine, theirs = self.reference.side, self.follower.side
        about = [g for g in self.guesses if any(_within(u, call.path) for u in g.units(theirs))]
        if not about or not all(_within(u, call.path) for g in about for u in g.units(theirs)):
            return None
        partners = [unit for guess in about for unit in guess.units(mine)]
        around = [c for c in self.calls if c.path and all(_within(unit, c.path) for unit in partners)]
        whole = max((c.path for c in around), key=len, default="")
        held = [guess for guess in self.guesses if any(_within(unit, whole) for unit in guess.units(mine))]
        made = next((c for c in around if c.path == whole and c.number == call.number), None)
        if made is None or len(held) != len(about):
            return None
        arrays = list(made.outputs.values())
        found: dict[str, Array] = {}
        for at, (name, own) in enumerate(call.outputs.items()):
            several = arrays[at : at + 1] if len(arrays) == len(call.outputs) else arrays
            fitted = next((f for a in several if (f := in_shape_of(a, own.shape)) is not None), None)
            found |= {} if fitted is None else {name: fitted}
        return found if len(found) == len(call.outputs) else None

    def guess_of(self, owner: str) -> Guess | None:
        """The guess about a layer of the follower."""
        side = self.follower.side
        return next((g for g in self.guesses for u in g.units(side) if u.owner == owner), None)

    def beside(self, guess: Guess, which: Literal["before", "behind"]) -> set[Place] | None:
        """The neighbours of the single layer of a guess in the follower's dataflow; None if unknown."""
        side = self.follower.side
        units = guess.units(side)
        at = next((i for i, unit in enumerate(self.units[side]) if unit is units[0]), None)
        if side not in self.flows or at is None or len(units) > 1:
            return None
        return getattr(self.flows[side], which)[at]

    def before(self, call: Call) -> list[Guess]:
        """The guesses for layers that contribute to the inputs of a call of the follower; all guesses if unknown."""
        side = self.follower.side
        places = self.flows[side].before_call(call) if side in self.flows else None
        if places is None:
            return self.guesses
        units = {id(self.units[side][at]) for at in places}
        return [g for g in self.guesses if any(id(u) in units for u in g.units(side))]

    def only(self, places: Collection[Place]) -> Guess | None:
        """The guess for the single layer of the follower at some places."""
        at = next(iter(places)) if len(places) == 1 else None
        unit = self.units[self.follower.side][at] if isinstance(at, int) else None
        return next((g for g in self.guesses if any(u is unit for u in g.units(self.follower.side))), None)

    def left(self, side: SideName) -> list[Unit]:
        """The layers of a side without a guess."""
        done = {id(unit) for guess in (*self.shared, *self.guesses) for unit in guess.units(side)}
        return [unit for unit in self.units[side] if id(unit) not in done]

    def calls_of(self, unit: Unit) -> tuple[Call, ...]:
        """The calls of a layer of the reference, or of the functions that use its parameters."""
        bare = (self._bare.get(e.path) for e in unit.entries if not unit.calls)
        return tuple(self.calls[at] for at in unit.calls) or tuple(call for call in bare if call is not None)


def _within(unit: Unit, path: str) -> bool:
    """Whether a layer is at a path or inside it."""
    return unit.owner == path or unit.owner.startswith((f"{path}.", f"{path}/"))


def _few(batch: Batch) -> Batch:
    """The first `EXAMPLES` examples of a batch."""

    def cut(array: Array) -> Array:
        return array[:FEW]

    compare = None if batch.compare is None else {name: mask[:FEW] for name, mask in batch.compare.items()}
    return replace(batch, inputs=_each(batch.inputs, cut), targets=_each(batch.targets, cut), compare=compare)


def _noisy(batch: Batch) -> Batch | None:
    """A batch with noise on every input of measured numbers; None if there is none."""
    rng = np.random.default_rng(0)
    changed: list[bool] = []

    def moved(array: Array) -> Array:
        if array.dtype.kind != "f" or np.array_equal(array, np.round(array)):
            return array
        changed.append(True)
        return _moved(array, rng)

    inputs = _each(batch.inputs, moved)
    return replace(batch, inputs=inputs) if changed else None


def _each(arrays: Any, change: Callable[[Array], Array]) -> Any:
    if isinstance(arrays, Mapping):
        return {name: change(array) for name, array in arrays.items()}  # pyright: ignore
    if isinstance(arrays, tuple):
        return tuple(change(array) for array in arrays)  # pyright: ignore
    return None if arrays is None else change(arrays)


def _unique(runner: Matchable, seed: int) -> None:
    """Give every parameter, and the statistics of normalizations, unique numbers."""
    rng = np.random.default_rng([seed, 6])
    before = runner.read()
    statistics = {e.path for e in runner.inventory().buffers() if e.role in STATISTICS}
    kept = _tables(runner.inventory(), before.parameters)
    parameters = {p: array if p in kept else _moved(array, rng) for p, array in before.parameters.items()}
    buffers = {path: _moved(array, rng) for path, array in before.buffers.items() if path in statistics}
    runner.write(State(parameters, buffers))


def _tables(inventory: Inventory, parameters: Arrays) -> set[str]:
    """Frozen parameters that already have unique numbers, such as a table that the other side computes."""
    frozen = {e.path for e in inventory.entries if not e.trainable} & parameters.keys()
    often = Counter(parameters[path].tobytes() for path in frozen)
    own = (p for p in frozen if often[parameters[p].tobytes()] == 1 and parameters[p].ndim > 1)
    return {path for path in own if len(np.unique(parameters[path])) > parameters[path].size // 2}


def _moved(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    size = float(np.sqrt(np.mean(array.astype(np.float64) ** 2))) if array.size else 0.0
    return np.asarray(array + SPREAD * (size or 1.0) * rng.uniform(-1.0, 1.0, array.shape), array.dtype)
