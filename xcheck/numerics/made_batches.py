"""Batches made from given ones: where their values, sizes and masks do not go, two models may still differ.

A ReLU6 is a ReLU below 6, a clipping threshold shows where a gradient reaches it, a padding id where a row is padded.
Each batch changes one thing and stays valid for a model that takes the given ones: whole numbers stay among those seen,
or from 0 to the largest; what lies in [0, 1], sums to one, is boolean or has one sign stays so. Weights may be any
numbers, so a batch may also go with other weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..records.sides import SideName
from ..records.trace import Array, Arrays

LARGE, SMALL, HUGE = 20.0, 0.01, 1000.0
"""Factors: past the thresholds of usual activations, beside the epsilons of usual norms, and those of clipping."""

HEAVY = 4.0
"""Factor of weights: what a normalization leaves of unit size gets past the thresholds of usual activations."""

MOST = 1_000_000
"""Whole numbers above are not multiplied, nor counted up to."""

Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Flat:
    """A batch as named arrays, the examples on their first axis.

    Attributes:
        inputs, targets: name -> array.
        compare: name -> positions of an output that mean something.
    """

    inputs: Arrays
    targets: Arrays = field(default_factory=dict[str, Array])
    compare: Arrays = field(default_factory=dict[str, Array])

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.inputs.values())))

    def each(self, change: Change) -> Flat:
        """The batch with every array changed."""
        return Flat(*({name: change(a) for name, a in of.items()} for of in (self.inputs, self.targets, self.compare)))


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """A batch made from a given one, or the given one with other weights.

    Attributes:
        name: what it is, as in "on the given batch NAME".
        batch: itself.
        usual: part of a default run, since it is valid whatever the numbers stand for: other sizes of numbers that may
            be any, other weights, fewer examples.
        mask: positions that mean something, where rows are padded.
        weights: (value, side that it is of) -> value to take in its place.
        ties: equal numbers are what is asked about.
    """

    name: str
    batch: Flat
    usual: bool = True
    mask: Array | None = None
    weights: Callable[[Array, SideName], Array] | None = None
    ties: bool = False


@dataclass(frozen=True, slots=True)
class GivenBatches:
    """The batches of a pair, and what their numbers may stand for, by all that is seen of them.

    Attributes:
        batches: at least one; the last is the one to change.
        kinds, of_targets: name -> see `kind_of`, of inputs and of targets.
    """

    batches: Sequence[Flat]
    kinds: Mapping[str, str]
    of_targets: Mapping[str, str]

    @classmethod
    def of(cls, batches: Sequence[Flat]) -> GivenBatches:
        """The batches, looked at."""
        inputs = {name: kind_of([b.inputs[name] for b in batches], name) for name in batches[-1].inputs}
        return cls(batches, inputs, {n: kind_of([b.targets[n] for b in batches], n) for n in batches[-1].targets})

    @property
    def last(self) -> Flat:
        """The batch to change."""
        return self.batches[-1]

    def inputs(self, change: Mapping[str, Change]) -> Flat:
        """The last batch with inputs of some kinds changed."""
        return replace(self.last, inputs=_changed(self.last.inputs, self.kinds, change))

    def targets(self, change: Mapping[str, Change]) -> Flat:
        """The last batch with targets of some kinds changed."""
        return replace(self.last, targets=_changed(self.last.targets, self.of_targets, change))


def _changed(arrays: Arrays, kinds: Mapping[str, str], change: Mapping[str, Change]) -> Arrays:
    """The arrays, those of some kinds changed, in the dtype that they have."""
    return {n: np.asarray(change[kinds[n]](a), a.dtype) if kinds[n] in change else a for n, a in arrays.items()}


def kind_of(arrays: Sequence[Array], name: str = "") -> str:
    """What the numbers of an array may stand for, by all that is seen of them.

    Args:
        arrays: of one name, of several batches.
        name: theirs.

    Returns:
        "mask" (0 and 1), "whole" (whole numbers), "rows" (sum to one along the last axis), "shares" (in [0, 1]),
        "weights" (ones, by their name), "positive", "real", or "fixed", which is left as it is.
    """
    numbers = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
    whole = bool((numbers == np.round(numbers)).all())
    summed = all(a.ndim > 1 and a.shape[-1] > 1 and np.allclose(a.sum(-1), 1, atol=1e-5) for a in arrays)
    if not np.isfinite(numbers).all() or not numbers.any():
        return "fixed"
    if arrays[0].dtype.kind == "f" and (numbers == 1).all() and "weight" in name.lower():
        return "weights"
    if summed and numbers.min() >= 0:
        return "rows"
    if np.isin(numbers, (0.0, 1.0)).all():
        return "mask"
    if whole:
        return "whole"
    return "real" if numbers.min() < 0 else "shares" if numbers.max() <= 1 else "positive"


def made_batches(given: GivenBatches, *, ignored: int | None = None, beyond: bool = False) -> list[MadeBatch]:
    """Change the last of the given batches in one way after the other.

    Args:
        given: of one pair.
        ignored: a label that a loss is set to leave out.
        beyond: whole numbers larger than those seen may be tried: where they are indices, a side refuses them.

    Returns:
        The batches, those first that show the most; none that equals the given one.
    """
    made = [*_labels(given, ignored), *_sized(given), *_sizes(given), *_whole(given, beyond), *_examples(given.last)]
    made += _alike(given)
    return [m for m in made if m.weights is not None or not _same(m.batch, given.last)]


def _same(one: Flat, other: Flat) -> bool:
    parts = ((one.inputs, other.inputs), (one.targets, other.targets))
    return all(np.array_equal(a[name], b[name]) for a, b in parts for name in a)


def _times(factor: float) -> Change:
    return lambda a: a * factor


def _sized(given: GivenBatches) -> Iterator[MadeBatch]:
    """Numbers of other sizes."""
    free = ("real", "positive")
    yield MadeBatch("times 20", given.inputs(dict.fromkeys(free, _times(LARGE))))
    yield MadeBatch("with its targets times 1000", given.targets(dict.fromkeys(free, _times(HUGE))))
    yield MadeBatch("with weights times 4", given.last, weights=lambda a, _: a * HEAVY)
    yield MadeBatch("times 0.01", given.inputs(dict.fromkeys((*free, "shares"), _times(SMALL))))
    for batch in (given.inputs({"weights": _uneven}), given.targets({"weights": _uneven})):
        yield MadeBatch("with sample weights of 0.5, 1.5, 0 and 2", batch)
    yield MadeBatch("plus three times its spread", given.inputs(dict.fromkeys(free, _shifted)))
    yield MadeBatch("times 1000", given.inputs(dict.fromkeys(free, _times(HUGE))), usual=False)


def _uneven(weights: Array) -> Array:
    factors = np.resize([0.5, 1.5, 0.0, 2.0], len(weights))
    return weights * factors.reshape(-1, *[1] * (weights.ndim - 1))


def _shifted(a: Array) -> Array:
    return a + 3 * float(np.std(a))


def _alike(given: GivenBatches) -> Iterator[MadeBatch]:
    """Equal numbers."""
    numbers = ("real", "positive", "shares", "whole")
    yield MadeBatch("with one value everywhere", given.inputs(dict.fromkeys(numbers, _constant)), usual=False)
    yield MadeBatch(
        "with zeros everywhere", given.inputs(dict.fromkeys(("real", "shares"), np.zeros_like)), usual=False
    )
    yield MadeBatch(
        "with each second value that of the one before", given.inputs(dict.fromkeys(numbers, _in_twos)), False
    )
    yield MadeBatch("with weights of 0 that make ties", given.last, usual=False, weights=_without_one, ties=True)


def _constant(a: Array) -> Array:
    return np.full(a.shape, a.flat[0])


def _in_twos(a: Array) -> Array:
    """Equal numbers beside each other, along every axis but that of the examples and that of features or channels."""
    for axis in range(1, max(a.ndim - 1, 2)) if a.ndim > 1 else ():
        a = np.take(a, [at // 2 * 2 for at in range(a.shape[axis])], axis)
    return a


def _without_one(weight: Array, side: SideName) -> Array:
    """A matrix whose first output is 0 whatever goes in: with a bias, one number everywhere."""
    if weight.ndim < 2:
        return weight
    weight = weight.copy()
    weight[(0,) if side == "torch" else (..., 0)] = 0
    return weight


def _examples(last: Flat) -> Iterator[MadeBatch]:
    """Other numbers of examples."""
    if last.size == 1:
        yield MadeBatch("taken twice", last.each(lambda a: np.concatenate([a, a])))
        return
    yield MadeBatch("cut to one example", last.each(lambda a: a[:1]))
    some = last.size // 2 + 1
    if some < last.size:
        yield MadeBatch(f"cut to {some} of its {last.size} examples", last.each(lambda a: a[:some]))


def _sizes(given: GivenBatches) -> Iterator[MadeBatch]:
    """Images and sequences one position shorter and longer; what has as many positions changes with them."""
    sizes: dict[frozenset[int], None] = {}
    for name, a in given.last.inputs.items():
        if a.ndim > 3:  # an image, or a film
            channels = 1 if a.shape[1] < a.shape[-1] else a.ndim - 1
            sizes[frozenset(n for at, n in enumerate(a.shape) if at not in (0, channels))] = None
        elif (a.ndim == 3 and a.dtype.kind == "f") or (a.ndim == 2 and given.kinds[name] in ("whole", "mask")):
            sizes[frozenset({a.shape[1]})] = None
    for changed in sizes:
        if min(changed) > 2:
            of = " and ".join(map(str, sorted(changed)))
            yield MadeBatch(f"with sizes of {of} one shorter", _resized(given.last, changed, -1), usual=False)
            yield MadeBatch(f"with sizes of {of} one longer", _resized(given.last, changed, 1), usual=False)


def _resized(last: Flat, sizes: frozenset[int], by: int) -> Flat:
    def change(a: Array) -> Array:
        for axis, n in enumerate(a.shape):
            if axis and n in sizes:
                a = np.take(a, [at % n for at in range(n + by)], axis)  # one longer: the first once more
        return a

    return last.each(change)


def _labels(given: GivenBatches, ignored: int | None) -> Iterator[MadeBatch]:
    """Classes that no given batch has, and a label that a loss is set to leave out."""
    every, left_out = dict(given.last.targets), dict(given.last.targets)
    for name, a in given.last.targets.items():
        seen = [b.targets[name] for b in given.batches]
        if given.of_targets[name] in ("whole", "mask") and a.dtype.kind in "iu":
            most, labels = max(int(s.max()) for s in seen), np.unique(np.concatenate([s.ravel() for s in seen]))
            counted = np.array(range(a.size)).reshape(a.shape)
            if most < MOST and not {*range(most + 1)} <= {*labels.tolist()}:
                every[name] = np.where(a < 0, a, counted % (most + 1)).astype(a.dtype)
            if ignored is not None and ignored not in labels and a.size > 1 and a.dtype.kind == "i":
                left_out[name] = np.where(counted % 3 == 1, ignored, a).astype(a.dtype)
        elif given.of_targets[name] == "rows" and np.isin(a, (0, 1)).all():
            classes = a.shape[-1]
            if not np.concatenate([s.reshape(-1, classes) for s in seen]).any(0).all():
                every[name] = np.resize(np.eye(classes, dtype=a.dtype), a.shape)
    yield MadeBatch("with labels of every class", replace(given.last, targets=every), usual=False)
    yield MadeBatch(
        f"with the label {ignored}, which a loss leaves out", replace(given.last, targets=left_out), usual=False
    )


def _whole(given: GivenBatches, beyond: bool) -> Iterator[MadeBatch]:
    """Whole numbers beyond those seen, at their end, and in order."""

    def larger(a: Array) -> Array:
        return np.where(a > 0, a * int(HUGE), a) if a.dtype.kind == "i" and a.itemsize > 2 and a.max() < MOST else a

    if beyond:
        yield MadeBatch("with its whole numbers times 1000", given.inputs({"whole": larger}), usual=False)
    largest = given.inputs({"whole": lambda a: np.full(a.shape, a.max())})
    yield MadeBatch("with its largest whole number everywhere", largest, usual=False)
    in_order = given.inputs({"whole": lambda a: np.sort(a, axis=min(a.ndim - 1, 1))})
    yield MadeBatch("with its rows in order", in_order, usual=False)
