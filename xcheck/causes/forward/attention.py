"""Attention: the scale, which positions a mask lets through, what blocked ones get, the axis of the softmax."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...records.calls import Call
from ...records.trace import Array, Arrays
from .forms import EXCHANGED, Form, Problem, Setting, either, one_of
from .masks import BLOCKED
from .one_computation import Seen

FILLS = ("left out", "lowered by a large number", "set to a large negative number", "given nothing")
"""What becomes of what a mask blocks; the four part only where a row has nothing else."""

LARGE = 1e9
MOST = 1 << 21
"""Scores beyond which the roles of the tensors are not tried out."""

AXES = ("keys", "queries")


def _read(seen: Seen) -> Problem | None:
    layer = next((c for c in (seen.call, seen.owner, *seen.around) if _is_layer(c)), None)
    found = _of_layer(seen, layer) if layer is not None else None
    return found or _of_heads(seen)


def _is_layer(call: Call) -> bool:
    return not call.function and call.kind in ("MultiheadAttention", "MultiHeadAttention")


def attend(mask: Array, *, blocks: bool) -> Array:
    """A mask as truth values that say what is attended to.

    Args:
        mask: truth values, or numbers that are added to the scores.
        blocks: True means blocked.
    """
    if mask.dtype.kind == "f":
        return mask > BLOCKED
    return ~mask.astype(bool) if blocks else mask.astype(bool)


def _settings(size: int, masked: bool) -> dict[str, Any]:
    return {
        "scale": 1.0 / math.sqrt(size),
        "masked": masked,
        "turned": False,
        "causal": False,
        "fill": FILLS[0],
        "axis": AXES[0],
        "exchanged": False,
    }


# A layer with its projections ------------------------------------------------------------------------------------


def _of_layer(seen: Seen, layer: Call) -> Problem | None:
    torch, given = seen.side == "torch", layer.inputs
    query, second, third = (_first(given, n, w) for n, w in (("0", "query"), ("1", "key"), ("2", "value")))
    if not torch:  # a Keras layer takes the value before the key
        second, third = _first(given, "2", "key"), _first(given, "1", "value")
        second = third if second is None else second
    weights = _torch_weights(seen, layer) if torch else _keras_weights(seen)
    if query is None or second is None or third is None or weights is None:
        return None
    turned = torch and layer.settings.get("batch_first") is not True
    inside = torch and (turned or seen.inner.kind == "multi_head_attention_forward")  # positions come before the batch
    q, k, v = (_projected(np.swapaxes(a, 0, 1) if turned else a, *weights[n]) for a, n in _each(query, second, third))
    out, bias = weights["out"]
    if q is None or k is None or v is None or seen.value.size != q.shape[0] * q.shape[2] * out.shape[-1]:
        return None

    def neutral(array: Array) -> Array:
        if inside:
            return np.swapaxes(array.reshape(q.shape[2], q.shape[0], -1), 0, 1)
        return array.reshape(q.shape[0], q.shape[2], -1)

    arrays = {"x": q, "k": k, "v": v, "out": out} | ({} if bias is None else {"bias": bias})
    masks = _layer_masks(given, q, k, torch)
    if masks:
        arrays["mask"] = np.logical_and.reduce(np.broadcast_arrays(*masks))
    return Problem(seen.side, arrays, _settings(q.shape[-1], bool(masks)), neutral(seen.value), neutral)


def _first(given: Arrays, *names: str) -> Array | None:
    return next((given[n] for n in names if n in given), None)


def _each(query: Array, key: Array, value: Array) -> Iterator[tuple[Array, str]]:
    yield from zip((query, key, value), ("query", "key", "value"), strict=True)


def _projected(x: Array, kernel: Array, bias: Array | None) -> Array | None:
    """(B, T, E) by a kernel (E, H, D) to (B, H, T, D)."""
    if x.ndim != 3 or x.shape[-1] != kernel.shape[0]:
        return None
    made = np.einsum("bte,ehd->bhtd", x, kernel)
    return made if bias is None else made + bias[:, None, :]


_Weights = Mapping[str, tuple[Array, Array | None]]


def _torch_weights(seen: Seen, layer: Call) -> _Weights | None:
    heads = layer.settings.get("num_heads")
    packed, bias = seen.ending("in_proj_weight"), seen.ending("in_proj_bias")
    out, out_bias = seen.ending("out_proj.weight"), seen.ending("out_proj.bias")
    if packed is None or out is None or not isinstance(heads, int) or packed.shape[0] % (3 * heads):
        return None
    found: dict[str, tuple[Array, Array | None]] = {}
    for i, name in enumerate(("query", "key", "value")):
        part = np.split(packed, 3)[i]
        kernel = part.T.reshape(part.shape[1], heads, -1)
        found[name] = kernel, None if bias is None else np.split(bias, 3)[i].reshape(heads, -1)
    found["out"] = out.T.reshape(heads, -1, out.shape[0]), out_bias
    return found


def _keras_weights(seen: Seen) -> _Weights | None:
    found: dict[str, tuple[Array, Array | None]] = {}
    for name, inner in (("query", "query"), ("key", "key"), ("value", "value"), ("out", "attention_output")):
        kernel, bias = seen.ending(f"/{inner}/kernel"), seen.ending(f"/{inner}/bias")
        if kernel is None or kernel.ndim != 3:
            return None
        found[name] = kernel, bias
    return found


def _layer_masks(given: Arrays, q: Array, k: Array, torch: bool) -> list[Array]:
    """What each mask lets through, for (B, H, queries, keys)."""
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    found: list[Array] = []
    for names in (("3", "key_padding_mask"), ("5", "attn_mask")) if torch else (("attention_mask",),):
        mask = _first(given, *names)
        wide = None if mask is None else _widened(attend(mask, blocks=torch), shape, keys=names[-1].startswith("key"))
        if wide is not None:
            found.append(wide)
    for name, axis in (("query_mask", 2), ("value_mask", 3), ("key_mask", 3)):
        if name in given and given[name].shape == (shape[0], shape[axis]):
            mask = attend(given[name], blocks=False)
            found.append(mask[:, None, :, None] if axis == 2 else mask[:, None, None, :])
    return found


def _widened(mask: Array, shape: Sequence[int], *, keys: bool) -> Array | None:
    """A mask of fewer axes as one of (B, H, queries, keys)."""
    batch, heads, queries, many = shape
    if mask.ndim == 2 and (keys or mask.shape != (queries, many)):
        mask = mask[:, None, None, :]
    elif mask.ndim == 2:
        mask = mask[None, None]
    elif mask.ndim == 3:
        mask = mask.reshape(batch, heads, queries, many) if mask.shape[0] == batch * heads != batch else mask[:, None]
    try:
        return np.broadcast_to(mask, shape) if mask.ndim == 4 else None
    except ValueError:
        return None


# Heads that others have projected --------------------------------------------------------------------------------


def _of_heads(seen: Seen) -> Problem | None:
    """Three tensors whose roles are found by trying which give what came out."""
    floats = [a for a in seen.given.values() if a.dtype.kind == "f" and a.ndim in (3, 4) and not _is_mask(a)]
    asked = seen.is_a("attention") is not None or seen.is_a("softmax") is not None
    if not asked or len(floats) != 3 or len({a.ndim for a in floats}) != 1:
        return None
    others = [*seen.given.values(), *seen.constants.values()]
    masks = [a for a in others if _is_mask(a) and a.ndim <= 4][:1]
    for arranged in _arranged(floats):
        q, k, v = arranged
        if q.shape[2] * k.shape[2] * q.shape[0] * q.shape[1] > MOST:
            return None
        for neutral in _neutrals(q, v, seen.value):
            arrays = {"x": q, "k": k, "v": v}
            for mask in masks:
                wide = _widened(attend(mask, blocks=False), (*q.shape[:3], k.shape[2]), keys=False)
                arrays |= {} if wide is None else {"mask": wide}
            problem = Problem(seen.side, arrays, _settings(q.shape[-1], "mask" in arrays), neutral(seen.value), neutral)
            for settings in _readings(problem):
                tried = problem.having(settings)
                made = _compute(tried)
                if made is not None and np.allclose(made, problem.value, rtol=1e-9, atol=1e-12):
                    return tried
    return None


def _is_mask(array: Array) -> bool:
    if array.dtype.kind == "b":
        return True
    return array.dtype.kind == "f" and bool(((array == 0) | (array < BLOCKED)).all())


def _arranged(arrays: Sequence[Array]) -> Iterator[tuple[Array, Array, Array]]:
    """Which is query, key and value, as (B, H, T, D) each."""
    for q, k, v in itertools.permutations(arrays):
        if q.ndim == 3:
            ways = [(q[:, None], k[:, None], v[:, None])]
        else:
            ways = [(q, k, v), tuple(np.swapaxes(a, 1, 2) for a in (q, k, v))]
        for query, key, value in ways:
            if (
                query.shape[:2] == key.shape[:2]
                and query.shape[-1] == key.shape[-1]
                and key.shape[:3] == value.shape[:3]
            ):
                yield query, key, value


def _neutrals(q: Array, v: Array, value: Array) -> Iterator[Callable[[Array], Array]]:
    """How what came out can be (B, H, T, D)."""
    batch, heads, queries, size = *q.shape[:3], v.shape[-1]
    if value.size != batch * heads * queries * size:
        return

    def heads_first(array: Array) -> Array:
        return array.reshape(batch, heads, queries, size)

    def positions_first(array: Array) -> Array:
        return np.swapaxes(array.reshape(batch, queries, heads, size), 1, 2)

    yield heads_first
    yield positions_first


def _readings(problem: Problem) -> Iterator[dict[str, Any]]:
    for scale in _scales(problem):
        for masked, turned in ((True, False), (True, True), (False, False)):
            if not masked or "mask" in problem.arrays:
                for causal in (False, True):
                    yield {"scale": scale, "masked": masked, "turned": turned, "causal": causal}


# What is computed ------------------------------------------------------------------------------------------------


def _compute(problem: Problem) -> Array | None:
    arrays, s = problem.arrays, problem.settings
    if s.get("exchanged"):  # positions attend to those of the other examples
        turned = {name: np.swapaxes(arrays[name], 0, 2) for name in ("x", "k", "v")}
        made = _compute(replace(problem, arrays={**arrays, **turned}, settings={**s, "exchanged": False}))
        return None if made is None else np.swapaxes(made, 0, 1 if "out" in arrays else 2)
    scores: Array = np.einsum("bhqd,bhkd->bhqk", arrays["x"], arrays["k"]) * s["scale"]
    kept = _kept(problem, scores.shape)
    if kept is None:
        return None
    if s["fill"] == FILLS[1]:
        scores = np.where(kept, scores, scores - LARGE)
    elif s["fill"] == FILLS[2]:
        scores = np.where(kept, scores, -LARGE)
    else:
        scores = np.where(kept, scores, -np.inf)
    axis = -1 if s["axis"] == AXES[0] else -2
    shares = np.exp(scores - scores.max(axis=axis, keepdims=True))
    shares = shares / shares.sum(axis=axis, keepdims=True)
    if s["fill"] == FILLS[3]:
        shares = np.where(kept, shares, 0.0)
    made = np.einsum("bhqk,bhkd->bhqd", shares, arrays["v"])
    if "out" not in arrays:
        return made
    joined = np.einsum("bhqd,hde->bqe", made, arrays["out"])
    return joined + arrays["bias"] if "bias" in arrays else joined


def _kept(problem: Problem, shape: tuple[int, ...]) -> Array | None:
    """What is attended to."""
    s, kept = problem.settings, np.ones(shape, bool)
    if s["masked"]:
        if "mask" not in problem.arrays:
            return None
        mask = problem.arrays["mask"]
        kept = kept & (~mask if s["turned"] else mask)
    return kept & np.tril(np.ones(shape[-2:], bool)) if s["causal"] else kept


def _scales(problem: Problem) -> Sequence[Any]:
    size, heads = problem.arrays["x"].shape[-1], problem.arrays["x"].shape[1]
    width = size * heads
    return (1 / math.sqrt(size), 1.0, 1 / math.sqrt(width), 1 / size, math.sqrt(size), 1 / math.sqrt(heads), 1 / width)


def _fills(problem: Problem) -> Sequence[Any]:
    return FILLS if problem.settings["masked"] or problem.settings["causal"] else ()


def _turned(turned: bool) -> str:
    return "blocked where the mask is true" if turned else "attended to where the mask is true"


ATTENTION = Form(
    "attention",
    _read,
    _compute,
    (
        Setting("turned", "mask_polarity", "a position", "~mask", "attention_mask=~mask", either, shown=_turned),
        Setting("scale", "attention_scale", "the factor of the scores", "scale={}", "multiply by {}", _scales),
        Setting("masked", "attention_mask", "whether the mask is used", "{}", "{}", either),
        Setting("causal", "causal_mask", "whether later positions are blocked", "is_causal={}", "{}", either),
        Setting("fill", "mask_fill", "what is blocked is", "{}", "{}", _fills, shown=str),
        EXCHANGED,
        Setting("axis", "axis", "the softmax is over the", "{}", "{}", one_of(*AXES), shown=str),
    ),
)
"""Scaled dot-product attention: of heads, or of a layer with its projections."""
