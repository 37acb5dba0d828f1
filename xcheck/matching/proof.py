"""The proof of a plan: both models agree under it, with weights and inputs drawn only for this test.

A match found on a few examples is only a claim: exchanged similar layers agree locally, too, and a transposed square
kernel may go unnoticed if little depends on it. A plan under which all outputs agree with other weights and on other
inputs is right, however it was found, except for layers that the models themselves do not distinguish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..errors import UserCodeError
from ..numerics.compare import masked, measurable, rms
from ..numerics.judge import Frame, Item, compare_items
from ..numerics.tolerance import TWINS, epsilon
from ..pairs.pair import Batch
from ..records.result import Check, Verdict
from ..records.trace import Array, Arrays, State
from .draws import drawn_batch, drawn_weights, each_input
from .matchable import Matchable
from .plan import MatchPlan

EPS = epsilon("float64")


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a proof.

    Attributes:
        agrees: all outputs agree; None if none could be compared.
        detail: why the proof failed, with the numbers; "" if it did not.
        differing: names of the outputs that differ.
        worst: error, allowance and number of elements of the output that is nearest to its allowance, or furthest
            beyond it.
    """

    agrees: bool | None
    detail: str = ""
    differing: tuple[str, ...] = ()
    worst: tuple[float, float, int] = (0.0, 0.0, 0)


class _Made(NamedTuple):
    """The outputs of the reference for drawn weights and inputs."""

    state: State
    batch: Batch
    outputs: Arrays
    terms: int


