"""Several inputs, outputs and losses, right and wrong: by name, in order, and with a weight for each loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import CLASSES, HIDDEN, assert_parts_in, mlp
from setups import assert_equivalent, parted, run
from torch import nn
from torch.nn import functional as F

import xcheck


def two_headed_batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        inputs = {"left": rng.standard_normal((10, 3)), "right": rng.standard_normal((10, 2))}
        yield xcheck.Batch(inputs, {"kind": rng.integers(0, CLASSES, 10), "value": rng.standard_normal((10, 1))})


class TwoHeaded(nn.Module):
    """left (B, 3) and right (B, 2) -> kind (B, 3) and value (B, 1)."""

    def __init__(self, *more: str) -> None:
        super().__init__()
        self.body = nn.Linear(5, HIDDEN)
        self.kind = nn.Linear(HIDDEN, CLASSES)
        self.value = nn.Linear(HIDDEN, 1)
        self.more = more

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.tanh(self.body(torch.cat([left, right], dim=-1)))
        return {"kind": self.kind(x), "value": self.value(x), **dict.fromkeys(self.more, x)}


def keras_two_headed() -> Any:
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    x = keras.layers.Dense(HIDDEN, activation="tanh", name="body")(keras.layers.Concatenate()([left, right]))
    kind, value = keras.layers.Dense(CLASSES, name="kind")(x), keras.layers.Dense(1, name="value")(x)
    return keras.Model({"left": left, "right": right}, {"kind": kind, "value": value})


TWO_HEADED_MAP = {
    f"{layer}.{torch_role}": f"{layer}/{keras_role}"
    for layer in ("body", "kind", "value")
    for torch_role, keras_role in (("weight", "kernel"), ("bias", "bias"))
}


def two_losses(weight: float = 0.3) -> Callable[..., Any]:
    def loss(outputs: Any, targets: Any) -> dict[str, Any]:
        return {
            "kind": F.cross_entropy(outputs["kind"], targets["kind"]),
            "value": weight * F.mse_loss(outputs["value"], targets["value"]),
        }

    return loss


def two_headed(torch: dict[str, Any] | None = None, keras_parts: dict[str, Any] | None = None) -> xcheck.Pair:
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "value": "mse"}
    return mlp(
        torch={"build": TwoHeaded, "loss": two_losses(), **(torch or {})},
        keras={
            "build": keras_two_headed,
            "loss": losses,
            "compile_options": {"loss_weights": {"kind": 1.0, "value": 0.3}},
            **(keras_parts or {}),
        },
        batches=two_headed_batches,
        weight_map=TWO_HEADED_MAP,
    )


def test_two_inputs_outputs_and_losses_by_name() -> None:
    result = assert_equivalent(two_headed())
    outputs = {c.name for c in result.checks if c.phase == "forward"}
    assert outputs == {f"{name} ({mode})" for name in ("kind", "value") for mode in ("inference", "training")}


def test_two_outputs_and_losses_in_order() -> None:
    def build() -> Any:
        named = keras_two_headed()
        return keras.Model(list(named.inputs), [named.output["kind"], named.output["value"]])

    class InOrder(TwoHeaded):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
            return tuple(super().forward(left, right).values())

    def loss(outputs: Any, targets: Any) -> Any:
        return two_losses()(dict(zip(("kind", "value"), outputs, strict=True)), targets)

    def prepare(batch: xcheck.Batch) -> Any:
        left, right = batch.inputs["left"], batch.inputs["right"]
        return [left, right], [batch.targets["kind"], batch.targets["value"]]

    keras_parts = {
        "build": build,
        "prepare": prepare,
        "loss": [keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"],
        "compile_options": {"loss_weights": [1.0, 0.3]},
    }
    assert_equivalent(two_headed({"build": InOrder, "loss": loss}, keras_parts))


def test_the_weight_of_one_loss_is_a_millionth_off() -> None:
    result = run(two_headed({"loss": two_losses(0.3 * (1 + 1e-6))}))
    assert_parts_in(result, "loss")
    assert parted(result, "gradient") >= {"value.weight", "value.bias"}
    assert not parted(result, "gradient") & {"kind.weight", "kind.bias"}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_one_loss_is_left_out() -> None:
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "value": None}
    keras_parts = {"loss": losses, "compile_options": {}}
    assert_parts_in(run(two_headed(keras_parts=keras_parts)), "loss")


def test_the_loss_weights_are_left_out() -> None:
    assert_parts_in(run(two_headed(keras_parts={"compile_options": {}})), "loss")


def test_an_output_that_one_side_lacks() -> None:
    result = run(two_headed({"build": lambda: TwoHeaded("features")}))
    assert_parts_in(result, "forward")
    assert parted(result, "forward") == {"features (inference)", "features (training)"}
    assert all(c.detail == "missing only on the keras side" for c in result.checks if c.verdict == "DIFFERENT")


def test_two_inputs_are_swapped() -> None:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        for batch in two_headed_batches(seed):
            inputs = {"left": batch.inputs["left"], "right": batch.inputs["left"][:, ::-1]}
            yield xcheck.Batch(inputs, batch.targets)

    def build() -> Any:
        left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
        x = keras.layers.Dense(HIDDEN, activation="tanh", name="body")(keras.layers.Concatenate()([right, left]))
        heads = {"kind": CLASSES, "value": 1}
        return keras.Model(
            {"left": left, "right": right}, {name: keras.layers.Dense(n, name=name)(x) for name, n in heads.items()}
        )

    def wide() -> Any:
        model = TwoHeaded()
        model.body = nn.Linear(6, HIDDEN)
        return model

    pair = two_headed({"build": wide}, {"build": build})
    result = run(
        xcheck.Pair(name="swapped", torch=pair.torch, keras=pair.keras, batches=batches, weight_map=TWO_HEADED_MAP)
    )
    assert_parts_in(result, "forward")
