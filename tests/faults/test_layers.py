"""What a layer does in training besides its formula, right and wrong.

Normalization, its statistics and its epsilon, slopes of activations, frozen parameters, dropout: a correct port of
each is equivalent, and each of their usual faults is found where it belongs with everything before it passing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import CLASSES, FEATURES, HIDDEN, MLP_MAP, assert_parts_in, batches, mlp, torch_mlp
from setups import assert_equivalent, run
from torch import nn
from torch.nn import functional as F

import xcheck


def between(torch_layer: Callable[[], Any], keras_layer: Callable[[], Any], **roles: str) -> xcheck.Pair:
    """Dense, the layers given, Dense; `roles` maps the parameters of the layer in the middle."""

    def build() -> Any:
        return nn.Sequential(nn.Linear(FEATURES, HIDDEN), torch_layer(), nn.Linear(HIDDEN, CLASSES))

    def keras_build() -> Any:
        hidden, head = keras.layers.Dense(HIDDEN, name="hidden"), keras.layers.Dense(CLASSES, name="head")
        return keras.Sequential([keras.Input((FEATURES,)), hidden, keras_layer(), head])

    middle = {f"1.{role}": f"sequential/middle/{there}" for role, there in roles.items()}
    return mlp(torch={"build": build}, keras={"build": keras_build}, weight_map={**MLP_MAP, **middle})


AFFINE = {"weight": "gamma", "bias": "beta"}


# Batch normalization -------------------------------------------------------------------------------------------


class BatchNorm1d(nn.BatchNorm1d):
    """Keeps the variance that it normalizes with, as Keras does; PyTorch's own keeps the unbiased one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            self.running_mean += self.momentum * (x.mean(dim=0) - self.running_mean)
            self.running_var += self.momentum * (x.var(dim=0, correction=0) - self.running_var)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def keras_norm(**options: Any) -> Callable[[], Any]:
    settings = {"momentum": 0.9, "epsilon": 1e-5, **options}
    return lambda: keras.layers.BatchNormalization(name="middle", **settings)


def batch_norm(torch_layer: Any = None, **options: Any) -> xcheck.Pair:
    return between(torch_layer or (lambda: BatchNorm1d(HIDDEN)), keras_norm(**options), **AFFINE)


def test_batch_normalization() -> None:
    result = assert_equivalent(batch_norm(), steps=3)
    assert {c.name for c in result.checks if c.phase == "state"} == {"1.running_mean", "1.running_var"}


def test_the_weight_of_the_new_batch_is_taken_for_that_of_the_old() -> None:
    result = run(batch_norm(momentum=0.1))
    assert_parts_in(result, "state")


def test_a_slightly_other_momentum_of_the_statistics() -> None:
    assert_parts_in(run(batch_norm(momentum=0.9 * (1 + 1e-9))), "state")


def test_the_running_variance_is_unbiased_in_pytorch() -> None:
    result = run(batch_norm(lambda: nn.BatchNorm1d(HIDDEN)))
    assert_parts_in(result, "state")
    wrong = {c.name for c in result.checks if c.verdict == "DIFFERENT" and c.step == 1}
    assert wrong == {"1.running_var"}


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5 * (1 + 1e-6)])
def test_another_epsilon_in_batch_normalization(epsilon: float) -> None:
    assert_parts_in(run(batch_norm(epsilon=epsilon)), "forward")


