"""Batches made from the given ones: two models may differ at values, sizes and masks that the given batches lack.

A ReLU6 is a ReLU below 6, a clipping threshold shows only where a gradient reaches it, a padding id where a row is
padded. Each batch changes one property and stays valid for a model that accepts the given ones: integers stay among
the observed ones, or from 0 to the largest; values in [0, 1], sums of one, booleans and signs stay such. Weights may be
any numbers, so a batch may also come with different weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..records.sides import SideName
from ..records.trace import Array, Arrays

LARGE, SMALL, HUGE = 20.0, 0.01, 1000.0
"""Factors: to exceed the thresholds of usual activations, to approach epsilons of norms, to exceed clipping limits."""

HEAVY = 4.0
"""Factor of weights: normalized values of unit size then exceed the thresholds of usual activations."""

MOST = 1_000_000
"""Larger integers are neither multiplied nor enumerated."""

Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Flat:
    """A batch as named arrays, the examples on their first axis.

    Attributes:
        inputs, targets: name -> array.
        compare: name -> valid positions of an output.
    """

    inputs: Arrays
    targets: Arrays = field(default_factory=dict[str, Array])
    compare: Arrays = field(default_factory=dict[str, Array])

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(next(iter(self.inputs.values())))

    def each(self, change: Change) -> Flat:
        """The batch with every array changed."""
        return Flat(
            *({name: change(a) for name, a in arrays.items()} for arrays in (self.inputs, self.targets, self.compare))
        )


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """A batch made from a given one, or the given one with different weights.

    Attributes:
        name: completes "on the given batch NAME".
        batch: the batch.
        usual: part of a default run, since it is valid for any meaning of the numbers: different sizes of arbitrary
            numbers, different weights, fewer examples.
        mask: valid positions, where rows are padded.
        weights: (value, its side) -> value to use instead.
        ties: whether the batch tests equal numbers.
    """

    name: str
    batch: Flat
    usual: bool = True
    mask: Array | None = None
    weights: Callable[[Array, SideName], Array] | None = None
    ties: bool = False


@dataclass(frozen=True, slots=True)
class GivenBatches:
    """The batches of a pair, and the possible meanings of their numbers, by all observed values.

    Attributes:
        batches: at least one; the last is the one to change.
        kinds, of_targets: name -> see `kind_of`, of inputs and of targets.
    """

    batches: Sequence[Flat]
    kinds: Mapping[str, str]
    of_targets: Mapping[str, str]

    @classmethod
    def of(cls, batches: Sequence[Flat]) -> GivenBatches:
        """The batches, with the kinds of their arrays."""
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
    """The arrays, with those of some kinds changed; dtypes stay."""
    return {n: np.asarray(change[kinds[n]](a), a.dtype) if kinds[n] in change else a for n, a in arrays.items()}


def kind_of(arrays: Sequence[Array], name: str = "") -> str:
    """The possible meaning of the numbers of an array, by all observed values.

    Args:
        arrays: with one name, from several batches.
        name: their name.

    Returns:
        "mask" (0 and 1), "whole" (integers), "rows" (sum to one along the last axis), "shares" (in [0, 1]),
        "weights" (ones, by their name), "positive", "real", or "fixed" (never changed).
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
    """Change the last of the given batches, one property at a time.

    Args:
        given: of one pair.
        ignored: a label that a loss is set to ignore.
        beyond: whether to try integers above the observed ones: where they are indices, a side refuses them.

    Returns:
        The batches, the most informative first; none equals the given one.
    """
    batches = [
        *_labels(given, ignored),
        *_scaled(given),
        *_lengths(given),
        *_whole(given, beyond),
        *_examples(given.last),
    ]
    batches += _equal_numbers(given)
    return [m for m in batches if m.weights is not None or not _same(m.batch, given.last)]


def _same(batch: Flat, other: Flat) -> bool:
    parts = ((batch.inputs, other.inputs), (batch.targets, other.targets))
    return all(np.array_equal(a[name], b[name]) for a, b in parts for name in a)


def _times(factor: float) -> Change:
    return lambda a: a * factor


def _scaled(given: GivenBatches) -> Iterator[MadeBatch]:
    """Batches with numbers of different sizes."""
    free = ("real", "positive")
    yield MadeBatch("times 20", given.inputs(dict.fromkeys(free, _times(LARGE))))
    yield MadeBatch("with its targets times 1000", given.targets(dict.fromkeys(free, _times(HUGE))))
    yield MadeBatch("with weights times 4", given.last, weights=lambda a, _: a * HEAVY)
    yield MadeBatch("times 0.01", given.inputs(dict.fromkeys((*free, "shares"), _times(SMALL))))
    for batch in (given.inputs({"weights": _uneven}), given.targets({"weights": _uneven})):
        yield MadeBatch("with sample weights of 0.5, 1.5, 0 and 2", batch)
    yield MadeBatch("plus 3 times its standard deviation", given.inputs(dict.fromkeys(free, _shifted)))
    yield MadeBatch("times 1000", given.inputs(dict.fromkeys(free, _times(HUGE))), usual=False)


def _uneven(weights: Array) -> Array:
    factors = np.resize([0.5, 1.5, 0.0, 2.0], len(weights))
    return weights * factors.reshape(-1, *[1] * (weights.ndim - 1))


def _shifted(a: Array) -> Array:
    return a + 3 * float(np.std(a))


