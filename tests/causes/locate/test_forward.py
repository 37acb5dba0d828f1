"""The first place where two live models part: the calls, the local error, what still agreed, and others behind it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from nets import looked_into, net

import xcheck


def places(result: xcheck.Result) -> tuple[str | None, str | None]:
    assert result.first_divergence is not None
    return result.first_divergence.torch, result.first_divergence.keras


def tanh_gelu(x):
    return keras.ops.gelu(x, approximate=True)


FAULTS = {
    "epsilon of a layer norm": ({"layer_norm": {"epsilon": 1e-3}}, ("blocks.1.norm", "ln_1"), "epsilon"),
    "epsilon of a batch norm": ({"norm": {"epsilon": 1e-3, "momentum": 0.9}}, ("norm", "norm"), "epsilon"),
    "variant of an activation": ({"act": tanh_gelu}, ("blocks.1.act", "up_1: gelu"), "activation"),
    "another activation": ({"act": "relu"}, ("blocks.1.act", "up_1: relu"), "activation"),
    "a factor": ({"scaled": 2.5}, ("(the model): relu", "(the model): multiply"), "constant_factor"),
    "a missing residual": ({"residual": False}, ("blocks.1: add", "down_1: add"), "missing_term"),
}


def test_nothing_is_looked_for_where_nothing_differs():
    result = looked_into(net())
    assert result.verdict == "EQUIVALENT"
    assert "explain" not in result.timings


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_where_it_is_with_its_cause(fault, reference):
    planted, where, cause = FAULTS[fault]
    result = looked_into(net(reference, **planted))
    if reference == "keras":  # its biases start at zero, so that adding them is no operation
        where = tuple(name.replace("down_1: add", "down_1: matmul") for name in where)
    assert places(result) == where
    assert [(c.id, c.confirmed, c.phase) for c in result.causes] == [(cause, True, "forward")]
    assert (result.causes[0].torch, result.causes[0].keras) == where
    assert result.causes[0].evidence["before"] > 1e-4
    assert result.causes[0].evidence["after"] <= result.causes[0].evidence["allowed"] < 1e-11
    first = result.first_divergence
    assert first.local_error > first.allowed
    assert first.agreed.startswith("torch ")


def test_a_difference_that_no_float32_tolerance_sees_is_found_too():
    result = looked_into(net(layer_norm={"epsilon": 1e-5 * (1 + 1e-6)}))
    assert places(result) == ("blocks.1.norm", "ln_1")
    assert result.first_divergence.local_error < 1e-9
    (cause,) = result.causes
    assert (cause.id, cause.evidence["keras"]) == ("epsilon", "1.000001e-05")


def test_faults_behind_the_first_are_found_as_well_each_by_itself():
    result = looked_into(net(norm={"epsilon": 1e-3, "momentum": 0.9}, act="relu", residual=False))
    assert places(result) == ("norm", "norm")
    assert [c.id for c in result.causes] == ["epsilon", "activation", "missing_term"]
    alone = looked_into(net(act="relu"))
    mine, theirs = result.causes[1].evidence["before"], alone.causes[0].evidence["before"]
    assert mine == pytest.approx(theirs, rel=1e-9)  # the error is local: what came before it is as if it were not


def test_the_last_pair_that_agreed_is_named_with_both_shapes():
    result = looked_into(net(norm={"epsilon": 1e-3, "momentum": 0.9}))
    assert "torch conv: conv2d (2, 8, 6, 6) and keras conv: add (2, 6, 6, 8)" in result.first_divergence.agreed


def test_what_differs_in_training_alone_is_looked_into_in_training():
    """A frozen batch norm of Keras uses its running statistics in training too."""
    result = looked_into(net(norm={"epsilon": 1e-5, "momentum": 0.9, "trainable": False}))
    assert result.first_divergence.phase == "inventory"  # what is trained is another question, and asked first
    (cause,) = [c for c in result.causes if c.phase == "forward"]  # that it is frozen is one of its own
    assert (cause.id, cause.confirmed, cause.torch, cause.keras) == ("frozen_mode", True, "norm", "norm")
    assert "those of the batch in torch and the running statistics in keras" in cause.summary


def test_the_answer_says_why_on_its_second_line():
    text = looked_into(net(layer_norm={"epsilon": 1e-3})).report()
    first, second, third, *_ = text.splitlines()
    assert "blocks.1.norm" in first + second
    assert "because: normalisation: epsilon is 1e-05 in torch and 0.001 in keras" in second + third


def test_two_neighbours_that_both_differ_are_two_causes():
    def build_torch() -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))

    def build_keras() -> Any:
        layers = keras.layers

        x = keras.Input((6,))
        h = layers.LayerNormalization(name="norm")(layers.Dense(8, name="in")(x))
        h = layers.Activation(lambda v: keras.activations.gelu(v, approximate=True), name="act")(h)
        return keras.Model(x, layers.Dense(3, name="out")(h))

    roles = {"weight": "kernel", "bias": "bias"}
    weight_map = {f"{t}.{mine}": f"{k}/{own}" for t, k in (("0", "in"), ("3", "out")) for mine, own in roles.items()}
    weight_map |= {"1.weight": "norm/gamma", "1.bias": "norm/beta"}
    pair = xcheck.Pair(
        name="neighbours",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=lambda seed: iter([xcheck.Batch(np.random.default_rng(seed).standard_normal((5, 6)))] * 2),
        weight_map=weight_map,
    )
    result = looked_into(pair)
    assert [(c.id, c.torch, c.keras, c.confirmed) for c in result.causes] == [
        ("epsilon", "1", "norm", True),
        ("activation", "2", "act", True),
    ], result.report()