class Still(BatchNorm1d):
    """Never learns: neither its parameters nor its statistics."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


Still.__name__ = "BatchNorm1d"


def test_batch_normalization_that_stands_still() -> None:
    assert_equivalent(batch_norm(lambda: Still(HIDDEN), trainable=False))


def test_frozen_parameters_of_batch_normalization_do_not_freeze_its_statistics_in_pytorch() -> None:
    result = run(batch_norm(lambda: BatchNorm1d(HIDDEN).requires_grad_(False), trainable=False))
    assert_parts_in(result, "forward")
    first = next(c for c in result.checks if c.verdict == "DIFFERENT")
    assert first.name == "output (training)"  # in inference nothing shows
    assert any(c.verdict == "DIFFERENT" for c in result.checks if c.phase == "state")
    assert [c.id for c in result.causes] == ["frozen_mode"]  # both leave the same parameters alone


def test_a_subclass_of_a_known_layer_is_mapped_like_it() -> None:
    class Own(BatchNorm1d):
        pass

    assert_equivalent(batch_norm(lambda: Own(HIDDEN)))


def test_statistics_start_as_promised() -> None:
    result = xcheck.check(batch_norm(), steps=1, precision=("float64",), phases=("initialization",))
    assert result.verdict == "EQUIVALENT", result.report()


# Other normalization, activations ------------------------------------------------------------------------------


def group_norm(epsilon: float) -> Any:
    return keras.layers.GroupNormalization(groups=2, epsilon=epsilon, name="middle")


def layer_norm(epsilon: float) -> Any:
    return keras.layers.LayerNormalization(epsilon=epsilon, name="middle")


NORMS = {
    "layer": (lambda: nn.LayerNorm(HIDDEN), layer_norm),
    "group": (lambda: nn.GroupNorm(2, HIDDEN), group_norm),
}


@pytest.mark.parametrize("kind", NORMS)
def test_normalization(kind: str) -> None:
    ours, theirs = NORMS[kind]
    assert_equivalent(between(ours, lambda: theirs(1e-5), **AFFINE))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5 * (1 + 1e-6)])
@pytest.mark.parametrize("kind", NORMS)
def test_another_epsilon(kind: str, epsilon: float) -> None:
    ours, theirs = NORMS[kind]
    assert_parts_in(run(between(ours, lambda: theirs(epsilon), **AFFINE)), "forward")


def test_other_groups() -> None:
    pair = between(lambda: nn.GroupNorm(4, HIDDEN), lambda: group_norm(1e-5), **AFFINE)
    assert_parts_in(run(pair), "forward")


ACTIVATIONS = {
    "leaky": (lambda: nn.LeakyReLU(), lambda: keras.layers.LeakyReLU(negative_slope=0.01)),
    "elu": (lambda: nn.ELU(), lambda: keras.layers.ELU()),
    "gelu": (lambda: nn.GELU(), lambda: keras.layers.Activation(keras.activations.gelu)),
    "softplus": (lambda: nn.Softplus(), lambda: keras.layers.Activation("softplus")),
    "hard-sigmoid": (lambda: nn.Hardsigmoid(), lambda: keras.layers.Activation("hard_sigmoid")),
    "hard-swish": (lambda: nn.Hardswish(), lambda: keras.layers.Activation("hard_swish")),
    "capped": (lambda: nn.Hardtanh(0.0, 0.5), lambda: keras.layers.ReLU(max_value=0.5)),
    "selu": (lambda: nn.SELU(), lambda: keras.layers.Activation("selu")),
    "celu": (lambda: nn.CELU(0.7), lambda: keras.layers.Activation(lambda x: keras.activations.celu(x, 0.7))),
    "softshrink": (
        lambda: nn.Softshrink(0.1),
        lambda: keras.layers.Activation(lambda x: keras.activations.soft_shrink(x, 0.1)),
    ),
    "gelu-tanh": (
        lambda: nn.GELU("tanh"),
        lambda: keras.layers.Activation(lambda x: keras.activations.gelu(x, approximate=True)),
    ),
    "threshold": (
        lambda: nn.Threshold(0.1, 0.0),
        lambda: keras.layers.ReLU(threshold=0.1),
    ),
}


@pytest.mark.parametrize(
    "kind",
    list(ACTIVATIONS),
)
def test_activations(kind: str) -> None:
    assert_equivalent(between(*ACTIVATIONS[kind]))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.LeakyReLU(), lambda: keras.layers.LeakyReLU()),
        (lambda: nn.LeakyReLU(), lambda: keras.layers.Activation("leaky_relu")),
        (lambda: nn.LeakyReLU(), lambda: keras.layers.LeakyReLU(negative_slope=0.01 * (1 + 1e-6))),
        (lambda: nn.ELU(0.5), lambda: keras.layers.ELU()),
        (lambda: nn.GELU("tanh"), lambda: keras.layers.Activation(keras.activations.gelu)),
        (lambda: nn.Hardtanh(0.0, 0.5), lambda: keras.layers.ReLU(max_value=0.5 * (1 + 1e-6))),
    ],
    ids=["slope-of-the-layer", "slope-of-the-function", "a-millionth-off", "elu", "gelu", "cap"],
)
def test_another_activation(ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    assert_parts_in(run(between(ours, theirs)), "forward")


# Frozen parameters ---------------------------------------------------------------------------------------------


def frozen_torch() -> Any:
    model = torch_mlp()
    model[0].requires_grad_(False)
    return model


def frozen_keras() -> Any:
    hidden = keras.layers.Dense(HIDDEN, activation="tanh", name="hidden", trainable=False)
    return keras.Sequential([keras.Input((FEATURES,)), hidden, keras.layers.Dense(CLASSES, name="head")])


def test_a_layer_frozen_on_both_sides() -> None:
    result = assert_equivalent(mlp(torch={"build": frozen_torch}, keras={"build": frozen_keras}))
    assert {c.name for c in result.checks if c.phase == "gradient"} == {"2.weight", "2.bias"}
    moved = {c.name for c in result.checks if c.phase == "update"}
    assert moved >= {"0.weight", "0.bias"}  # that it stands still is compared


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_layer_frozen_on_one_side(side: str) -> None:
    result = run(mlp(**{side: {"build": frozen_torch if side == "torch" else frozen_keras}}))
    assert_parts_in(result, "inventory", None)
    other = "keras" if side == "torch" else "torch"
    wrong = [c for c in result.checks if c.phase == "inventory" and c.verdict == "DIFFERENT"]
    assert {c.name for c in wrong} == {"0.weight", "0.bias"}
    assert all(f"{side}: frozen" in c.detail and f"{other}: trainable" in c.detail for c in wrong)
    assert [(c.id, c.torch, c.confirmed) for c in result.causes] == [("frozen_parameters", "0.weight, 0.bias", True)]
    assert f"the {side} side does not train" in result.causes[0].summary


def test_a_parameter_that_only_the_optimizer_leaves_out() -> None:
    def optimizer(parameters: Any) -> Any:
        return torch.optim.SGD(list(parameters)[2:], lr=0.1)

    result = run(mlp(torch={"optimizer": optimizer}))
    assert_parts_in(result, "inventory", None)  # where it is known before a step is made
    wrong = {c.name for c in result.checks if c.phase == "update" and c.verdict == "DIFFERENT"}
    assert wrong == {"0.weight", "0.bias"}


# Dropout -------------------------------------------------------------------------------------------------------


def dropout(ours: float, theirs: float) -> xcheck.Pair:
    return between(lambda: nn.Dropout(ours), lambda: keras.layers.Dropout(theirs, name="middle"))


def test_dropout_at_rate_zero() -> None:
    assert_equivalent(dropout(0.0, 0.0))


def test_dropout_at_one_rate() -> None:
    assert_equivalent(dropout(0.5, 0.5))


@pytest.mark.parametrize("rates", [(0.5, 0.3), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3 * (1 + 1e-6))])
def test_dropout_at_two_rates(rates: tuple[float, float]) -> None:
    result = run(dropout(*rates))
    assert_parts_in(result, "forward")
    assert {c.name for c in result.checks if c.verdict == "DIFFERENT"} == {"dropout rates"}


class Always(nn.Module):
    """Dropout whose flag is forgotten, so that `eval()` does not end it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5)


