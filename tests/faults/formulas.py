"""Operations that people write by hand, once for both frameworks, in the words of either; see `words.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

S = Mapping[str, Any]


def _gates(n: Any, s: S, x: Any, w: Any) -> Any:
    a, b = n.split(n.matmul(x, w["wide"]), 2)
    if s.get("turned"):
        a, b = b, a
    return a * {"sigmoid": n.sigmoid, "silu": n.silu, "gelu": n.gelu, "tanh": n.tanh}[s.get("fn", "sigmoid")](b)


def _rotated(n: Any, s: S, x: Any, w: Any) -> Any:
    t, d = x.shape[-2:]
    rates = s.get("base", 100.0) ** (-np.arange(0, d, 2) / d)
    angles = (np.arange(t)[:, None] + s.get("start", 0)) * rates
    if s.get("halves", True):
        a, b = n.split(x, 2)
        angles = np.concatenate([angles, angles], -1)
        turned = n.cat([-b, a])
    else:
        angles = np.repeat(angles, 2, -1)
        turned = n.reshape(n.stack([-x[..., 1::2], x[..., ::2]], -1), -1, t, d)
    return x * n.const(np.cos(angles), x) + turned * n.const(np.sin(angles), x)


def _waves(n: Any, s: S, x: Any, w: Any) -> Any:
    t, d = x.shape[-2:]
    angles = np.arange(t)[:, None] * 100.0 ** (-np.arange(0, d, 2) / d)
    parts = [np.sin(angles), np.cos(angles)]
    table = np.concatenate(parts, -1) if s.get("halves") else np.stack(parts, -1).reshape(t, d)
    return x + n.const(table, x)


def _masked_mean(n: Any, s: S, x: Any, w: Any) -> Any:
    """Added to each step: the mean of the steps whose first number is positive."""
    m = n.cast(x[..., :1] > 0, x)
    if s.get("turned"):
        m = 1 - m
    many = {"own": n.maximum(n.sum(m, 1, True), n.const(1.0, x)), "all": float(x.shape[1])}[s.get("by", "own")]
    return x + n.sum(x * m, 1, True) / many


def _masked_scores(n: Any, s: S, x: Any, w: Any) -> Any:
    """Shares of the steps, of which those that a mask leaves out get none."""
    keep = x[..., :1] > -0.5
    if s.get("turned"):
        keep = x[..., :1] <= -0.5
    scores = n.where(keep, n.matmul(x, w["score"]), n.const(s.get("fill", -1e9), x))
    return x * n.softmax(scores, s.get("axis", 1))


def _heads(n: Any, s: S, x: Any, w: Any) -> Any:
    """Attention of one product for queries, keys and values."""
    _, t, d = x.shape
    h = s.get("heads", 2)
    y = n.matmul(x, w["qkv"])
    if s.get("packed", "three first") == "three first":
        q, k, v = (n.reshape(part, -1, t, h, d // h) for part in n.split(y, 3))
    elif s["packed"] == "heads first":
        y = n.reshape(y, -1, t, h, 3 * d // h)
        q, k, v = n.split(y, 3)
    else:
        y = n.reshape(y, -1, t, h, d // h, 3)
        q, k, v = y[..., 0], y[..., 1], y[..., 2]
    q, k, v = (n.turn(part, 0, 2, 1, 3) for part in (q, k, v))
    if s.get("unit"):
        q, k = n.normalize(q, 1e-12), n.normalize(k, 1e-12)
    scores = n.matmul(q, n.turn(k, 0, 1, 3, 2)) * s.get("scale", (d // h) ** -0.5)
    i = np.arange(t)
    behind = i[:, None] - i[None, :]
    if "slope" in s:
        scores = scores - n.const(s["slope"] * np.abs(behind), x)
    if "bias" in w:
        at = behind + t - 1 if not s.get("bias_turned") else t - 1 - behind
        rows = n.const(np.eye(2 * t - 1)[at], x)
        scores = scores + n.sum(rows * w["bias"], -1)
    if s.get("cap"):
        scores = n.tanh(scores / s["cap"]) * s["cap"]
    kept = {
        "all": np.ones((t, t), bool),
        "causal": behind >= 0,
        "later": behind <= 0,
        "strict": (behind > 0) | (i[:, None] == 0) & (behind == 0),
        "window": np.abs(behind) <= s.get("window", 1),
        "causal window": (behind >= 0) & (behind <= s.get("window", 1)),
    }[s.get("mask", "all")]
    if not kept.all():
        scores = n.where(n.const(kept, x), scores, n.const(-1e9, x))
    shares = scores if s.get("no_softmax") else n.softmax(scores, s.get("axis", -1))
    return n.reshape(n.turn(n.matmul(shares, v), 0, 2, 1, 3), -1, t, d)


def _ready(n: Any, s: S, x: Any, w: Any) -> Any:
    """Attention by the function of the framework."""
    _, t, d = x.shape
    q, k, v = (n.reshape(part, -1, t, 2, d // 2) for part in n.split(n.matmul(x, w["qkv"]), 3))
    options: dict[str, Any] = {"is_causal": True} if s.get("causal", True) else {}
    if "mask" in s:
        keep = np.abs(np.arange(t)[:, None] - np.arange(t)) <= 1
        options = {"attn_mask": n.const(keep if s["mask"] == "keep" else ~keep, x)}
    if "scale" in s:
        options["scale"] = s["scale"]
    return n.reshape(n.attend(q, k, v, **options), -1, t, d)


def _grouped(n: Any, s: S, x: Any, w: Any) -> Any:
    """Each of two heads of keys serves two of the queries."""
    _, t, d = x.shape
    e = d // 4
    q = n.turn(n.reshape(n.matmul(x, w["q"]), -1, t, 4, e), 0, 2, 1, 3)
    k, v = (n.turn(n.reshape(n.matmul(x, w[name]), -1, t, 2, e), 0, 2, 1, 3) for name in ("k", "v"))
    at = [0, 1, 0, 1] if s.get("tiled") else [0, 0, 1, 1]
    k, v = (n.stack([y[:, i] for i in at], 1) for y in (k, v))
    shares = n.softmax(n.matmul(q, n.turn(k, 0, 1, 3, 2)) * e**-0.5, -1)
    return n.reshape(n.turn(n.matmul(shares, v), 0, 2, 1, 3), -1, t, d)


def _squeezed(n: Any, s: S, x: Any, w: Any) -> Any:
    """Channels of an image, weighed by what they are on the whole."""
    top = n.mean(x, n.hw) if s.get("how", "mean") == "mean" else n.max(n.max(x, n.hw[1]), n.hw[0])
    y = n.matmul({"relu": n.relu, "silu": n.silu}[s.get("fn", "relu")](n.matmul(top, w["down"])), w["up"])
    y = {"sigmoid": n.sigmoid, "hard": n.hard_sigmoid}[s.get("gate", "sigmoid")](y)
    return x * (y[:, :, None, None] if n.side == "torch" else y[:, None, None, :])


def _responses(n: Any, s: S, x: Any, w: Any) -> Any:
    """Channels of an image by their size, relative to the mean one."""
    size = n.sqrt(n.sum(n.square(x), n.hw, True) + 1e-12)
    share = size / (
        n.mean(size, {"torch": 1, "keras": 3}[n.side] if s.get("over", "channels") == "channels" else 0, True)
        + s.get("eps", 1e-6)
    )
    return x * share + (x if s.get("plus", True) else 0)


def _patches(n: Any, s: S, x: Any, w: Any) -> Any:
    """Squares of an image as channels, (B, T, r * r * C)."""
    if n.side == "torch":
        _, c, h, v = x.shape
        y = n.turn(n.reshape(x, -1, c, h // 2, 2, v // 2, 2), 0, 2, 4, 3, 5, 1)
    else:
        _, h, v, c = x.shape
        y = n.turn(n.reshape(x, -1, h // 2, 2, v // 2, 2, c), 0, 1, 3, 2, 4, 5)
    orders = {"p q c": (0, 1, 2, 3, 4, 5), "c p q": (0, 1, 2, 5, 3, 4), "q p c": (0, 1, 2, 4, 3, 5)}
    y = n.reshape(n.turn(y, *orders[s.get("order", "p q c")]), -1, (h // 2) * (v // 2), 4 * c)
    y = n.mean(n.tanh(n.matmul(y, w["mix"])), 1)
    return x * (y[:, :, None, None] if n.side == "torch" else y[:, None, None, :])


def _steps_mixed(n: Any, s: S, x: Any, w: Any) -> Any:
    """A filter over three steps."""
    before = s.get("before", 2)
    y = n.pad_steps(x, before, 2 - before)
    t = x.shape[1]
    return x + sum(y[:, i : i + t] * w["taps"][i] for i in range(3))


def _standardized(n: Any, s: S, x: Any, w: Any) -> Any:
    k = w["kernel"]
    centred = k - n.mean(k, 0, True)
    many = k.shape[0] - s.get("less", 0)
    return n.matmul(x, centred / n.sqrt(n.sum(n.square(centred), 0, True) / many + s.get("eps", 1e-5)))


def _adapted(n: Any, s: S, x: Any, w: Any) -> Any:
    by = {"alpha / r": s["alpha"] / 2, "alpha": s["alpha"], "alpha / sqrt(r)": s["alpha"] / 2**0.5}[s["by"]]
    return n.matmul(x, w["kernel"]) + n.matmul(n.matmul(x, w["a"]), w["b"]) * by


def _frames(n: Any, s: S, x: Any, w: Any) -> Any:
    """Power of frames of four steps, back in the shape of what went in."""
    size = 4
    y = n.pad_steps(x, size // 2, size // 2) if s.get("centred", True) else n.pad_steps(x, 0, size)
    i = np.arange(size)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * i / (size if s.get("periodic", True) else size - 1))
    t = x.shape[1]
    cut = n.stack([y[:, k : k + t] * float(window[k]) for k in range(size)], 1)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(3), i) / size)
    flat = n.reshape(n.turn(cut, 0, 2, 3, 1), -1, t, x.shape[2], size)
    real, imaginary = (n.matmul(flat, n.const(part.T.copy(), x)) for part in (waves.real, waves.imag))
    power = n.square(real) + n.square(imaginary)
    power = power if s.get("power", 2) == 2 else n.sqrt(power + 1e-9)
    return n.mean(n.log(power + s.get("floor", 1e-2)), -1) * s.get("by", 1.0)


def _gated_top(n: Any, s: S, x: Any, w: Any) -> Any:
    """Shares of the two best experts."""
    scores = n.matmul(x, w["gate"])
    if s.get("first", "softmax") == "softmax":
        scores = n.softmax(scores, -1)
        kept = n.cast(scores >= n.top(scores, 2), x) * scores
        shares = kept / n.sum(kept, -1, True) if s.get("whole") else kept
    else:
        shares = n.softmax(n.where(scores >= n.top(scores, 2), scores, n.const(-1e9, x)), -1)
    return n.matmul(shares, w["experts"])


def _unit(n: Any, s: S, x: Any, w: Any) -> Any:
    x = x * s.get("small", 1.0)
    eps, how = s.get("eps", 1e-3), s.get("how", "floor")
    if how == "floor":
        return n.normalize(x, eps)
    if how == "floor of squares":
        return x / n.sqrt(n.maximum(n.sum(n.square(x), -1, True), n.const(eps, x)))
    return x / (n.norm(x) + eps) if how == "added" else x / n.sqrt(n.sum(n.square(x), -1, True) + eps)


def _spread(n: Any, s: S, x: Any, w: Any) -> Any:
    axis = s.get("axis", -1)
    centred = x - n.mean(x, axis, True)
    return centred / n.sqrt(n.mean(n.square(centred), axis, True) * s.get("share", 1.0) + s.get("eps", 1e-3))


def _root_norm(n: Any, s: S, x: Any, w: Any) -> Any:
    gain = w["gain"] + 1 if s.get("less") else w["gain"]
    return x / n.sqrt(n.mean(n.square(x), s.get("axis", -1), True) + s.get("eps", 1e-6)) * gain


def _biased(n: Any, s: S, x: Any, w: Any) -> Any:
    y = n.matmul(x, w["kernel"])
    return n.relu(y) + w["bias"] if s.get("late") else n.relu(y + w["bias"])


def _experts_of_time(n: Any, s: S, x: Any, w: Any) -> Any:
    """What was one step before, mixed in."""
    t = x.shape[1]
    before = n.pad_steps(x, 1, 0)[:, :t] if s.get("from", "before") == "before" else n.pad_steps(x, 0, 1)[:, 1:]
    return x * w["mix"] + before * (1 - w["mix"])


def _running(n: Any, s: S, x: Any, w: Any) -> Any:
    y = n.cumsum(n.flip(x, 1), 1) if s.get("back") else n.cumsum(x, 1)
    y = n.flip(y, 1) if s.get("back") else y
    return y - x if s.get("without") else y


def _rounded(n: Any, s: S, x: Any, w: Any) -> Any:
    y = n.round(x * 4) / 4
    return x + n.stop(y - x) if s.get("through", True) else y


FORMULAS: Mapping[str, tuple[Callable[..., Any], Mapping[str, Callable[[Mapping[str, Any]], tuple[int, ...]]]]] = {
    "gates": (_gates, {"wide": lambda s: (s["d"], 2 * s["d"])}),
    "rotated": (_rotated, {}),
    "waves": (_waves, {}),
    "masked_mean": (_masked_mean, {}),
    "masked_scores": (_masked_scores, {"score": lambda s: (s["d"], 1)}),
    "heads": (_heads, {"qkv": lambda s: (s["d"], 3 * s["d"])}),
    "placed_heads": (_heads, {"qkv": lambda s: (s["d"], 3 * s["d"]), "bias": lambda s: (2 * s["length"] - 1,)}),
    "ready": (_ready, {"qkv": lambda s: (s["d"], 3 * s["d"])}),
    "grouped": (_grouped, {"q": lambda s: (s["d"], s["d"]), **{k: lambda s: (s["d"], s["d"] // 2) for k in "kv"}}),
    "squeezed": (_squeezed, {"down": lambda s: (s["d"], 2), "up": lambda s: (2, s["d"])}),
    "responses": (_responses, {}),
    "patches": (_patches, {"mix": lambda s: (4 * s["d"], s["d"])}),
    "steps_mixed": (_steps_mixed, {"taps": lambda s: (3, s["d"])}),
    "standardized": (_standardized, {"kernel": lambda s: (s["d"], s["d"])}),
    "adapted": (
        _adapted,
        {"kernel": lambda s: (s["d"], s["d"]), "a": lambda s: (s["d"], 2), "b": lambda s: (2, s["d"])},
    ),
    "frames": (_frames, {}),
    "gated_top": (_gated_top, {"gate": lambda s: (s["d"], 4), "experts": lambda s: (4, s["d"])}),
    "unit_of": (_unit, {}),
    "spread_of": (_spread, {}),
    "root_norm": (_root_norm, {"gain": lambda s: (s["d"],)}),
    "biased": (_biased, {"kernel": lambda s: (s["d"], s["d"]), "bias": lambda s: (s["d"],)}),
    "mixed_before": (_experts_of_time, {"mix": lambda s: (s["d"],)}),
    "running": (_running, {}),
    "rounded": (_rounded, {}),
    "quick_gelu": (lambda n, s, x, w: x * n.sigmoid(s["by"] * x) if "by" in s else n.gelu(x, s.get("tanh", False)), {}),
    "capped": (lambda n, s, x, w: n.tanh(x / s["cap"]) * s["cap"], {}),
    "heated": (lambda n, s, x, w: n.softmax(x / s["heat"], s.get("axis", -1)), {}),
    "compressed": (lambda n, s, x, w: n.log1p(n.abs(x)) if "eps" not in s else n.log(n.abs(x) + s["eps"]), {}),
    "padded": (lambda n, s, x, w: n.blur(n.pad_image(x, 1, s["mode"])), {}),
    "ceil_pool": (lambda n, s, x, w: n.max_pool(x, 3, 2, s["ceil"]), {}),
    "mish": (lambda n, s, x, w: x * n.tanh(n.softplus(x)) if not s.get("silu") else n.silu(x), {}),
}
