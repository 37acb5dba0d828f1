"""A loss that differs where the outputs agree: its setting is named, and none where no known loss comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import batches, keras_mlp, mlp, torch_mlp
from setups import run
from torch.nn import functional as F

import xcheck
from xcheck.causes.loss.readings import readings

SPARSE = keras.losses.SparseCategoricalCrossentropy


def one_hot(batch: xcheck.Batch) -> Any:
    return batch.inputs, np.eye(3)[batch.targets]


def some_left_out(seed: int) -> Iterator[xcheck.Batch]:
    for batch in batches(seed):
        labels = batch.targets.copy()
        labels[:4] = -100
        yield xcheck.Batch(batch.inputs, labels)


def truths(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((10, 6)), rng.integers(0, 2, (10, 3)).astype(float))


def numbers(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((10, 6)), rng.standard_normal((10, 3)))


def signs(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((10, 6)), rng.choice([-1.0, 1.0], (10, 3)))


def smoothed(outputs: Any, targets: Any) -> Any:
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


def kept_only(targets: Any, outputs: Any) -> Any:
    """Averaged over all, where PyTorch averages over those that are left."""
    kept = keras.ops.cast(targets != -100, outputs.dtype)
    each = keras.losses.sparse_categorical_crossentropy(keras.ops.maximum(targets, 0), outputs, from_logits=True)
    return keras.ops.mean(each * kept)


CASES: dict[str, tuple[Callable[..., Any], Any, Any, str]] = {
    "from_logits is left out": (F.cross_entropy, SPARSE(), batches, "from_logits"),
    "a sum for a mean": (F.cross_entropy, SPARSE(from_logits=True, reduction="sum"), batches, "reduction"),
    "smoothing in torch alone": (smoothed, SPARSE(from_logits=True), batches, "label_smoothing"),
    "averaged over what is left out": (F.cross_entropy, kept_only, some_left_out, "reduction"),
    "logits for probabilities": (
        F.binary_cross_entropy_with_logits,
        keras.losses.BinaryCrossentropy(),
        truths,
        "from_logits",
    ),
    "squares for absolute values": (F.mse_loss, "mean_absolute_error", numbers, "loss_formula"),
    "added over an output": (
        lambda outputs, targets: F.mse_loss(outputs, targets, reduction="sum") / len(outputs),
        "mean_squared_error",
        numbers,
        "reduction",
    ),
    "another width": (F.huber_loss, keras.losses.Huber(delta=0.5), numbers, "huber_width"),
    "squares of a hinge": (
        lambda outputs, targets: F.relu(1 - outputs * targets).mean(),
        keras.losses.SquaredHinge(),
        signs,
        "loss_formula",
    ),
    "half of it": (
        lambda outputs, targets: F.mse_loss(outputs, targets) / 2,
        "mean_squared_error",
        numbers,
        "loss_formula",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_differs_in_a_loss(name: str) -> None:
    torch_loss, keras_loss, data, expected = CASES[name]
    result = run(mlp(torch={"loss": torch_loss}, keras={"loss": keras_loss}, batches=data))
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "loss"
    assert [(c.id, c.confirmed) for c in result.causes] == [(expected, True)]
    assert result.causes[0].fix


def test_a_loss_of_ones_own_times_a_number() -> None:
    def own(outputs: Any, targets: Any) -> Any:
        return torch.tanh(outputs).pow(4).mean() + 0 * targets.sum()

    def other(targets: Any, outputs: Any) -> Any:
        return 0.3 * keras.ops.mean(keras.ops.tanh(outputs) ** 4, axis=-1)

    result = run(mlp(torch={"loss": own}, keras={"loss": other}, batches=numbers))
    assert [(c.id, c.confirmed) for c in result.causes] == [("loss_factor", True)]
    assert "times 0.3" in result.causes[0].summary


@pytest.mark.parametrize(
    "other",
    [
        lambda targets, outputs: keras.ops.mean((outputs - targets) ** 2 + 0.01 * outputs, axis=-1),
        lambda targets, outputs: keras.ops.mean(keras.ops.abs(outputs - targets) ** 1.9, axis=-1),
    ],
)
def test_a_loss_that_nothing_explains_has_no_cause(other: Any) -> None:
    result = run(mlp(torch={"loss": F.mse_loss}, keras={"loss": other}, batches=numbers))
    assert result.verdict == "DIFFERENT"
    assert result.causes == ()


def test_targets_that_are_broadcast() -> None:
    def data(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((10, 6)), rng.standard_normal(10))

    def every(outputs: Any, targets: Any) -> Any:
        return (outputs - targets).square().mean()

    def build() -> Any:
        model = torch_mlp()
        model[2] = torch.nn.Linear(8, 1)
        return model

    def keras_build() -> Any:
        x = keras.Input((6,))
        hidden = keras.layers.Dense(8, activation="tanh", name="hidden")(x)
        return keras.Model(x, keras.layers.Dense(1, name="head")(hidden))

    names = {"0": "hidden", "2": "head"}
    weight_map = {f"{t}.{a}": f"{k}/{b}" for t, k in names.items() for a, b in (("weight", "kernel"), ("bias", "bias"))}
    pair = mlp(
        torch={"build": build, "loss": every},
        keras={"build": keras_build, "loss": "mean_squared_error"},
        batches=data,
        weight_map=weight_map,
    )
    assert [(c.id, c.confirmed) for c in run(pair).causes] == [("broadcast_targets", True)]


@pytest.mark.parametrize(
    ("regularizer", "penalty", "expected"),
    [
        (keras.regularizers.L2(0.01), lambda w: 0.005 * w.square().sum(), "penalty_factor"),
        (keras.regularizers.L1(0.01), lambda w: 0.01 * w.square().sum(), "penalty_norm"),
    ],
)
def test_penalties(regularizer: Any, penalty: Any, expected: str) -> None:
    pair = mlp(
        torch={"penalty": lambda model: {"0.weight": penalty(model[0].weight)}},
        keras={"build": lambda: keras_mlp(kernel_regularizer=regularizer)},
    )
    found = {c.id: c for c in run(pair).causes}
    assert found[expected].confirmed
    assert found[expected].torch == "0.weight"


def test_readings_tell_losses_apart() -> None:
    rng = np.random.default_rng(0)
    for target in (rng.integers(0, 4, (6, 5)), np.eye(4)[rng.integers(0, 4, (6, 5))], rng.standard_normal((6, 5, 4))):
        values: dict[float, list[Any]] = {}
        for reading in readings(rng.standard_normal((6, 5, 4)), target):
            values.setdefault(round(reading.value, 12), []).append(reading.settings)
        assert len(values) > 10
