"""The usual losses in NumPy, with all that people set differently in them: what a scalar may have been made by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records.trace import Array

CLIPPED = 1e-7
"""Keras keeps probabilities this far from 0 and 1."""

SMOOTHING = (0.0, 0.1, 0.05, 0.2, 0.01)
"""Shares that are tried for label smoothing."""

IGNORED = (-100, -1, 0, 255)
"""Labels that are tried for being left out, where they occur."""

WIDTHS = (1.0, 0.5, 0.1, 2.0, 1.35)
"""Where a Huber loss turns into a line."""

LARGEST = 5_000_000
"""Elements of an output beyond which no loss is computed again: some hundred are."""


@dataclass(frozen=True)
class Reading:
    """One way to make a loss of an output and a target.

    Attributes:
        settings: what it is made of, by name; "loss" is what it is called.
        value: that it has.
    """

    settings: Mapping[str, Any]
    value: float


def readings(output: Array, target: Array) -> Iterator[Reading]:
    """Every way that is known, the plainer first.

    Args:
        output: of the model, shape (B, ...).
        target: classes, one-hot rows, truth values or numbers.
    """
    if not 0 < output.size <= LARGEST or output.ndim < 1:
        return
    with np.errstate(all="ignore"):
        for settings, each, kept in _losses(output.astype(np.float64), target):
            for name, value in _reduced(each, kept, len(output)):
                if math.isfinite(value):
                    yield Reading({**settings, "reduction": name}, value)


def _reduced(each: Array, kept: Array, examples: int) -> Iterator[tuple[str, float]]:
    total, many = float(each.sum(where=kept)), int(kept.sum())
    yield "mean", total / many if many else math.nan
    if many < each.size:
        yield "mean over all, left out or not", total / each.size
    yield "sum", total
    if each.size > examples:
        yield "sum over an example, mean over examples", total / examples
    if each.ndim > 1:
        rows = each.sum(axis=-1, where=kept) / np.maximum(kept.sum(axis=-1), 1)
        yield "mean over an example, sum over examples", float(rows.sum())
        if many < each.size:
            yield "mean over an example, mean over examples", float(rows.mean())


Losses = Iterator[tuple[dict[str, Any], Array, Array]]


def _losses(z: Array, y: Array) -> Losses:
    """(settings, loss of each position, which positions count)."""
    whole = y.dtype.kind in "iub" or bool(np.all(y == np.round(y)))
    labels = y[..., 0] if y.ndim == z.ndim and y.shape[-1] == 1 and z.shape[-1] > 1 else y
    if whole and z.ndim > 1 and z.shape[-1] > 1 and labels.shape == z.shape[:-1]:
        yield from _cross_entropies(z, labels.astype(np.int64))
    shares = y.shape == z.shape and z.ndim > 1 and z.shape[-1] > 1 and bool((y >= 0).all())
    if shares and np.allclose(y.sum(axis=-1), 1.0):
        yield from _against_shares(z, y.astype(np.float64))
    flat = z[..., 0] if z.ndim == y.ndim + 1 and z.shape[-1] == 1 else z
    if flat.shape == y.shape and bool(((y == 0) | (y == 1)).all()):
        yield from _binary(flat, y.astype(np.float64))
    if flat.shape == y.shape:
        yield from _others(flat, y.astype(np.float64))
    if flat.shape == y.shape:
        yield from _regressions(flat, y.astype(np.float64), {"pairs": "each output with its target"})
    if flat is not z and flat.ndim == 1:
        spread = np.broadcast_to(y.astype(np.float64), (len(flat), len(flat)))
        yield from _regressions(z - 0 * spread, spread, {"pairs": "each output with every target"})


def _logs(z: Array) -> Iterator[tuple[str, Array]]:
    """Logarithms of probabilities, by what the output is taken for."""
    yield "logits", _log_softmax(z)
    yield "logarithms", z
    clipped = np.clip(z, CLIPPED, 1 - CLIPPED)
    yield "probabilities", np.log(clipped / clipped.sum(axis=-1, keepdims=True))
    yield (
        "probabilities that are scaled, then clipped",
        np.log(np.clip(z / z.sum(axis=-1, keepdims=True), CLIPPED, 1 - CLIPPED)),
    )
    yield "probabilities that are not clipped", np.log(z)
    yield "logits of a second softmax", _log_softmax(np.exp(_log_softmax(z)))


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _cross_entropies(z: Array, y: Array) -> Losses:
    classes = z.shape[-1]
    left_out = [None, *(label for label in IGNORED if (y == label).any())]
    for taken, logs in _logs(z):
        own = np.take_along_axis(logs, np.clip(y, 0, classes - 1)[..., None], axis=-1)[..., 0]
        for ignored in left_out:
            kept = np.ones(y.shape, bool) if ignored is None else y != ignored
            if not kept.any() or (ignored is None and not ((y >= 0) & (y < classes)).all()):
                continue
            for share in SMOOTHING:
                each = -(1 - share) * own - share * logs.mean(axis=-1)
                yield _named("cross-entropy", output=taken, smoothing=share, ignored=ignored), each, kept


def _against_shares(z: Array, y: Array) -> Losses:
    every = np.ones(y.shape[:-1], bool)
    for taken, logs in _logs(z):
        for share in SMOOTHING:
            smooth = y * (1 - share) + share / z.shape[-1]
            yield _named("cross-entropy", output=taken, smoothing=share, ignored=None), -(smooth * logs).sum(-1), every
        apart = np.where(y > 0, y * (np.log(np.where(y > 0, y, 1.0)) - logs), 0.0)
        yield _named("Kullback-Leibler divergence", output=taken), apart.sum(axis=-1), every
        yield _named("Kullback-Leibler divergence by element", output=taken), apart, np.ones(y.shape, bool)


def _binary(z: Array, y: Array) -> Losses:
    every = np.ones(y.shape, bool)
    clipped = np.clip(z, CLIPPED, 1 - CLIPPED)
    squashed = 1 / (1 + np.exp(-z))
    for share in SMOOTHING:
        t = y * (1 - share) + share / 2
        forms = {
            "logits": np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))),
            "probabilities": -(t * np.log(clipped) + (1 - t) * np.log1p(-clipped)),
            "probabilities that are not clipped": -(t * np.log(z) + (1 - t) * np.log1p(-z)),
            "logits of a second sigmoid": squashed * (1 - t) + np.log1p(np.exp(-squashed)),
        }
        for taken, each in forms.items():
            yield _named("binary cross-entropy", output=taken, smoothing=share), each, every


def _others(z: Array, y: Array) -> Losses:
    """Losses of targets of one kind: signs, counts, or numbers that are not negative."""
    every = np.ones(z.shape, bool)
    if bool((np.abs(y) == 1).all()):  # within the margin they are the plain errors
        margin = np.maximum(0.0, 1 - y * z)
        yield _named("hinge loss"), margin, every
        yield _named("squared hinge loss"), margin**2, every
    if bool((y >= 0).all() and (y == np.round(y)).all()):
        yield _named("Poisson loss of logarithms"), np.exp(z) - y * z, every
        yield _named("Poisson loss"), z - y * np.log(z + CLIPPED), every
    if bool((y > -1).all() and (z > -1).all()):
        yield _named("squared error of logarithms"), (np.log1p(z) - np.log1p(y)) ** 2, every


def _regressions(z: Array, y: Array, pairs: dict[str, str]) -> Losses:
    d, every = np.abs(z - y), np.ones(np.broadcast_shapes(z.shape, y.shape), bool)
    forms: dict[str, Callable[[], Array]] = {
        "squared error": lambda: d**2,
        "absolute error": lambda: d,
        "half the squared error": lambda: d**2 / 2,
        "log-cosh error": lambda: d + np.log1p(np.exp(-2 * d)) - math.log(2),
    }
    for name, form in forms.items():
        yield {**_named(name), **pairs}, form(), every
    for width in WIDTHS:
        huber = np.where(d <= width, d**2 / 2, width * (d - width / 2))
        yield {**_named("Huber loss", width=width), **pairs}, huber, every
        yield {**_named("smooth L1 loss", width=width), **pairs}, huber / width, every
    if z.ndim > 1 and z.shape[-1] > 1:
        norms = [np.maximum(np.linalg.norm(a, axis=-1), 1e-12) for a in (z, y)]
        cosine = (z * y).sum(axis=-1) / (norms[0] * norms[1])
        yield {**_named("negative cosine similarity"), **pairs}, -cosine, np.ones(cosine.shape, bool)
        yield {**_named("one minus cosine similarity"), **pairs}, 1 - cosine, np.ones(cosine.shape, bool)


def _named(loss: str, **settings: Any) -> dict[str, Any]:
    return {"loss": loss, **settings}
