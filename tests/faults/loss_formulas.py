"""Losses that people write by hand, once for both frameworks, in the words of either; see `words.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

S = Mapping[str, Any]


def _overlap(n: Any, s: S, z: Any, y: Any) -> Any:
    """Tversky and its kin, for each image."""
    p = n.sigmoid(z)
    if s.get("from", 0):
        p, y = p[..., 1:], y[..., 1:]
    axes = tuple(range(len(z.shape)))[0 if s.get("batch") else 1 :]
    tp, fp, fn = (n.sum(part, axes) for part in (p * y, p * (1 - y), (1 - p) * y))
    smooth = s.get("smooth", 1.0)
    above = tp + (0 if s.get("below_alone") else smooth)
    score = above / (tp + s.get("a", 0.3) * fp + s.get("b", 0.7) * fn + smooth)
    lost = -n.log(score) if s.get("log") else 1 - score
    return n.mean(lost ** s.get("gamma", 1.0))


def _triplet(n: Any, s: S, z: Any, y: Any) -> Any:
    """Each row, the one before it and the one after it."""
    near, far = (n.sum(n.square(z - n.roll(z, by, 0)), -1) for by in (1, -1))
    if not s.get("squared"):
        near, far = n.sqrt(near + 1e-12), n.sqrt(far + 1e-12)
    return n.mean(n.relu(near - far + s.get("margin", 1.0)))


def _contrast(n: Any, s: S, z: Any, y: Any) -> Any:
    a, b = n.normalize(z, 1e-12), n.normalize(n.cast(y, z), 1e-12)
    scores = n.matmul(a, n.turn(b, 1, 0)) / s.get("heat", 0.5)
    eye = n.const(np.eye(z.shape[0]), z)
    rows = -n.sum(eye * n.log_softmax(scores, -1)) / z.shape[0]
    if not s.get("both", True):
        return rows
    return (rows - n.sum(eye * n.log_softmax(scores, 0)) / z.shape[0]) / 2


def _distilled(n: Any, s: S, z: Any, y: Any) -> Any:
    heat = s.get("heat", 3.0)
    p, q = n.softmax(n.cast(y, z) / heat, -1), n.log_softmax(z / heat)
    return n.mean(n.sum(p * (n.log(p) - q), -1)) * (heat**2 if s.get("times", True) else 1.0)


def _latent(n: Any, s: S, z: Any, y: Any) -> Any:
    """Squares and the divergence of a normal distribution."""
    mean, spread = z, n.roll(z, 1, -1)
    spread = spread if s.get("logs_of", "variance") == "variance" else 2 * spread
    apart = -0.5 * (1 + spread - n.square(mean) - n.exp(spread))
    apart = n.mean(n.sum(apart, -1)) if s.get("how", "sum") == "sum" else n.mean(apart)
    return n.mean(n.square(z - y)) + s.get("beta", 1.0) * apart


def _normal(n: Any, s: S, z: Any, y: Any) -> Any:
    spread = n.maximum(n.softplus(n.roll(z, 1, -1)), n.const(s.get("eps", 1e-6), z))
    half = n.log(spread) + n.square(z - y) / spread
    return n.mean(0.5 * (half + (np.log(2 * np.pi) if s.get("full") else 0.0)))


def _pinball(n: Any, s: S, z: Any, y: Any) -> Any:
    d = y - z
    return n.mean(n.maximum(s.get("tau", 0.8) * d, (s.get("tau", 0.8) - 1) * d))


def _charbonnier(n: Any, s: S, z: Any, y: Any) -> Any:
    return n.mean(n.sqrt(n.square(z - y) + s.get("eps", 1e-6)))


def _masked(n: Any, s: S, z: Any, y: Any) -> Any:
    m = n.cast(y > 0, z)
    if s.get("turned"):
        m = 1 - m
    each = n.square(z - y) * m
    return n.sum(each) / (n.sum(m) if s.get("by", "own") == "own" else float(np.prod(z.shape)))


def _margins(n: Any, s: S, z: Any, y: Any) -> Any:
    """Labels as the largest target; a margin off the cosine of the right class."""
    hot = n.cast(y >= n.max(y, -1, True), z)
    cosine = n.tanh(z)
    scores = s.get("scale", 8.0) * (cosine - s.get("margin", 0.2) * (hot if s.get("own", True) else 1 - hot))
    return -n.mean(n.sum(hot * n.log_softmax(scores), -1))


def _smoothed(n: Any, s: S, z: Any, y: Any) -> Any:
    hot, c = n.cast(y >= n.max(y, -1, True), z), z.shape[-1]
    e = s.get("share", 0.1)
    soft = hot * (1 - e) + (e / c if s.get("over", "all") == "all" else (1 - hot) * e / (c - 1))
    return -n.mean(n.sum(soft * n.log_softmax(z), -1))


def _poly(n: Any, s: S, z: Any, y: Any) -> Any:
    hot = n.cast(y >= n.max(y, -1, True), z)
    own = n.sum(hot * n.log_softmax(z), -1)
    return n.mean(-own + s.get("eps", 1.0) * (1 - n.exp(own)))


def _asymmetric(n: Any, s: S, z: Any, y: Any) -> Any:
    p = n.sigmoid(z)
    low = n.clip(1 - p + s.get("cut", 0.05), 0.0, 1.0)
    ones = y * n.log(p) * (1 - p) ** s.get("plus", 1.0)
    zeros = (1 - y) * n.log(low + 1e-8) * (1 - low) ** s.get("minus", 4.0)
    return -n.mean(n.sum(ones + zeros, -1)) if s.get("how") == "sum" else -n.mean(ones + zeros)


def _with_entropy(n: Any, s: S, z: Any, y: Any) -> Any:
    log = n.log_softmax(z)
    return n.mean(n.square(z - y)) + s.get("share", 0.1) * n.mean(n.sum(n.exp(log) * log, -1))


def _squashed(n: Any, s: S, z: Any, y: Any) -> Any:
    z_loss = n.mean(n.square(n.logsumexp(z, -1)))
    return n.mean(n.square(z - y)) + s.get("share", 0.1) * z_loss


def _weighed_boxes(n: Any, s: S, z: Any, y: Any) -> Any:
    d = n.abs(z - y)
    b = s.get("beta", 0.5)
    near = 0.5 * n.square(d) / (b if s.get("over", True) else 1.0)
    return n.mean(n.where(d < b, near, (d - 0.5 * b) * (1.0 if s.get("over", True) else b)))


def _variation(n: Any, s: S, z: Any, y: Any) -> Any:
    step = z[..., 1:] - z[..., :-1]
    step = n.abs(step) if s.get("power", 1) == 1 else n.square(step)
    return n.mean(n.square(z - y)) + 0.1 * (n.mean(step) if s.get("how", "mean") == "mean" else n.sum(step))


def _of_cosines(n: Any, s: S, z: Any, y: Any) -> Any:
    """One minus the cosine, with an epsilon beside the norms."""
    above = n.sum(z * y, -1)
    sizes = n.sqrt(n.sum(n.square(z), -1)) * n.sqrt(n.sum(n.square(y), -1))
    return n.mean(1 - above / (sizes + s.get("eps", 1e-8)))


LOSS_FORMULAS: Mapping[str, Callable[..., Any]] = {
    "overlap": _overlap,
    "triplet": _triplet,
    "contrast": _contrast,
    "distilled": _distilled,
    "latent": _latent,
    "normal": _normal,
    "pinball": _pinball,
    "charbonnier": _charbonnier,
    "masked_squares": _masked,
    "margins": _margins,
    "smoothed": _smoothed,
    "poly": _poly,
    "asymmetric": _asymmetric,
    "with_entropy": _with_entropy,
    "squashed": _squashed,
    "boxes": _weighed_boxes,
    "variation": _variation,
    "cosines": _of_cosines,
}
