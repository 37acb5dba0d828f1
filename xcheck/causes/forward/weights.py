"""The same computation with another weight: of another layer, another part of it, or turned another way before its use.

That the weight is the difference is shown where it is asked: the one side's in the other's place gives the other's
value. Here it is told how each side came by the weight that it used: bit for bit from which parameter, and how.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array, Arrays
from ..prove import Trial, prove
from .one_computation import Local
from .weight_functions import PLAINLY, function_cause, function_of

MOST_PLACES = 4096
"""Places at which a part of a parameter is looked for."""

TRANSPOSED = "inputs and outputs exchanged"
"""How `_mirrored` calls the transpose of a kernel."""

SPATIAL = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True, slots=True)
class Used:
    """A weight as one side used it.

    Attributes:
        array: in the neutral layout, outputs last; None where this side has none.
        sources: path -> the parameters that it may be made of, in that layout.
    """

    array: Array | None
    sources: Arrays


@dataclass(frozen=True, slots=True)
class Made:
    """How a weight is made of a parameter.

    Attributes:
        path: of the parameter.
        kind: "whole", "part", "turned" or "function".
        words: how.
    """

    path: str
    kind: str
    words: str


@isolated(list[Cause])
def weight_causes(local: Local, what: str, torch: Used, keras: Used, after: float) -> list[Cause]:
    """Why the weights differ that two layers used; none where it is not known how a side came by its own.

    Another layer's weight is a guess where a weight has several counterparts.

    Args:
        local: what both sides did.
        what: the layer in words.
        torch, keras: the weight on each side.
        after: how far apart the sides are once the one's weight is in the other's place.
    """
    mine, theirs = _made(torch), _made(keras)
    if mine is None or theirs is None or mine == theirs:
        return []
    several = False
    back = [path for path, others in local.partners.items() if theirs.path in others]
    if theirs.path not in local.partners.get(mine.path, frozenset((theirs.path,))):
        several = len(local.partners[mine.path]) > 1 or len(back) > 1  # of a tie that is lost, one may be mistaken
        counterpart = " and ".join(sorted(local.partners[mine.path]))
        name, fix = "other_parameter", f"keras: use {counterpart} here"
        said = f"another layer's weight is used: {mine.path} in torch, whose counterpart is {counterpart}, and "
        said += f"{theirs.path} in keras" + (f", whose counterpart is {' and '.join(sorted(back))}" if back else "")
        fix += f", or torch: use {' and '.join(sorted(back))}" if back else ""
    elif mine.words == theirs.words:
        return []
    elif "function" in (mine.kind, theirs.kind):
        uses = [(m.path, PLAINLY if m.kind == "whole" else m.words) for m in (mine, theirs)]
        return [function_cause(local, what, uses[0], uses[1], after)]
    else:
        name = "slice" if {mine.kind, theirs.kind} <= {"part", "whole"} else "turned_weight"
        if {mine.words, theirs.words} == {"as it is", f"with {TRANSPOSED}"}:
            name = "transposed_kernel"
        said = f"{mine.path} is used {mine.words} in torch, and {theirs.words} in keras"
        fix = f"keras: use {theirs.path} {mine.words}, or torch: use {mine.path} {theirs.words}"
    trial = Trial(local.error, after, local.allowed, local.torch.value.size)
    return [
        prove(
            Cause(
                id=name,
                phase="forward",
                torch=local.torch.call.name,
                keras=local.keras.call.name,
                summary=f"{what}: {said}",
                evidence={
                    "torch": [mine.path, mine.words],
                    "keras": [theirs.path, theirs.words],
                },
                fix=fix,
            ),
            [] if several else [trial],
        )
    ]


def _made(used: Used) -> Made | None:
    if used.array is None:
        return None
    tries: tuple[Callable[[Array, Array], tuple[str, str] | None], ...] = (_whole, _part, _turned, _function)
    for way in tries:
        for path, source in used.sources.items():
            found = way(used.array, source)
            if found is not None:
                return Made(path, *found)
    return None


def _whole(array: Array, source: Array) -> tuple[str, str] | None:
    return ("whole", "as it is") if np.array_equal(array, source) else None


def _part(array: Array, source: Array) -> tuple[str, str] | None:
    """The one range of each axis that an array is."""
    if array.ndim != source.ndim or not all(a <= b for a, b in zip(array.shape, source.shape, strict=True)):
        return None
    room = [range(b - a + 1) for a, b in zip(array.shape, source.shape, strict=True)]
    if math.prod(map(len, room)) > MOST_PLACES:
        return None
    for first in itertools.product(*room):
        ranges = tuple(slice(f, f + n) for f, n in zip(first, array.shape, strict=True))
        if np.array_equal(source[ranges], array):
            cut = [i for i, n in enumerate(array.shape) if n < source.shape[i]]
            names = _names(source.ndim)
            told = [f"{ranges[i].start}:{ranges[i].stop} of {source.shape[i]} along {names[i]}" for i in cut]
            return "part", f"in part, {_listed(told)}"
    return None


def _turned(array: Array, source: Array) -> tuple[str, str] | None:
    """Turned as a whole, or several turns of it joined along one axis."""
    if array.ndim != source.ndim:
        return None
    longer = [i for i in range(source.ndim) if array.shape[i] != source.shape[i]]
    if len(longer) > 1 or any(array.shape[i] % source.shape[i] for i in longer):
        return None
    names = _names(source.ndim)
    axis = longer[0] if longer else 0
    blocks = np.split(array, array.shape[axis] // source.shape[axis], axis=axis)
    joined = f", joined along {names[axis]}" if longer else ""
    for a, b in itertools.combinations(range(source.ndim), 2):
        turns = [np.rot90(source, k, axes=(a, b)) for k in range(4)]
        quarters = [next((k for k, turn in enumerate(turns) if np.array_equal(turn, block)), None) for block in blocks]
        if None not in quarters:
            return "turned", f"turned by {_listed(quarters)} quarters from {names[a]} to {names[b]}{joined}"
    told = [next((words for words, other in _mirrored(source) if np.array_equal(block, other)), "") for block in blocks]
    return ("turned", f"{_listed(told)}{joined}") if all(told) else None


def _function(array: Array, source: Array) -> tuple[str, str] | None:
    """Through a function, such as softplus."""
    words = function_of(array, source, _names(source.ndim))
    return None if words is None else ("function", words)


def _mirrored(source: Array) -> Iterator[tuple[str, Array]]:
    """What is made of an array by mirroring it or by exchanging two of its axes, in words."""
    names = _names(source.ndim)
    yield "as it is", source
    for a, b in itertools.combinations(range(source.ndim), 2):
        yield f"with {names[a]} and {names[b]} exchanged", np.swapaxes(source, a, b)
    for a, name in enumerate(names):
        yield f"mirrored along {name}", np.flip(source, axis=a)


def _listed(words: Sequence[object]) -> str:
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def _names(rank: int) -> Sequence[str]:
    return (*SPATIAL.get(rank - 2, ()), "inputs", "outputs")[-rank:] if rank <= 5 else tuple(map(str, range(rank)))