def _equal_numbers(given: GivenBatches) -> Iterator[MadeBatch]:
    """Batches with equal numbers."""
    numbers = ("real", "positive", "shares", "whole")
    yield MadeBatch("with one value everywhere", given.inputs(dict.fromkeys(numbers, _constant)), usual=False)
    yield MadeBatch(
        "with zeros everywhere", given.inputs(dict.fromkeys(("real", "shares"), np.zeros_like)), usual=False
    )
    yield MadeBatch(
        "with each second value equal to the one before", given.inputs(dict.fromkeys(numbers, _in_twos)), False
    )
    yield MadeBatch(
        "with some weights set to 0, which makes equal numbers",
        given.last,
        usual=False,
        weights=_without_one,
        ties=True,
    )


def _constant(a: Array) -> Array:
    return np.full(a.shape, a.flat[0])


def _in_twos(a: Array) -> Array:
    """Equal neighbours along every axis except those of the examples and of features or channels."""
    for axis in range(1, max(a.ndim - 1, 2)) if a.ndim > 1 else ():
        a = np.take(a, [i // 2 * 2 for i in range(a.shape[axis])], axis)
    return a


def _without_one(weight: Array, side: SideName) -> Array:
    """A matrix whose first output is 0 for every input: with a bias, one number everywhere."""
    if weight.ndim < 2:
        return weight
    weight = weight.copy()
    weight[(0,) if side == "torch" else (..., 0)] = 0
    return weight


def _examples(last: Flat) -> Iterator[MadeBatch]:
    """Batches with different numbers of examples."""
    if last.size == 1:
        yield MadeBatch("taken twice", last.each(lambda a: np.concatenate([a, a])))
        return
    yield MadeBatch("cut to one example", last.each(lambda a: a[:1]))
    count = last.size // 2 + 1
    if count < last.size:
        yield MadeBatch(f"cut to {count} of its {last.size} examples", last.each(lambda a: a[:count]))


def _lengths(given: GivenBatches) -> Iterator[MadeBatch]:
    """Batches with images and sequences one position shorter and longer; arrays of the same length change, too."""
    sizes: dict[frozenset[int], None] = {}
    for name, a in given.last.inputs.items():
        if a.ndim > 3:  # an image, or a film
            channels = 1 if a.shape[1] < a.shape[-1] else a.ndim - 1
            sizes[frozenset(n for axis, n in enumerate(a.shape) if axis not in (0, channels))] = None
        elif (a.ndim == 3 and a.dtype.kind == "f") or (a.ndim == 2 and given.kinds[name] in ("whole", "mask")):
            sizes[frozenset({a.shape[1]})] = None
    for lengths in sizes:
        if min(lengths) > 2:
            names = " and ".join(map(str, sorted(lengths)))
            yield MadeBatch(
                f"with axes of length {names} shortened by 1", _resized(given.last, lengths, -1), usual=False
            )
            yield MadeBatch(f"with axes of length {names} extended by 1", _resized(given.last, lengths, 1), usual=False)


def _resized(last: Flat, sizes: frozenset[int], by: int) -> Flat:
    def change(a: Array) -> Array:
        for axis, n in enumerate(a.shape):
            if axis and n in sizes:
                a = np.take(a, [i % n for i in range(n + by)], axis)  # one longer: repeat the first position
        return a

    return last.each(change)


def _labels(given: GivenBatches, ignored: int | None) -> Iterator[MadeBatch]:
    """Batches with classes that no given batch has, and with a label that a loss is set to ignore."""
    with_every_class, with_ignored = dict(given.last.targets), dict(given.last.targets)
    for name, a in given.last.targets.items():
        observed = [b.targets[name] for b in given.batches]
        if given.of_targets[name] in ("whole", "mask") and a.dtype.kind in "iu":
            largest, labels = (
                max(int(s.max()) for s in observed),
                np.unique(np.concatenate([s.ravel() for s in observed])),
            )
            positions = np.array(range(a.size)).reshape(a.shape)
            if largest < MOST and not {*range(largest + 1)} <= {*labels.tolist()}:
                with_every_class[name] = np.where(a < 0, a, positions % (largest + 1)).astype(a.dtype)
            if ignored is not None and ignored not in labels and a.size > 1 and a.dtype.kind == "i":
                with_ignored[name] = np.where(positions % 3 == 1, ignored, a).astype(a.dtype)
        elif given.of_targets[name] == "rows" and np.isin(a, (0, 1)).all():
            classes = a.shape[-1]
            if not np.concatenate([s.reshape(-1, classes) for s in observed]).any(0).all():
                with_every_class[name] = np.resize(np.eye(classes, dtype=a.dtype), a.shape)
    yield MadeBatch("with labels of every class", replace(given.last, targets=with_every_class), usual=False)
    yield MadeBatch(
        f"with the label {ignored}, which a loss ignores", replace(given.last, targets=with_ignored), usual=False
    )


def _whole(given: GivenBatches, beyond: bool) -> Iterator[MadeBatch]:
    """Batches with integers above the observed ones, with the largest one everywhere, and with sorted ones."""

    def larger(a: Array) -> Array:
        return np.where(a > 0, a * int(HUGE), a) if a.dtype.kind == "i" and a.itemsize > 2 and a.max() < MOST else a

    if beyond:
        yield MadeBatch("with its integers times 1000", given.inputs({"whole": larger}), usual=False)
    largest = given.inputs({"whole": lambda a: np.full(a.shape, a.max())})
    yield MadeBatch("with its largest integer everywhere", largest, usual=False)
    in_order = given.inputs({"whole": lambda a: np.sort(a, axis=min(a.ndim - 1, 1))})
    yield MadeBatch("with its rows sorted", in_order, usual=False)
