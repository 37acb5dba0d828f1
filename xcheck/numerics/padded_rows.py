"""Batches whose rows are padded, made from given ones: by their masks, their ids, or both where they say the same.

Padding is at the end of a row unless the given masks put it first, and a mask has gaps only where a given one has: a
model may count its positions. What the given batches link stays linked: an id that stands at masked positions alone,
lengths that are the sums of a mask, labels that are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..records.trace import Array
from .made_batches import GivenBatches, MadeBatch


def padded_batches(given: GivenBatches) -> Iterator[MadeBatch]:
    """The last of the given batches with rows of several lengths, where it has masks or ids in rows.

    Args:
        given: of one pair.
    """
    last = given.last
    rows = [n for n, a in last.inputs.items() if a.ndim == 2 and a.shape[1] > 1 and given.kinds[n] in ("mask", "whole")]
    for shape in dict.fromkeys(last.inputs[n].shape for n in rows):
        of_shape = [n for n in rows if last.inputs[n].shape == shape]
        masks = [n for n in of_shape if given.kinds[n] == "mask"]
        ids = [n for n in of_shape if n not in masks and last.inputs[n].dtype.kind in "iu"]
        seen = [b.inputs[n].astype(bool) for b in given.batches for n in masks]
        name = "with padded rows" if masks else "with 0 at the end of its rows"
        yield _padded(given, masks, ids, _kept(shape, first=_padded_first(seen)), name)
        if any((np.count_nonzero(np.diff(m, axis=1), axis=1) > 1).any() for m in seen):
            gaps = np.resize(np.array([at % 2 == 0 for at in range(shape[1])]), shape)
            yield _padded(given, masks, ids, gaps, "with gaps in its masks")


def _kept(shape: tuple[int, ...], first: bool) -> Array:
    """Which positions are none of padding: a row that is whole, one with a single position, and some between."""
    many, length = shape
    between = [1 + (2 * i + length // 2) % length for i in range(many)]
    lengths = np.array([length, 1, *between][:many] if many > 1 else between)
    at = np.arange(length)
    return (at[::-1] if first else at) < lengths[:, None]


def _padded_first(seen: Sequence[Array]) -> bool:
    first, last = (sum(np.count_nonzero(~mask[:, at]) for mask in seen) for at in (0, -1))
    return bool(first > last)


def _padded(given: GivenBatches, masks: Sequence[str], ids: Sequence[str], kept: Array, name: str) -> MadeBatch:
    last = given.last
    inputs = {**last.inputs, **{n: kept.astype(last.inputs[n].dtype) for n in masks}}
    for n in ids:
        pad, given_ids = _padding_id(given, n, masks), last.inputs[n]
        if pad is not None:
            others = np.where(given_ids == pad, max(b.inputs[n].max() for b in given.batches), given_ids)
            inputs[n] = np.where(kept, others, pad).astype(given_ids.dtype)
    for n, a in last.inputs.items():
        counted = masks and a.ndim == 1 and all((b.inputs[n] == b.inputs[masks[0]].sum(1)).all() for b in given.batches)
        inputs[n] = kept.sum(1).astype(a.dtype) if counted else inputs[n]
    targets = {
        n: np.where(kept, np.where(a < 0, a.max(), a), a.min()).astype(a.dtype)
        if masks and a.shape == kept.shape and a.dtype.kind == "i" and a.min() < 0 <= a.max()
        else a
        for n, a in last.targets.items()
    }
    compare = {n: a & kept if a.shape == kept.shape else a for n, a in last.compare.items()}
    return MadeBatch(name, replace(last, inputs=inputs, targets=targets, compare=compare), usual=False, mask=kept)


def _padding_id(given: GivenBatches, name: str, masks: Sequence[str]) -> int | None:
    """The id that stands for padding, 0 where nothing speaks against it; None where ids do not depend on masks."""
    ids = np.concatenate([b.inputs[name].ravel() for b in given.batches])
    for mask in masks:
        kept = np.concatenate([b.inputs[mask].astype(bool).ravel() for b in given.batches])
        padding = np.unique(ids[~kept])
        if len(padding):
            return int(padding[0]) if len(padding) == 1 and padding[0] not in ids[kept] else None
    return 0 if ids.min() > 0 else None
