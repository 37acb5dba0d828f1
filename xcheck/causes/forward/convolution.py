"""Convolutions: padding and the side of it, stride, dilation, groups, the mode of the border, a flipped kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...numerics.align.families import family_of
from ...records.trace import Array
from .dense import fitted_scale, scale_setting
from .fed import FACTOR, fed
from .forms import Form, Problem, Setting, either
from .one_computation import Seen

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Padding:
    """Padding before and after each axis.

    Attributes:
        pads: the numbers.
        same: they follow from the other settings, as TensorFlow's "same" does.
    """

    pads: Pads
    same: bool = False

    def __eq__(self, other: object) -> bool:
        """Whether it is asked for the same, or comes to the same."""
        return isinstance(other, Padding) and ((self.same and other.same) or self.pads == other.pads)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        one = set(self.pads)
        told = "{} before and {} after"
        return told.format(*one.pop()) if len(one) == 1 else "; ".join(told.format(*p) for p in self.pads)


LARGE = 1 << 22
"""Numbers beyond which one example stands for the batch: convolving is the same for each."""

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def spatial(value: Any, n: int, missing: Any = 1) -> tuple[Any, ...]:
    """A setting per spatial axis."""
    value = missing if value is None else value
    several = cast("tuple[Any, ...]", value if isinstance(value, tuple) else ())
    return several if len(several) == n else cast("tuple[Any, ...]", (value,) * n)


def same_pads(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Pads:
    """TensorFlow's "same": as little as gives ceil(size / stride), the odd one behind."""
    pads: list[tuple[int, int]] = []
    for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def read_pads(
    said: Any, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """Padding before and after each axis, from what either framework says."""
    if said in ("same", "SAME"):
        return Padding(same_pads(size, kernel, strides, dilation), same=True)
    if said is None or isinstance(said, str):
        return Padding(((0, 0),) * len(size))
    return Padding(tuple((int(p), int(p)) for p in spatial(said, len(size))))


def channels_last(array: Array) -> Array:
    """(B, C, ...) to (B, ..., C)."""
    return np.moveaxis(array, 1, -1)


def as_it_is(array: Array) -> Array:
    """Already in the neutral layout."""
    return array


def first_of_many(array: Array, size: int) -> Array:
    """One example of a large batch."""
    return array[:1] if size > LARGE else array


def _read(seen: Seen) -> Problem | None:
    call = seen.is_a("conv", "convtranspose")
    used = seen.weight(seen.value.ndim) if seen.value.ndim >= 3 else None
    if call is None or used is None or len(seen.given) != 1 or seen.x.ndim != seen.value.ndim:
        return None
    weight, made_of = used
    transposed = "transpose" in family_of(call.kind) or "transpose" in family_of(seen.owner.kind)
    first = seen.side == "torch" or seen.setting("data_format") == "channels_first"
    last = channels_last if first else as_it_is
    n = weight.ndim - 2
    x = last(seen.x)
    depthwise = "epthwise" in seen.owner.kind or "depthwise" in call.kind
    kernel = _kernel(weight, seen.side, transposed, depthwise)
    cost = x.size * math.prod(kernel.shape[:n])
    torch_names = {"conv": ("3", "4", "5", "6"), "convtranspose": ("3", "4", "7", "6")}
    stride_, padding_, dilation_, groups_ = torch_names["convtranspose" if transposed else "conv"]
    strides = spatial(seen.setting("stride", "strides", stride_ if seen.side == "torch" else "strides"), n)
    dilation = spatial(seen.setting("dilation", "dilation_rate", dilation_ if seen.side == "torch" else ""), n)
    said = seen.setting("padding", padding_ if seen.side == "torch" else "padding")
    groups = x.shape[-1] if depthwise else seen.setting("groups", groups_ if seen.side == "torch" else "") or 1
    bias, outputs = seen.parameter("bias"), last(seen.value).shape[-1:]
    if bias is not None and bias.shape != outputs:
        bias = next((a for a in seen.constants.values() if a.shape == outputs), None)
    alike = {path: array for path, array in made_of.items() if array.ndim == weight.ndim}
    sources = {path: _kernel(array, seen.side, transposed, depthwise) for path, array in alike.items()}
    geometry = {"strides": strides, "transposed": transposed}
    factor, alone = fed(seen, 1 if first else -1)
    padding = read_pads(said, _large(x.shape[1:-1], geometry), kernel.shape[:n], strides, dilation)
    if transposed:
        whole = _whole(x.shape[1:-1], kernel.shape[:n], strides, dilation)
        padding = Padding(_cropped(padding.pads, whole, last(seen.value).shape[1:-1]), padding.same)
    settings: dict[str, Any] = {
        "padding": padding,
        "strides": strides,
        "dilation": dilation,
        "groups": int(groups),
        "mode": seen.setting("padding_mode") or "zeros",
        "flipped": False,
        "scale": 1.0,
        "bias": float(bias is not None and seen.uses("bias")),
        "transposed": transposed,
        "factor": factor,
    }
    arrays = {"x": first_of_many(x, cost), "kernel": kernel} | ({} if bias is None else {"bias": bias})

    def neutral(array: Array) -> Array:
        return first_of_many(last(array), cost)

    return Problem(seen.side, arrays, settings, neutral(seen.value), neutral, {"kernel": sources}, alone)


def _kernel(weight: Array, side: str, transposed: bool, depthwise: bool) -> Array:
    """As (*k, inputs per group, outputs); transposed, as (*k, outputs, inputs)."""
    if side == "torch":
        return np.moveaxis(weight, (0, 1), (-1, -2))
    if depthwise and not transposed:
        return weight.reshape(*weight.shape[:-2], 1, -1)
    return weight


def _large(size: Sequence[int], s: Any) -> Sequence[int]:
    """What "same" looks at: the input, or, transposed, what a convolution back from there would have had as its."""
    return [n * step for n, step in zip(size, s["strides"], strict=True)] if s["transposed"] else size


def _compute(problem: Problem) -> Array | None:
    kernel, s = problem.arrays["kernel"], problem.settings
    x = problem.arrays["x"] * s["factor"]
    n = kernel.ndim - 2
    pads = s["padding"].pads
    if s["padding"].same:
        pads = same_pads(_large(x.shape[1:-1], s), kernel.shape[:n], s["strides"], s["dilation"])
    if s["flipped"]:
        kernel = np.flip(kernel, axis=tuple(range(n)))
    if s["transposed"]:
        out = _transposed(x, kernel, s, pads, problem.value.shape[1:-1])
    else:
        out = _convolved(x, kernel, s, pads)
    out = out if out is None else out * s["scale"]
    return out if out is None or "bias" not in problem.arrays else out + s["bias"] * problem.arrays["bias"]


def padded(x: Array, pads: Pads, mode: str, value: float = 0.0) -> Array:
    """Padding before and after each spatial axis."""
    options: dict[str, Any] = {"constant_values": value} if mode == "zeros" else {}
    return np.pad(x, ((0, 0), *pads, (0, 0)), mode=MODES[mode], **options)  # pyright: ignore


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """(B, *outputs, C, *kernel)."""
    n = len(kernel)
    long = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(x, long, axis=tuple(range(1, n + 1)))
    step = (slice(None), *(slice(None, None, s) for s in strides), slice(None))
    return view[(*step, *(slice(None, None, d) for d in dilation))]


def _convolved(x: Array, kernel: Array, s: Any, pads: Pads) -> Array | None:
    n, groups = kernel.ndim - 2, s["groups"]
    inputs, outputs = kernel.shape[-2:]
    if x.shape[-1] != inputs * groups or outputs % groups:
        return None
    seen = windows(padded(x, pads, s["mode"]), kernel.shape[:n], s["strides"], s["dilation"])
    axes = ([n + 1, *range(n + 2, 2 * n + 2)], [n, *range(n)])
    each = outputs // groups
    parts = [
        np.tensordot(
            seen[(*(slice(None),) * (n + 1), slice(g * inputs, (g + 1) * inputs))],
            kernel[..., g * each : (g + 1) * each],
            axes=axes,  # pyright: ignore[reportArgumentType]
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=-1)


def _transposed(x: Array, kernel: Array, s: Any, pads: Pads, wanted: Sequence[int]) -> Array | None:
    """Every input scatters the kernel; the border is cropped by the padding, and what is wanted beyond it is zero."""
    n = kernel.ndim - 2
    if s["groups"] != 1 or kernel.shape[-1] != x.shape[-1]:
        return None
    sizes = _whole(x.shape[1:-1], kernel.shape[:n], s["strides"], s["dilation"])
    crops = [before for before, _ in pads]
    room = [max(size, crop + want) for size, crop, want in zip(sizes, crops, wanted, strict=True)]
    out = np.zeros((x.shape[0], *room, kernel.shape[-2]))
    for at in product(*(range(k) for k in kernel.shape[:n])):
        spots = tuple(
            slice(a * d, a * d + (size - 1) * stride + 1, stride)
            for a, d, size, stride in zip(at, s["dilation"], x.shape[1:-1], s["strides"], strict=True)
        )
        out[(slice(None), *spots)] += x @ kernel[at].T
    return out[(slice(None), *(slice(c, c + w) for c, w in zip(crops, wanted, strict=True)))]


def _whole(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """What a transposed convolution gives before it is cropped."""
    every = zip(size, kernel, strides, dilation, strict=True)
    return tuple((n - 1) * step + d * (k - 1) + 1 for n, k, step, d in every)


def _cropped(pads: Pads, whole: Sequence[int], wanted: Sequence[int]) -> Pads:
    """What is cropped before and after each axis: behind, all that is not wanted."""
    every = zip(pads, whole, wanted, strict=True)
    return tuple((before, size - want - before) for (before, _), size, want in every)


def _others(problem: Problem) -> Sequence[Any]:
    x, kernel, s = problem.arrays["x"], problem.arrays["kernel"], problem.settings
    window, geometry = kernel.shape[: kernel.ndim - 2], (s["strides"], s["dilation"])
    found = other_pads(_large(x.shape[1:-1], s), window, *geometry)
    if not s["transposed"]:
        return found
    whole = _whole(x.shape[1:-1], window, *geometry)
    return [Padding(_cropped(pads.pads, whole, problem.value.shape[1:-1])) for pads in found]


def other_pads(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[Padding]:
    """The ways to pad that ports mix up."""
    long = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    found: list[Pads] = [
        same_pads(size, kernel, strides, dilation),
        tuple((k // 2, k // 2) for k in long),
        tuple(((k - 1) // 2, (k - 1) // 2) for k in long),
        ((0, 0),) * len(long),
        tuple((k - 1, 0) for k in long),
        tuple((k // 2, k // 2 + 1) for k in long),
    ]
    turned = [tuple((after, before) for before, after in pads) for pads in found]
    return [Padding(pads) for pads in (*found, *turned)]


def _strides(problem: Problem) -> Sequence[Any]:
    return [(step,) * len(problem.settings["strides"]) for step in (1, 2, 3, 4)]


def _groups(problem: Problem) -> Sequence[Any]:
    return [g for g in range(1, min(problem.arrays["x"].shape[-1], 64) + 1) if problem.arrays["x"].shape[-1] % g == 0]


def _modes(problem: Problem) -> Sequence[Any]:
    return list(MODES)


def _scale(problem: Problem, value: Array) -> Any:
    """What the kernel would be multiplied by, where all else is as it is said."""
    try:
        own = _compute(problem.having({"bias": 0.0, "scale": 1.0}))
    except ValueError:  # these settings do not go with these arrays
        return None
    few = math.prod(problem.arrays["kernel"].shape[:-1]) < 2
    if own is None or own.shape != value.shape or few or not problem.alone:
        return None  # of one input any other kernel is a multiple
    return fitted_scale(own, value - problem.settings["bias"] * problem.arrays.get("bias", 0.0))


def _bias(problem: Problem) -> Sequence[Any]:
    return (0.0, 1.0, 2.0) if "bias" in problem.arrays and np.any(problem.arrays["bias"]) else ()


def _read_plain(seen: Seen) -> Problem | None:
    problem = _read(seen)
    return None if problem is None or problem.settings["transposed"] else problem


def _read_transposed(seen: Seen) -> Problem | None:
    problem = _read(seen)
    return problem if problem is not None and problem.settings["transposed"] else None


_PADDED = Setting(
    "padding",
    "padding",
    "the padding",
    "pad by {} with torch.nn.functional.pad, and padding=0",
    "pad by {} with keras.layers.ZeroPadding, and padding='valid'",
    _others,
    shown=str,
)
_CROPPED = Setting(
    "padding",
    "padding",
    "the cropping of the output",
    "padding=0, and slice {} off",
    "padding='valid', and crop {} with keras.layers.Cropping",
    _others,
    shown=str,
)
_GEOMETRY = (
    Setting("strides", "stride", "the stride", "stride={}", "strides={}", _strides),
    Setting("dilation", "dilation", "the dilation", "dilation={}", "dilation_rate={}", _strides),
    Setting("mode", "padding_mode", "the padding of the border", "padding_mode={}", "", _modes),
    Setting("groups", "groups", "the number of groups", "groups={}", "groups={}", _groups),
    FACTOR,
    scale_setting(_scale),
    Setting("flipped", "flipped_kernel", "whether the kernel is flipped", "{}", "{}", either),
    Setting("bias", "bias", "the factor of the bias", "{}", "{}", _bias, shown=lambda n: f"{n:g}"),
)

CONVOLUTION = Form("convolution", _read_plain, _compute, (_PADDED, *_GEOMETRY))
"""Convolutions of one to three axes, depthwise and grouped."""

TRANSPOSED = Form("transposed convolution", _read_transposed, _compute, (_CROPPED, *_GEOMETRY))
"""Those whose padding is cropped off what comes out."""
