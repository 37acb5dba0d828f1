"""The usual losses in NumPy, with all that people set differently in them: what a scalar may have been made by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...records.trace import Array

CLIPPED = 1e-7
"""Keras keeps probabilities this far from 0 and 1."""

SMOOTHING = (0.0, 0.1, 0.05, 0.2, 0.01, 0.02, 0.15, 0.25, 0.3)
"""Shares that are tried for label smoothing."""

IGNORED = (-100, -1, 0, 255)
"""Labels that are tried for being left out, where they occur."""

WIDTHS = (1.0, 0.5, 0.1, 2.0, 1.35, 1.345, 0.2, 0.25, 0.3, 0.05, 1 / 9, 1.5, 3.0, 5.0, 10.0)
"""Where a Huber loss turns into a line."""

GAMMAS = (2.0, 1.0, 0.5, 1.5, 2.5, 3.0, 4.0, 5.0)
"""Powers of what is lacking to a probability of 1, in a focal loss."""

ALPHAS = (None, 0.25, 0.5, 0.75, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Weights of the ones in a focal loss, or of all of it where there are more than two classes."""

LEAST_LOG = -100.0
"""PyTorch's binary cross-entropy takes no logarithm for less."""

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


FOCAL = ("logits", "probabilities")
"""What the output of a focal loss is taken for."""


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
            for share, each in _smoothed(own, logs):
                yield _named("cross-entropy", output=taken, smoothing=share, ignored=ignored), each, kept
            if taken in FOCAL:
                for settings, each in _focal(own):
                    yield {**_named("focal cross-entropy", output=taken, ignored=ignored), **settings}, each, kept


def _smoothed(own: Array, logs: Array) -> Iterator[tuple[float | str, Array]]:
    """(label smoothing, loss of each position), from the logarithms of its class and of all of them."""
    mean, classes = logs.mean(axis=-1), logs.shape[-1]
    yield from ((share, -(1 - share) * own - share * mean) for share in SMOOTHING)
    if classes > 2:
        others = (mean * classes - own) / (classes - 1)
        yield from ((f"{s}, over the other classes", -(1 - s) * own - s * others) for s in SMOOTHING if s)


def _focal(own: Array) -> Iterator[tuple[dict[str, Any], Array]]:
    """(gamma and alpha, loss of each position), from the logarithms of its class."""
    for gamma in GAMMAS:
        each = -own * np.maximum(-np.expm1(own), 0.0) ** gamma
        yield from (({"gamma": gamma, "alpha": alpha}, each * (alpha or 1.0)) for alpha in ALPHAS)


def _against_shares(z: Array, y: Array) -> Losses:
    every = np.ones(y.shape[:-1], bool)
    for taken, logs in _logs(z):
        for share in SMOOTHING:
            smooth = y * (1 - share) + share / z.shape[-1]
            yield _named("cross-entropy", output=taken, smoothing=share, ignored=None), -(smooth * logs).sum(-1), every
        if taken in FOCAL and bool(((y == 0) | (y == 1)).all()):
            for settings, each in _focal((y * logs).sum(axis=-1)):
                yield {**_named("focal cross-entropy", output=taken, ignored=None), **settings}, each, every
        shares = np.exp(logs)
        forms = {
            "the target from the output": np.where(y > 0, y * (np.log(np.where(y > 0, y, 1.0)) - logs), 0.0),
            "the output from the target": shares * (logs - np.log(y)),
        }
        for which, apart in forms.items():
            yield _named("Kullback-Leibler divergence", output=taken, of=which), apart.sum(axis=-1), every
            by_element = _named("Kullback-Leibler divergence by element", output=taken, of=which)
            yield by_element, apart, np.ones(y.shape, bool)


def _binary(z: Array, y: Array) -> Losses:
    every = np.ones(y.shape, bool)
    for taken, ones, zeros in _binary_logs(z):
        for share in SMOOTHING:
            for t, words in ((y * (1 - share) + share / 2, share), (y * (1 - share), f"{share}, of the ones alone")):
                if share or words == share:
                    each = -(t * ones + (1 - t) * zeros)
                    yield _named("binary cross-entropy", output=taken, smoothing=words), each, every
        if taken not in FOCAL:
            continue
        own = np.where(y == 1, ones, zeros)
        for gamma in GAMMAS:
            each = -own * np.maximum(-np.expm1(own), 0.0) ** gamma
            for alpha in ALPHAS:
                weight = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
                yield _named("focal cross-entropy", output=taken, gamma=gamma, alpha=alpha), each * weight, every


def _binary_logs(z: Array) -> Iterator[tuple[str, Array, Array]]:
    """Logarithms of the probabilities of a one and of a zero, by what the output is taken for."""

    def of_logits(x: Array) -> tuple[Array, Array]:
        least = np.log1p(np.exp(-np.abs(x)))
        return np.minimum(x, 0) - least, np.minimum(-x, 0) - least

    clipped = np.clip(z, CLIPPED, 1 - CLIPPED)
    plain = np.log(z), np.log1p(-z)
    yield "logits", *of_logits(z)
    yield "probabilities", np.log(clipped), np.log1p(-clipped)
    yield "probabilities that are not clipped", *plain
    if any((logs < LEAST_LOG).any() for logs in plain):
        ones, zeros = (np.maximum(logs, LEAST_LOG) for logs in plain)
        yield f"probabilities, with no logarithm below {LEAST_LOG:g}", ones, zeros
    yield "logits of a second sigmoid", *of_logits(1 / (1 + np.exp(-z)))


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
    if bool((y < 0).any() or (z < 0).any()):
        logs = [np.log1p(np.maximum(a, CLIPPED)) for a in (z, y)]
        yield _named("squared error of logarithms, of no number below 0"), (logs[0] - logs[1]) ** 2, every
    if bool((y != 0).all()):
        d = np.abs(z - y)
        yield _named("error relative to the target"), d / np.abs(y), every
        yield _named("error in percent of the target"), 100 * d / np.maximum(np.abs(y), CLIPPED), every
        yield _named("error relative to output and target"), d / (np.abs(z) + np.abs(y)), every
        yield _named("error relative to the mean of output and target"), 2 * d / (np.abs(z) + np.abs(y)), every


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
    squares = d**2
    yield (
        {**_named("root of the mean squared error"), **pairs},
        np.sqrt(squares.mean(keepdims=True)),
        np.ones((1,) * d.ndim, bool),
    )
    if z.ndim > 1 and z.shape[-1] > 1:
        each = np.sqrt(squares.mean(axis=-1))
        yield {**_named("root of the mean squared error of an example"), **pairs}, each, every[..., 0]
        each = np.sqrt(squares.sum(axis=-1))
        yield {**_named("distance of output and target"), **pairs}, each, every[..., 0]
        norms = [np.maximum(np.linalg.norm(a, axis=-1), 1e-12) for a in (z, y)]
        cosine = (z * y).sum(axis=-1) / (norms[0] * norms[1])
        yield {**_named("negative cosine similarity"), **pairs}, -cosine, np.ones(cosine.shape, bool)
        yield {**_named("one minus cosine similarity"), **pairs}, 1 - cosine, np.ones(cosine.shape, bool)


def _named(loss: str, **settings: Any) -> dict[str, Any]:
    return {"loss": loss, **settings}
