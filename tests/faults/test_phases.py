"""Faults planted into real pairs: each is found in the phase it belongs to, and everything before it passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ports import assert_parts_in, dilated_conv, mlp, submodel_regularizer, torch_mlp

import xcheck


def test_the_pair_without_a_fault_is_equivalent() -> None:
    result = xcheck.check(dilated_conv(), free_steps=2)
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.step for c in result.checks if c.phase != "trajectory" and not c.at_ordinary} == {None, 1, 2, 3, 4, 5}
    assert {t.status for t in result.ties} == {"same"}


def test_epsilon_of_adam_differs() -> None:
    from xcheck.optim.torch.optimizers import KerasAdam

    pair = dilated_conv()
    torch = replace(pair.torch, optimizer=lambda p: KerasAdam(p, learning_rate=1e-3, epsilon=1e-8))
    assert_parts_in(xcheck.check(replace(pair, torch=torch), steps=2), "update")


def test_plain_formula_of_adam_differs() -> None:
    result = xcheck.check(dilated_conv(plain_adam=True), steps=2)
    assert_parts_in(result, "update")
    moments = [c for c in result.checks if c.phase == "update" and "moment]" in c.name and c.step == 1]
    assert moments
    assert all(c.verdict == "EQUIVALENT" for c in moments)  # the moments agree, the formula does not


def test_one_of_three_uses_is_detached() -> None:
    import torch

    def build() -> torch.nn.Module:
        model = dilated_conv().torch.build()
        last = model.branches[2]

        def forward(image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(
                image, last.weight.detach(), last.bias, padding=last.padding, dilation=last.dilation
            )

        last.forward = forward
        return model

    pair = dilated_conv()
    result = xcheck.check(replace(pair, torch=replace(pair.torch, build=build)), steps=2)
    assert_parts_in(result, "gradient")
    assert result.first_divergence is not None
    assert result.first_divergence.torch == "branches.0.weight"
    biases = [c for c in result.checks if c.phase == "gradient" and c.step == 1 and c.name == "branches.0.bias"]
    assert [c.verdict for c in biases] == ["EQUIVALENT"]


def test_penalty_is_counted_per_use() -> None:
    result = xcheck.check(submodel_regularizer(features=1, zero_inputs=True, counted=2), steps=2)
    assert_parts_in(result, "loss")
    at = {c.name: c for c in result.checks if c.phase == "loss" and c.step == 1}
    assert at["data"].verdict == "EQUIVALENT"
    assert (at["penalty"].torch_value, at["penalty"].keras_value) == (2.0, 1.0)


def test_kernel_is_transposed() -> None:
    import torch

    def build() -> torch.nn.Module:
        model = dilated_conv().torch.build()
        for branch in model.branches:

            def forward(image: torch.Tensor, branch: torch.nn.Module = branch) -> torch.Tensor:
                return torch.nn.functional.conv2d(
                    image, branch.weight.mT, branch.bias, padding=branch.padding, dilation=branch.dilation
                )

            branch.forward = forward
        return model

    pair = dilated_conv()
    result = xcheck.check(replace(pair, torch=replace(pair.torch, build=build)), steps=2)
    assert_parts_in(result, "forward")


def test_tie_is_missing_in_keras() -> None:
    def build():
        import keras

        image = keras.Input((10, 10, 1))
        maps = [
            keras.layers.Conv2D(4, 3, padding="same", dilation_rate=d, activation="relu", name=f"branch_{d}")(image)
            for d in (1, 2, 3)
        ]
        x = keras.layers.Flatten()(keras.layers.Concatenate()(maps))
        return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="head")(x))

    pair = dilated_conv()
    weight_map = {
        "branches.0.weight": [f"branch_{d}/kernel" for d in (1, 2, 3)],
        "branches.0.bias": [f"branch_{d}/bias" for d in (1, 2, 3)],
        "head.weight": "head/kernel",
        "head.bias": "head/bias",
    }
    result = xcheck.check(replace(pair, keras=replace(pair.keras, build=build), weight_map=weight_map), steps=2)
    assert_parts_in(result, "inventory", None)
    assert {t.status for t in result.ties} == {"missing"}
    forward = [c for c in result.checks if c.phase in ("sync", "forward", "loss") and c.step in (None, 1)]
    assert all(c.verdict == "EQUIVALENT" for c in forward if c.phase != "inventory")  # equal values hide it
    assert any(c.verdict == "DIFFERENT" for c in result.checks if c.phase == "gradient")


def test_tie_is_missing_in_torch() -> None:
    import torch

    def build() -> torch.nn.Module:
        model = dilated_conv().torch.build()
        for branch in model.branches[1:]:
            branch.weight = torch.nn.Parameter(branch.weight.detach().clone())
        return model

    pair = dilated_conv()
    weight_map = {f"branches.{i}.weight": ("shared_conv/kernel", "conv") for i in range(3)}
    weight_map = {**pair.weight_map, **weight_map}
    result = xcheck.check(replace(pair, torch=replace(pair.torch, build=build), weight_map=weight_map), steps=1)
    assert_parts_in(result, "inventory", None)
    assert "extra" in {t.status for t in result.ties}
    assert any("promises one storage" in c.detail for c in result.checks)


def test_a_parameter_left_out_of_the_map_is_matched_by_itself() -> None:
    pair = dilated_conv()
    weight_map = {key: value for key, value in pair.weight_map.items() if key != "head.bias"}
    result = xcheck.check(replace(pair, weight_map=weight_map), steps=1, phases=("inventory", "sync", "forward"))
    assert result.verdict == "EQUIVALENT", result.report()
    (found,) = (c for c in result.checks if c.detail == "identity, by value")
    assert (found.torch, found.keras) == ("head.bias", "head/bias")


def test_an_unused_parameter_left_out_of_the_map_is_counted_as_such() -> None:
    import torch

    def build() -> torch.nn.Module:
        model = torch_mlp()
        model[0].register_parameter("spare", torch.nn.Parameter(torch.zeros(3)))
        return model

    result = xcheck.check(mlp(torch={"build": build}), steps=1)
    assert result.verdict == "EQUIVALENT", result.report()
    assert (result.coverage["parameters"]["unused"], result.coverage["parameters"]["unmatched"]) == (1, 0)
    waived = mlp(torch={"build": build}, weight_map={**mlp().weight_map, "0.spare": xcheck.waive("never used")})
    result = xcheck.check(waived, steps=1)
    assert result.verdict == "EQUIVALENT", result.report()
    assert "waived: 0.spare (never used)" in result.notes


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_on_one_side(side: str, bad: float) -> None:
    def outputs(raw):
        return raw + bad

    result = xcheck.check(mlp(**{side: {"outputs": outputs}}), steps=1)
    assert_parts_in(result, "forward")
    assert f"only on the {side} side" in result.checks[[c.phase for c in result.checks].index("forward")].detail


def test_nan_on_both_sides_is_inconclusive() -> None:
    result = xcheck.check(
        mlp(torch={"outputs": lambda raw: raw * np.nan}, keras={"outputs": lambda r: r * np.nan}), steps=1
    )
    assert_parts_in(result, "forward", 1, "INCONCLUSIVE")


def test_only_the_second_step_is_wrong() -> None:
    def optimizer():
        import keras

        class LateSGD(keras.optimizers.SGD):
            def update_step(self, gradient, variable, learning_rate):
                late = keras.ops.cast(keras.ops.equal(self.iterations, 1), variable.dtype)
                super().update_step(gradient * (1 + 1e-6 * late), variable, learning_rate)

        return LateSGD(learning_rate=0.1)

    result = xcheck.check(mlp(keras={"optimizer": optimizer}), steps=4)
    assert_parts_in(result, "update", 2)
    wrong = {c.step for c in result.checks if c.verdict != "EQUIVALENT"}
    assert wrong == {2}  # re-synced: the error of step 2 does not reach step 3


def _with_dropout(rate: float, keras_rate: float) -> xcheck.Pair:
    def build_torch():
        from torch import nn

        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(rate), nn.Linear(8, 3), nn.Dropout(0.0))

    def build_keras():
        import keras

        layers = [
            keras.layers.Dense(8, name="hidden"),
            keras.layers.Dropout(keras_rate),
            keras.layers.Dense(3, name="head"),
        ]
        return keras.Sequential([keras.Input((6,)), *layers])

    return mlp(torch={"build": build_torch}, keras={"build": build_keras})


def test_dropout_is_switched_off_and_its_rate_compared() -> None:
    result = xcheck.check(_with_dropout(0.3, 0.3), steps=2)
    assert result.verdict == "EQUIVALENT", result.report()
    assert "dropout is switched off on both sides, and its rates are compared" in result.notes


@pytest.mark.parametrize("rate", [0.3 * (1 + 1e-6), 0.0])
def test_another_rate_of_dropout_is_different(rate: float) -> None:
    result = xcheck.check(_with_dropout(0.3, rate), steps=1)
    assert_parts_in(result, "forward")
    assert result.first_divergence is not None
    assert result.first_divergence.name == "dropout rates"
