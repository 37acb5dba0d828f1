"""Batches made from given ones: where their values, sizes and masks do not go, two models may still part.

A ReLU6 is a ReLU below 6, a clipping threshold shows where a gradient reaches it, a padding id where a row is padded.
Each batch changes one thing and stays valid for a model that takes the given ones: whole numbers stay among those seen,
or 0 to the largest; what lies in [0, 1], sums to one, is boolean or has one sign stays so; padding is at the end where
it is said to be; where a mask and an id say the same, they go on saying it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..records.trace import Array, Arrays

LARGE, SMALL, HUGE = 20.0, 0.01, 1000.0
"""Factors: past the thresholds of usual activations, beside the epsilons of usual norms, and those of clipping."""


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

    def each(self, change: Callable[[Array], Array]) -> Flat:
        """The batch with every array changed."""
        return Flat(*({name: change(a) for name, a in of.items()} for of in (self.inputs, self.targets, self.compare)))


@dataclass(frozen=True, slots=True)
class Made:
    """A batch made from a given one.

    Attributes:
        name: what it is, as in "first parts in forward on NAME".
        batch: itself.
        usual: part of a default run.
        ties: holds equal numbers in the place of unequal ones.
        mask: which positions of it mean something, where it is padded.
    """

    name: str
    batch: Flat
    usual: bool = True
    ties: bool = False
    mask: Array | None = None


def made_batches(given: Sequence[Flat], *, ignored: int | None = None, beyond: bool = False) -> list[Made]:
    """Make batches from given ones.

    Args:
        given: of one pair; the last is changed, all of them say what is valid.
        ignored: a label that a loss is set to leave out.
        beyond: whole numbers larger than those seen may be tried: where they are indices, a side refuses them.

    Returns:
        The batches, those first that show the most; none that equals the given one.
    """
    kinds = {name: kind_of([of[name] for of in map(_inputs, given)], name) for name in given[-1].inputs}
    of_targets = {name: kind_of([flat.targets[name] for flat in given], name) for name in given[-1].targets}
    base = given[-1]
    made = [
        *_values(base, kinds, of_targets),
        *_examples(base),
        *_sizes(base, kinds),
        *_padding(given, kinds),
        *_labels(given, of_targets, ignored),
        *_ties(base, kinds),
        *_edges(given, kinds, beyond),
    ]
    order = {True: 0, False: 1}
    return sorted((m for m in made if not _same(m.batch, base)), key=lambda m: order[m.usual])


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
    if not np.isfinite(numbers).all():
        return "fixed"
    if arrays[0].dtype.kind == "f" and (numbers == 1).all() and "weight" in name.lower():
        return "weights"
    if np.isin(numbers, (0.0, 1.0)).all():
        one_hot = all(a.ndim > 1 and a.shape[-1] > 1 and (a.sum(-1) == 1).all() for a in arrays)
        return "rows" if one_hot else "mask" if numbers.any() else "fixed"
    if arrays[0].dtype.kind != "f" or (numbers == np.round(numbers)).all():
        return "whole"
    if numbers.min() < 0:
        return "real"
    if all(a.ndim > 1 and a.shape[-1] > 1 and np.allclose(a.sum(-1), 1, atol=1e-5) for a in arrays):
        return "rows"
    return "shares" if numbers.max() <= 1 else "positive"


def _inputs(flat: Flat) -> Arrays:
    return flat.inputs


def _same(one: Flat, other: Flat) -> bool:
    parts = ((one.inputs, other.inputs), (one.targets, other.targets))
    return all(np.array_equal(a[name], b[name]) for a, b in parts for name in a)


def _changed(arrays: Arrays, kinds: Mapping[str, str], change: Mapping[str, Callable[[Array], Array]]) -> Arrays:
    """The arrays, those of some kinds changed, in the dtype that they have."""
    return {n: np.asarray(change[kinds[n]](a), a.dtype) if kinds[n] in change else a for n, a in arrays.items()}


def _values(base: Flat, kinds: Mapping[str, str], of_targets: Mapping[str, str]) -> Iterator[Made]:
    """Numbers of other sizes."""

    def times(factor: float) -> Callable[[Array], Array]:
        return lambda a: a * factor

    def inputs(
        name: str, change: Mapping[str, Callable[[Array], Array]], usual: bool = True, ties: bool = False
    ) -> Made:
        return Made(name, replace(base, inputs=_changed(base.inputs, kinds, change)), usual, ties)

    def one_value(a: Array) -> Array:
        return np.full(a.shape, a.flat[0])

    yield inputs("the given batch times 20", {kind: times(LARGE) for kind in ("real", "positive")})
    large = _changed(base.targets, of_targets, {kind: times(HUGE) for kind in ("real", "positive")})
    yield Made("the given batch with its targets times 1000", replace(base, targets=large))
    yield inputs("the given batch times 0.01", {kind: times(SMALL) for kind in ("real", "positive", "shares")})
    weights = np.resize(np.array([0.5, 1.5, 0.0, 2.0]), max(base_size(base), 4))
    for part, kind in (("inputs", kinds), ("targets", of_targets)):
        uneven = {"weights": lambda a: np.broadcast_to(weights[: len(a)].reshape(-1, *[1] * (a.ndim - 1)), a.shape)}
        arrays = _changed(getattr(base, part), kind, uneven)
        yield Made("the given batch with weights of 0.5, 1.5, 0 and 2", replace(base, **{part: arrays}))
    yield inputs("the given batch plus three times its spread", dict.fromkeys(("real", "positive"), _shifted))
    yield inputs("the given batch times 1000", {kind: times(HUGE) for kind in ("real", "positive")}, usual=False)
    numbers = ("real", "positive", "shares", "whole")
    yield inputs("one value in place of the given ones", dict.fromkeys(numbers, one_value), usual=False, ties=True)
    yield inputs("zeros in place of the given batch", dict.fromkeys(("real", "shares"), np.zeros_like), usual=False)


def _shifted(a: Array) -> Array:
    return a + 3 * np.std(a)


def base_size(batch: Flat) -> int:
    """How many examples a batch has."""
    return len(next(iter(batch.inputs.values())))


def _examples(base: Flat) -> Iterator[Made]:
    """Other numbers of examples."""
    many = base_size(base)
    if many == 1:
        yield Made("the given example twice", base.each(lambda a: np.concatenate([a, a])))
        return
    yield Made("one example of the given batch", base.each(lambda a: a[:1]))
    if many > 2:
        some = many // 2 + 1 if many > 3 else 2
        yield Made(f"{some} of the {many} examples of the given batch", base.each(lambda a: a[:some]))


def _sizes(base: Flat, kinds: Mapping[str, str]) -> Iterator[Made]:
    """Images and sequences one position shorter and longer; what has as many positions changes with them."""
    images, sequences = list[frozenset[int]](), list[frozenset[int]]()
    for name, a in base.inputs.items():
        if a.ndim > 3:
            channels = 1 if a.shape[1] < a.shape[-1] else a.ndim - 1
            images.append(frozenset(n for at, n in enumerate(a.shape) if at not in (0, channels)))
        elif (a.ndim == 3 and a.dtype.kind == "f") or (a.ndim == 2 and kinds[name] in ("whole", "mask")):
            sequences.append(frozenset({a.shape[1]}))
    for sizes in dict.fromkeys(images + sequences):
        if min(sizes) > 2:
            of = " and ".join(map(str, sorted(sizes)))
            yield Made(f"the given batch with sizes of {of} one shorter", _resized(base, sizes, -1))
            yield Made(f"the given batch with sizes of {of} one longer", _resized(base, sizes, 1))


def _resized(base: Flat, sizes: frozenset[int], by: int) -> Flat:
    def change(a: Array) -> Array:
        for axis, n in enumerate(a.shape):
            if axis and n in sizes:
                a = np.take(a, np.arange(n + by) % n, axis)  # one longer: the first once more
        return a

    return base.each(change)


def _padding(given: Sequence[Flat], kinds: Mapping[str, str]) -> Iterator[Made]:
    """Rows padded to several lengths, by their masks, their ids, or both."""
    base = given[-1]
    masks = [n for n, a in base.inputs.items() if kinds[n] == "mask" and a.ndim == 2 and a.shape[1] > 1]
    rows = [n for n, a in base.inputs.items() if kinds[n] == "whole" and a.ndim == 2 and a.shape[1] > 1]
    for shape in dict.fromkeys(base.inputs[n].shape for n in masks + rows):
        of_shape = [n for n in masks if base.inputs[n].shape == shape]
        seen = [flat.inputs[n].astype(bool) for flat in given for n in of_shape]
        kept = _kept(shape, left=_on_the_left(seen))
        yield from _padded(given, kinds, of_shape, [n for n in rows if base.inputs[n].shape == shape], kept)
        if any((np.abs(np.diff(m.astype(int), axis=1)).sum(1) > 1).any() for m in seen):
            gaps = np.broadcast_to(np.arange(shape[1]) % 2 == 0, shape)
            for made in _padded(given, kinds, of_shape, [n for n in rows if base.inputs[n].shape == shape], gaps):
                yield replace(made, name="the given batch with gaps in its masks")


def _kept(shape: tuple[int, ...], left: bool) -> Array:
    """Which positions are none of padding: one row whole, one with a single position, others between."""
    many, length = shape
    lengths = np.array([length, 1, *(1 + (2 * i + length // 2) % length for i in range(many))])[:many]
    if many == 1:
        lengths = np.array([1 + length // 2])
    at = np.arange(length)
    return (at[::-1] if left else at) < lengths[:, None]


def _on_the_left(seen: Sequence[Array]) -> bool:
    """Whether the given masks put padding first."""
    begin, end = (sum(int((~m[:, at]).sum()) for m in seen) for at in (0, -1))
    return begin > end


def _padded(
    given: Sequence[Flat], kinds: Mapping[str, str], masks: Sequence[str], rows: Sequence[str], kept: Array
) -> Iterator[Made]:
    base = given[-1]
    inputs, targets = dict(base.inputs), dict(base.targets)
    for name in masks:
        inputs[name] = kept.astype(base.inputs[name].dtype)
    for name in rows:
        pad = _pad(given, name, masks)
        if pad is not None:
            inputs[name] = np.where(kept, base.inputs[name], np.asarray(pad, base.inputs[name].dtype))
    for name, a in base.inputs.items():  # how long each row is
        if masks and kinds[name] == "whole" and a.ndim == 1:
            sums = [(flat.inputs[name] == flat.inputs[masks[0]].sum(1)).all() for flat in given]
            inputs[name] = kept.sum(1).astype(a.dtype) if all(sums) else a
    for name, a in base.targets.items():
        if masks and a.shape == kept.shape and (a < 0).any():
            ignored = np.unique(np.concatenate([f.targets[name][f.targets[name] < 0] for f in given]))
            targets[name] = np.where(kept, np.where(a < 0, a.max(), a), ignored[0]).astype(a.dtype)
    compare = {name: a & kept if a.shape == kept.shape else a for name, a in base.compare.items()}
    changed = replace(base, inputs=inputs, targets=targets, compare=compare)
    what = "with padded rows" if masks else "with 0 at the end of its rows"
    yield Made(f"the given batch {what}", changed, mask=kept if masks else None)


def _pad(given: Sequence[Flat], name: str, masks: Sequence[str]) -> int | None:
    """The id that stands for padding, 0 where nothing speaks against it; None where ids and masks are independent."""
    ids = [flat.inputs[name] for flat in given]
    for mask in masks:
        kept = [flat.inputs[mask].astype(bool) for flat in given]
        padding = np.unique(np.concatenate([i[~k] for i, k in zip(ids, kept, strict=True)]))
        others = np.unique(np.concatenate([i[k] for i, k in zip(ids, kept, strict=True)]))
        if len(padding) == 1 and padding[0] not in others:
            return int(padding[0])
        if len(padding):
            return None
    return 0 if min(int(i.min()) for i in ids) > 0 else None


def _labels(given: Sequence[Flat], kinds: Mapping[str, str], ignored: int | None) -> Iterator[Made]:
    """Classes that no given batch has, and a label that a loss is set to leave out."""
    base = given[-1]
    whole = [n for n, a in base.targets.items() if kinds[n] in ("whole", "mask") and a.dtype.kind in "iu"]
    every, left_out, turned = dict(base.targets), dict(base.targets), dict(base.targets)
    for name in whole:
        a = base.targets[name]
        seen = np.concatenate([flat.targets[name].ravel() for flat in given])
        if not np.isin(np.arange(seen.max() + 1), seen).all() and seen.max() < 1e6:
            classes = (np.arange(a.size) % (seen.max() + 1)).reshape(a.shape)
            every[name] = np.where(a < 0, a, classes).astype(a.dtype)
        if ignored is not None and ignored not in seen and a.size > 1 and a.dtype.kind == "i":
            left_out[name] = np.where(np.arange(a.size).reshape(a.shape) % 3 == 1, ignored, a).astype(a.dtype)
    for name, a in base.targets.items():
        one_hot = kinds[name] == "rows" and np.isin(a, (0, 1)).all()
        if one_hot and not np.concatenate([f.targets[name].reshape(-1, a.shape[-1]) for f in given]).any(0).all():
            turned[name] = np.eye(a.shape[-1], dtype=a.dtype)[np.arange(a[..., 0].size) % a.shape[-1]].reshape(a.shape)
    yield Made("the given batch with labels of every class", replace(base, targets=every))
    yield Made("the given batch with labels of every class", replace(base, targets=turned))
    yield Made(f"the given batch with the label {ignored}, which a loss leaves out", replace(base, targets=left_out))


def _ties(base: Flat, kinds: Mapping[str, str]) -> Iterator[Made]:
    """Equal numbers beside each other: along every axis but that of the examples, and that of features or channels."""

    def repeated(a: Array) -> Array:
        for axis in range(1, max(a.ndim - 1, 2)) if a.ndim > 1 else ():
            if a.shape[axis] > 1:
                a = np.take(a, np.arange(a.shape[axis]) // 2 * 2, axis)
        return a

    numbers = ("real", "positive", "shares", "whole")
    repeats = _changed(base.inputs, kinds, dict.fromkeys(numbers, repeated))
    yield Made(
        "the given batch with each second value that of the one before", replace(base, inputs=repeats), ties=True
    )


def _edges(given: Sequence[Flat], kinds: Mapping[str, str], beyond: bool) -> Iterator[Made]:
    """Whole numbers at the end of what was seen, in order, and beyond."""
    base = given[-1]

    def changed(change: Callable[[Array], Array]) -> Flat:
        return replace(base, inputs=_changed(base.inputs, kinds, {"whole": change}))

    def larger(a: Array) -> Array:
        wide = a.dtype.kind == "i" and a.itemsize >= 4 and a.max() < 1e6
        return np.where(a > 0, a * int(HUGE), a) if wide else a

    if beyond:
        yield Made("the given batch with its whole numbers times 1000", changed(larger))
    yield Made(
        "the largest number in place of the given ones", changed(lambda a: np.full(a.shape, a.max())), usual=False
    )
    yield Made(
        "the given batch with its rows in order", changed(lambda a: np.sort(a, axis=min(a.ndim - 1, 1))), usual=False
    )
