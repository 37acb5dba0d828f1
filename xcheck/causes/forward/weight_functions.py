"""Functions that a side may apply to a weight before it is used: softplus(w), w / norm(w), w - mean(w), w * mask."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...numerics.tolerance import Noise, epsilon
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array, Arrays
from ..prove import Trial, prove
from .one_computation import Local, Seen

PLAINLY = "w"
"""How a weight is written that no function is applied to."""

ELEMENTWISE: Mapping[str, Callable[[Array], Array]] = {
    "softplus": lambda w: np.logaddexp(w, 0.0),
    "exp": np.exp,
    "negative exp": lambda w: -np.exp(w),
    "sigmoid": lambda w: 1.0 / (1.0 + np.exp(-w)),
    "tanh": np.tanh,
    "relu": lambda w: np.maximum(w, 0.0),
    "square": np.square,
    "absolute": np.abs,
    "sign": np.sign,
    "square root": np.sqrt,
    "one over": lambda w: 1.0 / w,
    "logarithm": np.log,
}
"""What models apply to each element of a weight."""

OF_TWO: Mapping[str, Callable[[Array, Array], Array]] = {
    "product": np.multiply,
    "sum": np.add,
    "difference": np.subtract,
    "quotient": np.divide,
}


def function_of(array: Array, source: Array, axes: Sequence[str]) -> str | None:
    """How a weight is made of a parameter, such as "softplus(w)"; None where no known function gives it.

    Args:
        array: the weight.
        source: the parameter, in the same layout.
        axes: names of its axes.
    """
    if array.shape != source.shape or array.dtype.kind != "f" or array.size < 2:
        return None
    with np.errstate(all="ignore"):
        return next((words for words, other in _candidates(array, source, axes) if _same(array, other)), None)


def _same(array: Array, other: Array) -> bool:
    scale = float(np.abs(array).max())
    return float(np.abs(array - other).max()) <= Noise(array.size).allowed(epsilon("float64")) * scale


def _candidates(array: Array, source: Array, axes: Sequence[str]) -> Iterator[tuple[str, Array]]:
    for name, function in ELEMENTWISE.items():
        yield f"{name}(w)", function(source)
    for over in _subsets(source.ndim):
        words = f", over {' and '.join(axes[axis] for axis in over)}" if len(over) < source.ndim else ""
        norm = np.sqrt((source**2).sum(axis=over, keepdims=True))
        centred = source - source.mean(axis=over, keepdims=True)
        exponents = np.exp(source - source.max(axis=over, keepdims=True))
        yield f"w / norm(w){words}", source / norm
        yield f"w - mean(w){words}", centred
        yield f"softmax(w){words}", exponents / exponents.sum(axis=over, keepdims=True)
        # The factor is not compared: it depends on an epsilon, and on n or n - 1.
        factor = (array * centred).sum(axis=over, keepdims=True) / (centred**2).sum(axis=over, keepdims=True)
        yield f"(w - mean(w)) / std(w){words}", centred * factor
    zeros = array == 0
    if 0 < zeros.sum() < array.size:
        yield f"w * mask, with {int(zeros.sum())} of {array.size} elements at zero", np.where(zeros, 0.0, source)
    rest = array - source
    if source.ndim == 2 and (rank := int(np.linalg.matrix_rank(rest))) * 2 <= min(source.shape):
        yield f"w + a matrix of rank {rank}", source + rest


def _subsets(rank: int) -> Iterator[tuple[int, ...]]:
    """All axes, then fewer of them."""
    for many in range(rank, 0, -1):
        yield from itertools.combinations(range(rank), many)


@isolated(list[Cause])
def weight_function_causes(local: Local) -> list[Cause]:
    """Why a product or sum with a weight differs: one side uses the weight through a function, the other does not.

    Args:
        local: what both sides did.
    """
    for name, compute in OF_TWO.items():
        for torch, keras in itertools.product(_weights(local.torch), _weights(local.keras)):
            (x, mine, path, sources), (y, theirs, other, others) = torch, keras
            if other not in local.partners.get(path, ()) or mine.shape != theirs.shape:
                continue
            if not (_gives(local, local.torch, compute, x, mine) and _gives(local, local.keras, compute, y, theirs)):
                continue
            exchanged = _computed(compute, y, mine, local.keras.value.shape)
            words = [_words(mine, sources), _words(theirs, others)]
            if exchanged is None or words[0] == words[1] or None in words:
                continue
            after = local.gap(local.target("keras"), exchanged)
            return [function_cause(local, name, (path, str(words[0])), (other, str(words[1])), after)]
    return []


def function_cause(local: Local, what: str, torch: tuple[str, str], keras: tuple[str, str], after: float) -> Cause:
    """The cause that the sides apply different functions to a weight.

    Args:
        local: what both sides did.
        what: the operation that takes the weight, in words.
        torch, keras: path of the parameter, and how the weight is made of it.
        after: how far apart the sides are once the one's weight is in the other's place.
    """
    uses = [f"{words} in {side}" for side, (_, words) in (("torch", torch), ("keras", keras))]
    return prove(
        Cause(
            id="weight_function",
            phase="forward",
            torch=local.torch.call.name,
            keras=local.keras.call.name,
            summary=f"{what}: of the weight w, which is {torch[0]} in torch and {keras[0]} in keras, it uses "
            f"{uses[0]} and {uses[1]}",
            evidence={"torch": list(torch), "keras": list(keras)},
            fix=f"keras: use {torch[1]} of {keras[0]}, or torch: use {keras[1]} of {torch[0]}",
        ),
        [Trial(local.error, after, local.allowed, local.torch.value.size)],
    )


def _weights(seen: Seen) -> Iterator[tuple[Array, Array, str, Arrays]]:
    """What else goes in, a weight, the path of its parameter, and the parameters that it may be made of."""
    if len(seen.given) != 1:
        return
    for name, array in seen.constants.items():
        alike = {p: a for p, a in seen.made_of.get(name, {}).items() if a.shape == array.shape}
        if len(alike) == 1:
            yield seen.x, array, next(iter(alike)), alike
    for path in seen.inner.parameters:
        if path in seen.every:
            yield seen.x, seen.every[path], path, {path: seen.every[path]}


def _words(weight: Array, sources: Arrays) -> str | None:
    source = next(iter(sources.values()))
    axes = [f"axis {axis}" for axis in range(source.ndim)]
    return PLAINLY if np.array_equal(weight, source) else function_of(weight, source, axes)


def _computed(
    compute: Callable[[Array, Array], Array], x: Array, weight: Array, shape: tuple[int, ...]
) -> Array | None:
    """The operation with the two as they are broadcast to a shape; None where they are not."""
    try:
        made = compute(x, weight)
    except ValueError:  # shapes that do not go together
        return None
    return made if made.shape == shape else None


def _gives(local: Local, seen: Seen, compute: Callable[[Array, Array], Array], x: Array, weight: Array) -> bool:
    made = _computed(compute, x, weight, seen.value.shape)
    return made is not None and local.agree(seen.value, made)
