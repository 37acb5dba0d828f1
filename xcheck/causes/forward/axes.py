"""Functions along axes: another axis, another reduction, the divisor of a variance, another slice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...numerics.align.orders import Order, closest
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array
from ..prove import Trial, prove
from ..text import listed
from .forms import MASKED
from .masks import ALL, fitting, shown_mask
from .one_computation import Local, Seen

Axes = tuple[int, ...]

MOST_PICKED = 4096
"""Places along an axis beyond which they are not looked for one by one."""

MOST_AXES = 5
"""Axes beyond which subsets of them are not tried."""


def _softmax(x: Array, axes: Axes) -> Array:
    shifted = np.exp(x - x.max(axis=axes, keepdims=True))
    return shifted / shifted.sum(axis=axes, keepdims=True)


def _logsumexp(x: Array, axes: Axes) -> Array:
    top = x.max(axis=axes, keepdims=True)
    return np.squeeze(top, axes) + np.log(np.exp(x - top).sum(axis=axes))


def _norm(x: Array, axes: Axes) -> Array:
    return np.sqrt((x**2).sum(axis=axes))


def _running(x: Array, axes: Axes) -> Array:
    return np.cumsum(x, axis=axes[0]) if len(axes) == 1 else np.full_like(x, np.nan)


REDUCTIONS: Mapping[str, Callable[[Array, Axes], Array]] = {
    "the mean": lambda x, a: x.mean(axis=a),
    "the sum": lambda x, a: x.sum(axis=a),
    "the largest": lambda x, a: x.max(axis=a),
    "the smallest": lambda x, a: x.min(axis=a),
    "the variance (divided by n)": lambda x, a: x.var(axis=a),
    "the variance (divided by n - 1)": lambda x, a: x.var(axis=a, ddof=1),
    "the deviation (divided by n)": lambda x, a: x.std(axis=a),
    "the deviation (divided by n - 1)": lambda x, a: x.std(axis=a, ddof=1),
    "the mean of squares": lambda x, a: (x**2).mean(axis=a),
    "the norm": _norm,
    "the logarithm of the sum of exponentials": _logsumexp,
    "the product": lambda x, a: x.prod(axis=a),
}
"""What is left of some axes."""

ALONG: Mapping[str, Callable[[Array, Axes], Array]] = {
    "softmax": _softmax,
    "log_softmax": lambda x, a: np.log(_softmax(x, a)),
    "division by the norm": lambda x, a: x / np.sqrt((x**2).sum(axis=a, keepdims=True)),
    "division by the sum": lambda x, a: x / x.sum(axis=a, keepdims=True),
    "subtraction of the mean": lambda x, a: x - x.mean(axis=a, keepdims=True),
    "the running sum": lambda x, a: _running(x, a),
    "the running sum from the end": lambda x, a: np.flip(_running(np.flip(x, a), a), a),
    "the running sum of what is before": lambda x, a: _running(x, a) - x,
}
"""What keeps the shape."""


@dataclass(frozen=True, slots=True)
class Along:
    """A function along axes, in the axes of PyTorch.

    Attributes:
        function: in words.
        axes: of the PyTorch tensor.
        gap: how far what it gives is from the value.
        mask: which positions count.
    """

    function: str
    axes: Axes
    gap: float = field(compare=False)
    mask: str = ALL


@isolated(list[Cause])
def axes_causes(local: Local) -> list[Cause]:
    """Why two functions along axes differ; none where either side is no such function.

    Args:
        local: what both sides did.
    """
    if local.torch.idle != local.keras.idle:
        return _of_one_side(local)
    order = _one_input(local)
    if order is None:
        return []
    x, y = _x(local.torch), _x(local.keras)
    torch = _found(local, x, local.torch.value)
    keras = _found(local, order.apply(y), _squeezed(local.keras.value, x, y, order))
    if torch is None or keras is None or torch == keras:
        return []
    return [_cause(local, torch, keras)]


def _of_one_side(local: Local) -> list[Cause]:
    """A function along axes that one side alone takes, where the other goes on with what goes in."""
    side: SideName = "keras" if local.torch.idle else "torch"
    seen = local.of(side)
    found = _found(local, _x(seen), seen.value) if _single(seen) and _x(seen).shape == seen.value.shape else None
    if found is None or not found.function:
        return []
    what = f"{found.function} over axis {_shown(found.axes)} of {_x(seen).shape}"
    names = local.torch.call.name, local.keras.call.name
    cause = Cause(
        "one_sided_operation",
        "forward",
        *names,
        f"{side} alone takes {what}",
        {side: what},
        fix=f"{other_side(side)}: {what}, or {side}: leave it out",
    )
    return [prove(cause, [Trial(local.error, found.gap, local.allowed, seen.value.size)])]


def _one_input(local: Local) -> Order | None:
    """From the axes of what goes into keras to those in torch, where it is one tensor and the same on both sides."""
    if local.torch.idle or local.keras.idle or not _single(local.torch) or not _single(local.keras):
        return None
    x, y = _x(local.torch), _x(local.keras)
    order = closest(y, x)
    return order if order is not None and local.agree(x, order.apply(y)) else None


def _measured(seen: Seen) -> list[Array]:
    """What goes in besides masks and lengths."""
    return [a for a in seen.given.values() if a.dtype.kind == "f" and not np.isin(a, (0.0, 1.0)).all()]


def _x(seen: Seen) -> Array:
    return _measured(seen)[0]


def _single(seen: Seen) -> bool:
    return len(_measured(seen)) == 1 and seen.value.dtype.kind == "f"


def _squeezed(value: Array, x: Array, y: Array, order: Order) -> Array:
    """The value of keras in the axes of torch, where it has as many as what went in."""
    return order.apply(value) if value.shape == y.shape else value


def _found(local: Local, x: Array, value: Array) -> Along | None:
    every = [(function, axes, out, ALL) for function, axes, out in _tried(x, value)] + [*_masked(local, x, value)]
    for function, axes, out, mask in every:
        flat = out.reshape(-1)
        if flat.size == value.size and np.isfinite(flat).all():
            gap = min(local.gap(value.reshape(-1), flat), _sorted_gap(local, value, out))
            if gap <= local.allowed:
                return Along(function, axes, gap, mask)
    return None


def _masked(local: Local, x: Array, value: Array) -> Iterator[tuple[str, Axes, Array, str]]:
    """Reductions of the positions that count."""
    for axis in {1, x.ndim - 1} if 2 < x.ndim <= MOST_AXES else ():
        moved = np.moveaxis(x, axis, 1)
        for name, mask in fitting(local.torch.masks, moved.shape).items():
            if mask.ndim == 2 and value.size == x.size // x.shape[axis] and mask.any(axis=1).all():
                m = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))
                total = (moved * m).sum(axis=1)
                yield "the mean", (axis,), total / m.sum(axis=1), name
                yield "the sum", (axis,), total, name
                yield "the largest", (axis,), np.where(m, moved, -np.inf).max(axis=1), name


def _sorted_gap(local: Local, value: Array, made: Array) -> float:
    return local.gap(np.sort(value.reshape(-1)), np.sort(made.reshape(-1)))


def _tried(x: Array, value: Array) -> Iterator[tuple[str, Axes, Array]]:
    if x.ndim > MOST_AXES:
        return
    table = ALONG if value.size == x.size else REDUCTIONS
    counts = range(1, x.ndim + 1) if table is REDUCTIONS else (1, 2)
    with np.errstate(all="ignore"):
        for n in counts:
            for axes in itertools.combinations(range(x.ndim), n):
                left = x.size // int(np.prod([x.shape[a] for a in axes]))
                if table is REDUCTIONS and left != value.size:
                    continue
                for name, function in table.items():
                    yield name, axes, function(x, axes)
                for summed in itertools.chain.from_iterable(itertools.combinations(axes, k) for k in range(1, n)):
                    if table is REDUCTIONS:
                        many = int(np.prod([x.shape[a] for a in axes if a not in summed]))
                        yield f"the mean of sums along axis {_shown(summed)}", axes, x.sum(axis=axes) / many


def _cause(local: Local, torch: Along, keras: Along) -> Cause:
    if torch.function == keras.function:
        name, said = (
            "axis",
            f"{torch.function} is taken over axis {_shown(torch.axes)} of {_x(local.torch).shape} in torch",
        )
        said += f", and over what is axis {_shown(keras.axes)} there in keras"
        if torch.axes == keras.axes:
            name, said = (
                MASKED.cause,
                f"{torch.function} is taken over {shown_mask(torch.mask)} in torch",
            )
            said += f" and over {shown_mask(keras.mask)} in keras"
    elif "divided by" in torch.function and torch.axes == keras.axes and torch.function[:9] == keras.function[:9]:
        name, said = "biased_variance", f"{torch.function} in torch, {keras.function} in keras"
    else:
        name, said = "reduction", f"{torch.function} in torch, {keras.function} in keras"
    cause = Cause(
        id=name,
        phase="forward",
        torch=local.torch.call.name,
        keras=local.keras.call.name,
        summary=said,
        evidence={
            "torch": [torch.function, list(torch.axes)],
            "keras": [keras.function, list(keras.axes)],
        },
        fix=f"keras: {MASKED.keras}"
        if name == MASKED.cause
        else f"keras: {torch.function} over what is torch's axis {_shown(torch.axes)}, or the other way round",
    )
    return prove(cause, [Trial(local.error, max(torch.gap, keras.gap), local.allowed, local.torch.value.size)])


def _shown(axes: Axes) -> str:
    return ", ".join(map(str, axes))


@isolated(list[Cause])
def slice_causes(local: Local) -> list[Cause]:
    """Both sides take a slice of the same tensor, and not the same one.

    Args:
        local: what both sides did.
    """
    order = _one_input(local)
    if order is None:
        return []
    x, y = _x(local.torch), _x(local.keras)
    torch, keras = (_slice(local, a, v) for a, v in ((x, local.torch.value), (order.apply(y), local.keras.value)))
    if torch is None or keras is None:
        return _picked(local, x, order.apply(y))
    if torch[:-1] == keras[:-1]:
        return []
    if torch[0] != keras[0]:  # parts along other axes: the numbers lie in another order, and no slice mends that
        return []
    told = [
        f"{first}:{last + 1}{f':{step}' * (step > 1)} of {x.shape[axis]} along axis {axis}"
        for axis, first, last, step, _ in (torch, keras)
    ]
    trial = Trial(local.error, max(torch[-1], keras[-1]), local.allowed, local.torch.value.size)
    return [
        prove(
            Cause(
                id="slice",
                phase="forward",
                torch=local.torch.call.name,
                keras=local.keras.call.name,
                summary=f"the slices differ: {told[0]} in torch, {told[1]} in keras",
                evidence={"torch": list(torch[:-1]), "keras": list(keras[:-1])},
                fix=f"keras: take {told[0]}, or torch: take {told[1]}",
            ),
            [trial],
        )
    ]


def _picked(local: Local, x: Array, y: Array) -> list[Cause]:
    """Both sides take places along the last axis that are no one slice, such as parts that lie in another order."""
    torch, keras = _places(local, x, local.torch.value), _places(local, y, local.keras.value)
    if torch is None or keras is None or torch == keras:
        return []
    told = [f"{_ranges(places)} of {x.shape[-1]}" for places in (torch, keras)]
    after = local.gap(np.sort(x[..., torch], axis=None), np.sort(local.torch.value, axis=None))
    cause = Cause(
        "permuted_axes",
        "forward",
        local.torch.call.name,
        local.keras.call.name,
        f"the parts of the last axis lie in another order: {told[0]} are taken in torch, {told[1]} in keras",
        {"torch": torch, "keras": keras},
        fix="split into the same axes in one order on both sides, such as (3, heads, width) for (heads, 3, width), or "
        "permute the rows of the weight before it",
    )
    return [prove(cause, [Trial(local.error, after, local.allowed, local.torch.value.size)])]


def _places(local: Local, x: Array, value: Array) -> list[int] | None:
    """Which places along the last axis a value is made of, in ascending order; None where it is made otherwise."""
    n, rows = x.shape[-1], x.size // max(x.shape[-1], 1)
    if x.ndim < 2 or rows < 2 or value.size % rows or not 0 < value.size < x.size or n > MOST_PICKED:
        return None
    columns = np.sort(x.reshape(rows, n), axis=0).T
    kept = [i for i, column in enumerate(columns) if np.isin(column[[0, -1]], value).all()]
    if len(kept) * rows != value.size:
        return None
    same = _sorted_gap(local, value, x[..., kept]) <= local.allowed
    return kept if same else None


def _ranges(places: Sequence[int]) -> str:
    """Places as ranges: "0:4 and 12:16"."""
    starts = [i for i, p in enumerate(places) if not i or places[i - 1] != p - 1]
    ends = [*starts[1:], len(places)]
    return listed([f"{places[a]}:{places[b - 1] + 1}" for a, b in zip(starts, ends, strict=True)])


def _slice(local: Local, x: Array, value: Array) -> tuple[int, int, int, int, float] | None:
    """(axis, first, last, step) of the slice that a value is, and how far it is from that."""
    top, reach = float(value.max(initial=0.0)), local.allowed * float(np.abs(value).max(initial=0.0))
    for axis in range(x.ndim):
        rest, n = x.size // max(x.shape[axis], 1), x.shape[axis]
        if not rest or value.size % rest or value.size >= x.size:
            continue
        many = value.size // rest
        for step in range(1, (n - 1) // (many - 1) + 1 if many > 1 else 2):
            for first in range(n - (many - 1) * step):
                part = np.take(x, range(first, first + (many - 1) * step + 1, step), axis=axis)
                if abs(float(part.max(initial=0.0)) - top) > reach:  # soon told
                    continue
                gap = _sorted_gap(local, value, part)
                if gap <= local.allowed:
                    return axis, first, first + (many - 1) * step, step, gap
    return None