class AlwaysInKeras(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="middle")
        self.drop = keras.layers.Dropout(0.5)

    def call(self, x: Any) -> Any:
        return self.drop(x, training=True)


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_dropout_that_drops_at_inference_too(side: str) -> None:
    given: Any = {"torch": Always, "keras": lambda: keras.layers.Dropout(0.5, name="middle")}
    if side == "keras":
        given = {"torch": lambda: nn.Dropout(0.5), "keras": AlwaysInKeras}
    result = run(between(given["torch"], given["keras"]))
    assert_parts_in(result, "forward")
    assert {c.name for c in result.checks if c.verdict == "DIFFERENT"} == {"dropout rates at inference"}
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("dropout_at_inference", True)
    assert f"the {side} side also applies dropout at inference, at a rate of 0.5" in cause.summary
    assert cause.torch == ("1: dropout" if side == "torch" else None)


def test_dropout_that_drops_at_inference_on_both_sides() -> None:
    assert_equivalent(between(Always, AlwaysInKeras))


def dropped_by_a_mask(kept: float = 0.6) -> xcheck.Pair:
    """Dropout that is driven by one mask, which comes with the batch; PyTorch divides by `kept`, Keras by 0.6."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.hidden(x)) * mask / kept)

    def build_keras() -> Any:
        x, mask = keras.Input((6,), name="x"), keras.Input((8,), name="mask")
        y: Any = keras.layers.Dense(8, activation="tanh", name="hidden")(x)
        return keras.Model({"x": x, "mask": mask}, keras.layers.Dense(3, name="head")(y * mask / 0.6))

    def masked(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        for batch in batches(seed):
            mask = (rng.random((10, 8)) < 0.6).astype(float)
            yield xcheck.Batch({"x": batch.inputs, "mask": mask}, batch.targets)

    layers = {"hidden": "hidden", "head": "head"}
    names = {f"{a}.{w}": f"{b}/{k}" for a, b in layers.items() for w, k in (("weight", "kernel"), ("bias", "bias"))}
    return mlp(torch={"build": Masked}, keras={"build": build_keras}, batches=masked, weight_map=names)


def test_dropout_by_one_mask_for_both_sides() -> None:
    assert_equivalent(dropped_by_a_mask())


def test_dropout_by_one_mask_that_is_scaled_otherwise() -> None:
    assert_parts_in(run(dropped_by_a_mask(0.6 * (1 + 1e-9))), "forward")
