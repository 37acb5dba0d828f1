"""Losses of both frameworks on one output: what differs in them is read off their values, and nothing where more is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xcheck.causes.locate.loss.probe import Look
from xcheck.causes.loss.formula import loss_causes
from xcheck.matching import MatchPlan
from xcheck.pairs.pair import Batch
from xcheck.records.trace import State, StepRecord

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((8, 3))
SHARES = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
STEEP = 1 / (1 + np.exp(-60 * Z))
TRUTHS = RNG.integers(0, 2, (8, 3)).astype(float)
CLASSES = np.eye(3)[RNG.integers(0, 3, 8)]
OTHERS = (SHARES + RNG.random((8, 3))) / (SHARES + RNG.random((8, 3))).sum(-1, keepdims=True)
OTHERS /= OTHERS.sum(-1, keepdims=True)
NUMBERS = RNG.standard_normal((8, 3))
LARGE = RNG.random((8, 3)) + 0.2


def k(name: str, **options: Any) -> Any:
    """A loss of Keras in float64."""
    return getattr(keras.losses, name)(dtype="float64", **options)


def focal(gamma: float, alpha: float | None) -> Any:
    """As it is written out for PyTorch."""

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        each = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        weight = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
        return (weight * (1 - torch.exp(-each)) ** gamma * each).mean()

    return loss


def of_classes(gamma: float, alpha: float) -> Any:
    """A focal loss of more than two classes."""

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(z, y, reduction="none")
        return (alpha * (1 - torch.exp(-each)) ** gamma * each).mean()

    return loss


def over_the_others(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Label smoothing that leaves the class itself out."""
    return F.cross_entropy(z, y * (0.8 - 0.1) + 0.1)


FOCAL = k("BinaryFocalCrossentropy", from_logits=True, apply_class_balancing=True)
OF_CLASSES = k("CategoricalFocalCrossentropy", from_logits=True)
CASES: dict[str, tuple[Any, Any, Any, Any, str, str]] = {
    "gamma": (Z, TRUTHS, focal(1.5, 0.25), FOCAL, "focal_gamma", "is 1.5 in torch and 2.0 in keras"),
    "alpha": (Z, TRUTHS, focal(2.0, 0.75), FOCAL, "focal_alpha", "is 0.75 in torch and 0.25 in keras"),
    "no alpha": (
        Z,
        TRUTHS,
        focal(2.0, 0.25),
        k("BinaryFocalCrossentropy", from_logits=True),
        "focal_alpha",
        "is 0.25 in torch and None in keras",
    ),
    "gamma of classes": (Z, CLASSES, of_classes(1.0, 0.25), OF_CLASSES, "focal_gamma", "1.0 in torch and 2.0 in keras"),
    "alpha of classes": (Z, CLASSES, of_classes(2.0, 0.5), OF_CLASSES, "focal_alpha", "0.5 in torch and 0.25 in keras"),
    "a focal loss for a plain one": (
        Z,
        TRUTHS,
        F.binary_cross_entropy_with_logits,
        FOCAL,
        "loss_formula",
        "binary cross-entropy in torch and focal",
    ),
    "a divergence the other way round": (
        SHARES,
        OTHERS,
        lambda z, y: F.kl_div(y.log(), z, reduction="batchmean"),
        k("KLDivergence"),
        "swapped_arguments",
        "the output from the target in torch and the target from the output in keras",
    ),
    "a root": (
        Z,
        NUMBERS,
        lambda z, y: F.mse_loss(z, y).sqrt(),
        k("MeanSquaredError"),
        "loss_formula",
        "root of the mean squared error in torch and squared error in keras",
    ),
    "percent": (
        Z,
        LARGE,
        lambda z, y: ((z - y) / y).abs().mean(),
        k("MeanAbsolutePercentageError"),
        "loss_formula",
        "relative to the target in torch and error in percent of the target in keras",
    ),
    "logarithms": (
        Z,
        LARGE,
        F.mse_loss,
        k("MeanSquaredLogarithmicError"),
        "loss_formula",
        "squared error of logarithms, of no number below 0 in keras",
    ),
    "a width": (Z, NUMBERS, F.huber_loss, k("Huber", delta=0.3), "huber_width", "is 1.0 in torch and 0.3 in keras"),
    "smoothing of the ones alone": (
        Z,
        TRUTHS,
        lambda z, y: F.binary_cross_entropy_with_logits(z, 0.9 * y),
        k("BinaryCrossentropy", from_logits=True, label_smoothing=0.1),
        "label_smoothing",
        "is 0.1, of the ones alone in torch and 0.1 in keras",
    ),
    "smoothing over the other classes": (
        Z,
        CLASSES,
        over_the_others,
        k("CategoricalCrossentropy", from_logits=True, label_smoothing=0.2),
        "label_smoothing",
        "in torch and 0.2 in keras",
    ),
    "probabilities that are clipped": (
        STEEP,
        TRUTHS,
        F.binary_cross_entropy,
        k("BinaryCrossentropy"),
        "clipped_probabilities",
        "with no logarithm below -100 in torch and probabilities in keras",
    ),
}


def causes(z: Any, y: Any, torch_loss: Any, keras_loss: Any, also: float = 0.0) -> list[tuple[str, bool, str]]:
    """What is told of the losses of one output; `also` is added to the one of Keras."""
    made = float(torch_loss(torch.from_numpy(z), torch.from_numpy(y)))
    with_keras = float(keras_loss(y, z))
    nothing = State({})
    records = [
        StepRecord(1, nothing, nothing, outputs={"output": z}, losses={"data": np.asarray(value)})
        for value in (made, with_keras + also)
    ]
    moved = z[::-1].copy()
    there: Any = {"torch": float(torch_loss(torch.from_numpy(moved), torch.from_numpy(y)))}
    there["keras"] = float(keras_loss(y, moved)) + also
    found = loss_causes(MatchPlan("torch", ()), Batch(z, y), records[0], records[1], Look({}, there, moved, {}))
    return [(cause.id, cause.confirmed, cause.summary) for cause in found]


@pytest.mark.parametrize("name", CASES)
def test_what_differs_is_read_off_two_losses(name: str) -> None:
    *given, expected, words = CASES[name]
    ((cause, confirmed, summary),) = causes(*given)
    assert (cause, confirmed) == (expected, True)
    assert words in summary


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_named_where_a_loss_is_off_besides(name: str) -> None:
    z, y, torch_loss, keras_loss, *_ = CASES[name]
    assert causes(z, y, torch_loss, keras_loss, also=1e-6) == []
