"""Other orders of what one dense layer packs: (3, heads, d) in one framework's port, (heads, 3, d) in the other's.

The layer itself computes the same either way. How a side takes its outputs apart tells in which order they lie: the
reshapes and splits behind it. Only orders that fit both sides are tried.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..layouts import pattern_layout
from ..records.calls import Call, Calls
from ..records.sides import SIDES, SideName
from ..records.trace import Array
from .guess import Guess, Variant

MOST_AXES = 4
"""Axes in one that are put in another order."""

PACKED = {"transpose": "{} z -> z {}", "identity": "{} -> {}"}
"""Layouts of a kernel and of a bias, with room for their outputs."""


def packed_orders(guess: Guess, traces: Mapping[SideName, Calls]) -> Iterator[Variant]:
    """The variants in which the outputs of a dense layer lie in a different order.

    Args:
        guess: that takes the outputs of the sides to lie alike.
        traces: calls of one forward pass of each side, functions included.
    """
    names = [layout.name for layout in guess.variant.layouts]
    if not is_dense(guess):
        return
    axes = axes_of(guess, traces)
    for left, right in _orders(axes["torch"], axes["keras"]):
        layouts = (pattern_layout(text, text, text) for text in (PACKED[name].format(left, right) for name in names))
        yield replace(guess.variant, layouts=tuple(layouts))


def is_dense(guess: Guess) -> bool:
    """Whether a guess takes one dense layer as it is for one of the other side."""
    joints = guess.group.covers[guess.variant.cover].joints
    whole = not any(joint.packed or len(joint.torch) > 1 for joint in joints)
    return guess.promised and whole and {layout.name for layout in guess.variant.layouts} <= PACKED.keys()


def axes_of(guess: Guess, traces: Mapping[SideName, Calls]) -> dict[SideName, tuple[int, ...]]:
    """The axes that each side makes of the outputs of a dense layer, the outermost first.

    Args:
        guess: of the layer.
        traces: as for `packed_orders`.
    """
    return {side: _axes(guess.units(side)[0].owner, traces[side]) for side in SIDES}


def _axes(path: str, calls: Calls) -> tuple[int, ...]:
    """The axes that a side makes of the last axis of what a layer makes."""
    made = next((c for c in calls if c.path == path and not c.function), None)
    outputs = () if made is None else tuple(made.outputs.values())
    if made is None or len(outputs) != 1 or outputs[0].ndim < 2:
        return ()
    behind = calls[calls.index(made) + 1 :]
    return tuple(n for n in _taken_apart(outputs[0], [c for c in behind if c.function]) if n > 1)


def _taken_apart(array: Array, behind: Sequence[Call]) -> tuple[int, ...]:
    """The axes that functions make of the last axis of an array, the outermost first."""
    length = array.shape[-1]
    for at, call in enumerate(behind):
        if not any(given.shape == array.shape and np.array_equal(given, array) for given in call.inputs.values()):
            continue
        made, after = [*call.outputs.values()], behind[at + 1 :]
        if len(made) > 1:
            parts = [part for part in made if part.shape == made[0].shape]
            along_last = len(parts) == len(made) and np.array_equal(np.concatenate(made, axis=-1), array)
            return (len(made), *_taken_apart(made[0], after)) if along_last else (length,)
        if not made or made[0].size != array.size or not made[0].ndim:
            return (length,)
        (out,) = made
        if np.array_equal(out.reshape(-1), array.reshape(-1)):
            axes = next((out.shape[i:] for i in range(out.ndim) if math.prod(out.shape[i:]) == length), None)
            return (length,) if axes is None else (*axes[:-1], *_taken_apart(out, after))
        kept = out.shape[-1] == length and np.array_equal(np.sort(out, axis=None), np.sort(array, axis=None))
        return _taken_apart(out, after) if kept else (length,)
    return (length,)


def _orders(torch: Sequence[int], keras: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The finer side's axes by name in their order and in every one that makes the other side's; PyTorch's first."""
    fine, coarse = (torch, keras) if len(torch) >= len(keras) else (keras, torch)
    if min(len(torch), len(keras)) < 2 or len(fine) > MOST_AXES:
        return
    names = "abcd"[: len(fine)]
    sized = {name: f"{name}={n}" for name, n in zip(names, fine, strict=True)}
    for order in itertools.islice(itertools.permutations(range(len(fine))), 1, None):
        ends = {*itertools.accumulate((fine[i] for i in order), operator.mul)}
        if {*itertools.accumulate(coarse, operator.mul)} <= ends:
            ways = names, "".join(names[i] for i in order)
            left, right = ways if fine is torch else ways[::-1]
            yield f"({' '.join([*(sized[name] for name in left[:-1]), left[-1]])})", f"({' '.join(right)})"