class Prover:
    """Judges plans by runs of both sides, and restores the sides.

    Args:
        reference, follower: the sides, in float64.
        batch: the drawn inputs are similar to it.
        seed: of the draws.

    Attributes:
        runs: how often the follower was run.
    """

    def __init__(self, reference: Matchable, follower: Matchable, batch: Batch, seed: int) -> None:
        self.reference, self.follower = reference, follower
        self.runs = 0
        self._batch, self._seed = batch, seed
        self._made: dict[int, _Made | None] = {}
        self._judged: dict[object, Proof] = {}
        self._twins: dict[int, tuple[Arrays, ...]] = {}

    def judge(self, plan: MatchPlan) -> Proof:
        """Whether both sides compute the same under a plan.

        Args:
            plan: its unmatched parameters keep their values on each side.
        """
        if plan.needed and (plan.unmatched_torch or plan.unmatched_keras):
            return Proof(None, "parameters are unmatched")
        key = frozenset((m.name("torch"), m.layout.name, m.name("keras"), m.offset) for m in plan.matches)
        if key not in self._judged:
            self._judged[key] = self._judge(plan)
        return self._judged[key]

    def as_they_stand(self, plan: MatchPlan) -> list[Check]:
        """Checks of the outputs of both sides for the batch with their current weights."""
        state, outputs = self.reference.read(), self.reference.infer(self._batch)
        sizes = (array.size for array in (*state.parameters.values(), *outputs.values()))
        made = _Made(state, self._batch, outputs, max([self._batch.terms(), *sizes]))
        own = self.follower.infer(self._batch)
        checks = self._checks(plan, made, own, _ATTEMPTS, alone=True)
        different = any(c.verdict is Verdict.DIFFERENT for c in checks)
        return self._checks(plan, made, own, _ATTEMPTS, alone=False) if different else checks

    def _judge(self, plan: MatchPlan) -> Proof:
        why = "the models raise with randomly drawn weights"
        for attempt in range(_ATTEMPTS):
            made = self._reference(plan, attempt)
            own = None if made is None else self._follower(plan, made)
            if made is None or own is None:
                continue
            checks = self._checks(plan, made, own, attempt, alone=True)
            if any(c.verdict is Verdict.DIFFERENT for c in checks):
                checks = self._checks(plan, made, own, attempt, alone=False)
            different = [c for c in checks if c.verdict is Verdict.DIFFERENT]
            sizes = {mine: array.size for mine, array in made.outputs.items()}
            if different:
                names = tuple(c.name for c in different)
                return Proof(False, _told(different[0]), names, _worst(different, sizes))
            if checks and all(c.verdict is Verdict.EQUIVALENT for c in checks):
                return Proof(True, worst=_worst(checks, sizes))
            why = next((f"{c.name}: {c.detail}" for c in checks if c.detail), "no output of both sides was compared")
        return Proof(None, why)

    def _reference(self, plan: MatchPlan, attempt: int) -> _Made | None:
        """The outputs of the reference with drawn weights, computed once for all plans."""
        if attempt not in self._made:
            self._made[attempt] = None
            kept = self.reference.snapshot()
            with suppress(UserCodeError):
                held = {path for m in plan.matches for path in m.piece(plan.reference).paths}
                self.reference.write(drawn_weights(self.reference, held, self._seed, bold=attempt == 0))
                batch = drawn_batch(self._batch, [self._seed, attempt]) if attempt < _ATTEMPTS - 1 else self._batch
                state, outputs = self.reference.read(), self.reference.infer(batch)
                arrays = (*state.parameters.values(), *outputs.values())
                terms = max([batch.terms(), *(array.size for array in arrays)])
                self._made[attempt] = _Made(state, batch, outputs, terms)
            self.reference.restore(kept)
        return self._made[attempt]

    def _follower(self, plan: MatchPlan, made: _Made, moving: list[int] | None = None) -> Arrays | None:
        kept = self.follower.snapshot()
        try:
            self.follower.write(plan.for_follower(made.state, slots=False))
            if moving is None:
                self.runs += 1
                return self.follower.infer(made.batch)
            with self.follower.islands.moving(moving):
                return self.follower.infer(made.batch)
        except UserCodeError:
            return None
        finally:
            self.follower.restore(kept)

    def _checks(self, plan: MatchPlan, made: _Made, own: Arrays, attempt: int, *, alone: bool) -> list[Check]:
        """One check per output.

        Args:
            plan: under which the follower was run.
            made: outputs of the reference.
            own: outputs of the follower.
            attempt: number of the draw.
            alone: use only the formula of the allowance; otherwise also measure the effect of rounding on the
                reference.
        """
        twins = () if alone else self._perturbed(made, attempt)
        moved = () if alone else tuple(self._moved(plan, made, own))
        masks = made.batch.compare or {}
        items: list[Item] = []
        for mine, theirs in _pairs(made.outputs, own):
            mask = masks.get(mine, masks.get(theirs))
            both = _masked(made.outputs.get(mine), mask), _masked(own.get(theirs), mask)
            nudged = tuple(_masked(twin.get(mine), mask) for twin in twins)
            others = tuple((_masked(a.get(mine), mask), _masked(b.get(theirs), mask)) for a, b in moved)
            items.append(Item(mine, mine, theirs, *both, nudged, moved=others))
        sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
        frame = Frame("forward", "float64", None, plan.reference, made.terms, made.batch.terms())
        return compare_items(frame, items, floor=EPS * max(sizes, default=0.0))

    def _perturbed(self, made: _Made, attempt: int) -> tuple[Arrays, ...]:
        """The outputs of the reference with every number perturbed by one rounding error, once per twin of a step."""
        if attempt not in self._twins:
            found: list[Arrays] = []
            kept = self.reference.snapshot()
            for twin in range(TWINS):
                rng = np.random.default_rng([self._seed, attempt, twin])
                held = {path: _nudged(array, rng) for path, array in made.state.parameters.items()}
                self.reference.write(State(held, made.state.buffers))
                batch = replace(made.batch, inputs=each_input(made.batch.inputs, lambda a, rng=rng: _nudged(a, rng)))
                with self.reference.rounding(rng):
                    found.append(self.reference.infer(batch))
            self.reference.restore(kept)
            self._twins[attempt] = tuple(found)
        return self._twins[attempt]

    def _moved(self, plan: MatchPlan, made: _Made, own: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
        """Outputs of both sides with their float32 numbers moved."""
        if not (self.reference.islands.places() or self.follower.islands.places()):
            return
        for twin in range(TWINS):
            seed = [self._seed, twin]
            kept = self.reference.snapshot()
            self.reference.write(State(made.state.parameters, made.state.buffers))
            with self.reference.islands.moving(seed):
                mine = self.reference.infer(made.batch)
            self.reference.restore(kept)
            yield mine, self._follower(plan, made, seed) or own


_ATTEMPTS = 3
"""The draws to try until a model accepts one and its outputs can be compared: weights of ordinary size with other
inputs, weights near the initial ones with other inputs, and the latter with the given inputs."""


def _worst(checks: Sequence[Check], sizes: Mapping[str, int]) -> tuple[float, float, int]:
    measured = [(c.error, c.allowed, sizes.get(c.name, 1)) for c in checks if c.error is not None and c.allowed]
    return max(measured, key=lambda one: one[0] / one[1], default=(0.0, 0.0, 0))


def _told(check: Check) -> str:
    if check.error is None or check.allowed is None:
        return f"{check.name}: {check.detail}"
    return f"{check.name}: error {check.error:.1e}, rounding explains {check.allowed:.1e}"


def _pairs(reference: Arrays, other: Arrays) -> list[tuple[str, str]]:
    """Pairs of output names; if each side has one output, names do not matter."""
    if len(reference) == len(other) == 1:
        return [(next(iter(reference)), next(iter(other)))]
    return [(name, name) for name in dict.fromkeys([*reference, *other])]


def _masked(array: Array | None, mask: Array | None) -> Array | None:
    with suppress(ValueError):  # a mask that does not fit is reported when the steps are compared
        return array if array is None else masked(array, mask)
    return array


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    """Each float moved by one relative rounding error."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1.0 + EPS * rng.choice(np.array([-1.0, 1.0]), size=array.shape)), array.dtype)
