"""Batches with padded rows, made from the given ones: by their masks, their ids, or both where they agree.

Padding is at the end of a row unless the given masks put it first, and a mask has gaps only if a given one has: a model
may count its positions. Relations in the given batches are kept: an id that occurs only at masked positions, lengths
that are the sums of a mask, ignored labels.
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
        given_masks = [b.inputs[n].astype(bool) for b in given.batches for n in masks]
        name = "with padded rows" if masks else "with rows padded with 0"
        yield _padded(given, masks, ids, _valid_positions(shape, first=_padded_first(given_masks)), name)
        if any((np.count_nonzero(np.diff(m, axis=1), axis=1) > 1).any() for m in given_masks):
            gaps = np.resize(np.array([at % 2 == 0 for at in range(shape[1])]), shape)
            yield _padded(given, masks, ids, gaps, "with gaps in its masks")


def _valid_positions(shape: tuple[int, ...], first: bool) -> Array:
    """The positions that are not padding: a full row, a row with a single position, and rows in between."""
    count, length = shape
    between = [1 + (2 * i + length // 2) % length for i in range(count)]
    lengths = np.array([length, 1, *between][:count] if count > 1 else between)
    position = np.arange(length)
    return (position[::-1] if first else position) < lengths[:, None]


def _padded_first(masks: Sequence[Array]) -> bool:
    first, last = (sum(np.count_nonzero(~mask[:, column]) for mask in masks) for column in (0, -1))
    return bool(first > last)


def _padded(given: GivenBatches, masks: Sequence[str], ids: Sequence[str], valid: Array, name: str) -> MadeBatch:
    last = given.last
    inputs = {**last.inputs, **{n: valid.astype(last.inputs[n].dtype) for n in masks}}
    for n in ids:
        pad, given_ids = _padding_id(given, n, masks), last.inputs[n]
        if pad is not None:
            used_ids = np.where(given_ids == pad, max(b.inputs[n].max() for b in given.batches), given_ids)
            inputs[n] = np.where(valid, used_ids, pad).astype(given_ids.dtype)
    for n, a in last.inputs.items():
        is_length = (
            masks and a.ndim == 1 and all((b.inputs[n] == b.inputs[masks[0]].sum(1)).all() for b in given.batches)
        )
        inputs[n] = valid.sum(1).astype(a.dtype) if is_length else inputs[n]
    targets = {
        n: np.where(valid, np.where(a < 0, a.max(), a), a.min()).astype(a.dtype)
        if masks and a.shape == valid.shape and a.dtype.kind == "i" and a.min() < 0 <= a.max()
        else a
        for n, a in last.targets.items()
    }
    compare = {n: a & valid if a.shape == valid.shape else a for n, a in last.compare.items()}
    return MadeBatch(name, replace(last, inputs=inputs, targets=targets, compare=compare), usual=False, mask=valid)


def _padding_id(given: GivenBatches, name: str, masks: Sequence[str]) -> int | None:
    """The padding id, 0 by default; None where ids do not depend on masks."""
    ids = np.concatenate([b.inputs[name].ravel() for b in given.batches])
    for mask in masks:
        valid = np.concatenate([b.inputs[mask].astype(bool).ravel() for b in given.batches])
        padding = np.unique(ids[~valid])
        if len(padding):
            return int(padding[0]) if len(padding) == 1 and padding[0] not in ids[valid] else None
    return 0 if ids.min() > 0 else None
