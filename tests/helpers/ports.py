"""Small real pairs of both frameworks for tests, with a place to plant a fault in each part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck
from xcheck.records.result import PHASES

FEATURES, HIDDEN, CLASSES = 6, 8, 3


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """Gaussian inputs (B, 6) and labels (B,)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((10, FEATURES)), rng.integers(0, CLASSES, 10))


def torch_mlp(**_: Any) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def keras_mlp(**hidden: Any) -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="tanh", name="hidden", **hidden),
            keras.layers.Dense(CLASSES, name="head"),
        ]
    )


MLP_MAP = {
    "0.weight": "sequential/hidden/kernel",
    "0.bias": "sequential/hidden/bias",
    "2.weight": "sequential/head/kernel",
    "2.bias": "sequential/head/bias",
}


def torch_loss(outputs: Any, targets: Any) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(outputs, targets)


def keras_loss(targets: Any, outputs: Any) -> Any:
    import keras

    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True))


def torch_sgd(parameters: Any, lr: float = 0.1, **options: Any) -> Any:
    import torch

    return torch.optim.SGD(parameters, lr=lr, **options)


def keras_sgd(learning_rate: float = 0.1, **options: Any) -> Any:
    import keras

    return keras.optimizers.SGD(learning_rate=learning_rate, **options)


def mlp(torch: dict[str, Any] | None = None, keras: dict[str, Any] | None = None, **options: Any) -> xcheck.Pair:
    """A two-layer net; `torch` and `keras` replace parts of the sides, `options` parts of the pair."""
    torch_parts = {"build": torch_mlp, "loss": torch_loss, "optimizer": torch_sgd, **(torch or {})}
    keras_parts = {"build": keras_mlp, "loss": keras_loss, "optimizer": keras_sgd, **(keras or {})}
    return xcheck.Pair(
        **{
            "name": "mlp",
            "torch": xcheck.TorchSide(**torch_parts),
            "keras": xcheck.KerasSide(**keras_parts),
            "batches": batches,
            "weight_map": MLP_MAP,
            **options,
        }
    )


def dilated_conv(**settings: Any) -> xcheck.Pair:
    """The pair `shared_dilated_conv` of the repository."""
    from xcheck.pairs.loading import load_pair

    return load_pair("models/shared_dilated_conv/pair.py", settings or {"image_size": 10})


def submodel_regularizer(**settings: Any) -> xcheck.Pair:
    """The pair `shared_submodel_regularizer` of the repository."""
    from xcheck.pairs.loading import load_pair

    return load_pair("models/shared_submodel_regularizer/pair.py", settings or {"features": 5})


def assert_parts_in(result: xcheck.Result, phase: str, step: int | None = 1, verdict: str = "DIFFERENT") -> None:
    """The verdict is as given and comes first from this phase of this step; everything before it passes."""
    assert result.verdict == verdict, result.report()
    bad = next(c for c in result.checks if c.verdict != "EQUIVALENT")
    assert (bad.phase, bad.step) == (phase, step), result.report()
    assert bad.verdict == verdict
    before = {c.phase for c in result.checks[: result.checks.index(bad)]}
    assert before >= {p for p in PHASES[: PHASES.index(phase)] if p in {c.phase for c in result.checks}}
    if verdict == "DIFFERENT":
        assert result.first_divergence is not None
        assert (result.first_divergence.phase, result.first_divergence.step) == (phase, step)
