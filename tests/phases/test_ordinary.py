"""One step at weights of ordinary size finds what the weights that training starts from hide, and nothing else."""

from typing import Any

import numpy as np
import pytest
from fakes import linear_pair

import xcheck
from xcheck.phases.ordinary import SCALES


def net(side: str, how: str) -> Any:
    """A dense layer, a frozen normalization and a branch behind a frozen gate of next to nothing, wrong in one place.

    Args:
        side: which framework's model.
        how: what is wrong: "mean": Keras ignores the running mean, which is 0; "epsilon": it adds it elsewhere, which
            at a variance of 1 is the same; "gate": it computes another branch behind the gate, which is 0;
            "raises": PyTorch takes no other gate; "explodes": with any other gate, both overflow.
    """
    return torch_net(how) if side == "torch" else keras_net(how)


def torch_net(how: str) -> Any:
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.ones(4))
            self.register_buffer("running_mean", torch.zeros(4))
            self.register_buffer("running_var", torch.ones(4))

        def forward(self, x: Any) -> Any:
            return (x - self.running_mean) * (self.running_var + 1e-5).rsqrt() * self.weight

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(3, 4), Norm(), nn.Linear(4, 2)
            self.gate = nn.Parameter(torch.zeros(4), requires_grad=False)
            nn.init.zeros_(self.a.bias)

        def forward(self, x: Any) -> Any:
            if how == "raises" and self.gate.any():
                raise ValueError("no such gate")
            x = self.norm(self.a(x))
            x = x + self.gate * torch.tanh(x)
            if how == "explodes":
                x = x + (x * self.gate.abs().sum() * 1e4).exp()
            return self.b(x)

    return Net()


def keras_net(how: str) -> Any:
    import keras
    from keras import layers, ops

    class Norm(layers.Layer):
        def build(self, shape: Any) -> None:
            names = {"weight": "ones", "running_mean": "zeros", "running_var": "ones"}
            self.held = [self.add_weight(shape=(4,), initializer=i, name=n, trainable=False) for n, i in names.items()]

        def call(self, x: Any) -> Any:
            weight, mean, variance = self.held
            x = x if how == "mean" else x - mean
            if how == "epsilon":  # of the deviation, and not of the variance
                return x / (ops.sqrt(variance) + (np.sqrt(1 + 1e-5) - 1)) * weight
            return x / ops.sqrt(variance + 1e-5) * weight

    class Gate(layers.Layer):
        def build(self, shape: Any) -> None:
            self.gate = self.add_weight(shape=(4,), initializer="zeros", name="gate", trainable=False)

        def call(self, x: Any) -> Any:
            return x * self.gate if how != "explodes" else [x * self.gate, ops.sum(ops.abs(self.gate))]

    inputs = keras.Input((3,))
    x = Norm(name="norm")(layers.Dense(4, name="a")(inputs))
    y = layers.Activation("sigmoid" if how == "gate" else "tanh")(x)
    if how == "explodes":
        y, size = Gate(name="gate")(y)
        x = x + y
        x = x + ops.exp(x * size * 1e4)
    else:
        x = x + Gate(name="gate")(y)
    return keras.Model(inputs, layers.Dense(2, name="b")(x))


MAP = {
    "a.weight": "a/kernel",
    "a.bias": "a/bias",
    "b.weight": "b/kernel",
    "b.bias": "b/bias",
    "gate": "gate/gate",
    **{f"norm.{name}": f"norm/{name}" for name in ("weight", "running_mean", "running_var")},
}


def batches(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))


def check(how: str, **options: Any) -> xcheck.Result:
    pair = xcheck.Pair(
        "hidden",
        xcheck.TorchSide(lambda: net("torch", how), **options.pop("torch", {})),
        xcheck.KerasSide(lambda: net("keras", how), **options.pop("keras", {})),
        batches,
        weight_map=MAP,
    )
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, **options)


@pytest.mark.parametrize("how", ["mean", "epsilon", "gate"])
def test_a_difference_that_the_first_weights_hide_is_found_and_said_to_be_there(how):
    result = check(how)
    assert result.verdict == "DIFFERENT"
    assert {c.step for c in result.checks if c.verdict == "DIFFERENT"} == {2}
    assert (result.first_divergence.phase, result.first_divergence.step) == ("forward", 2)
    assert "first difference in forward at weights of ordinary size" in " ".join(result.report().split())
    if how == "gate":
        assert [(c.id, c.confirmed) for c in result.causes] == [("activation", True)]


def test_without_one_the_step_passes_and_is_counted():
    result = check("")
    assert result.verdict == "EQUIVALENT"
    assert {c.step for c in result.checks if c.at_ordinary} == {2}
    assert {c.phase for c in result.checks if c.at_ordinary} == {"forward", "loss", "gradient", "update", "state"}
    assert "1 re-synced step in float64 and one at weights of ordinary size" in " ".join(result.report().split())


@pytest.mark.parametrize("left_out", [True, False])
def test_decay_of_what_starts_at_zero_is_found(left_out):
    def torch_sgd(parameters: Any) -> Any:
        import torch

        return torch.optim.SGD(parameters, lr=0.1, weight_decay=0.01)

    def keras_sgd() -> Any:
        import keras

        optimizer = keras.optimizers.SGD(0.1, weight_decay=0.01)
        if left_out:
            optimizer.exclude_from_weight_decay(var_names=["a/bias"])
        return optimizer

    def loss(y: Any, p: Any) -> Any:
        import keras

        return keras.ops.mean((y - p) ** 2)

    torch = {"loss": lambda o, t: ((o - t) ** 2).mean(), "optimizer": torch_sgd}
    result = check("", torch=torch, keras={"loss": loss, "optimizer": keras_sgd})
    assert [(c.phase, c.step, c.name) for c in result.checks if c.verdict == "DIFFERENT"] == (
        [("update", 2, "a.bias")] if left_out else []
    )


def test_a_note_says_where_no_step_can_be_made_and_nothing_else_changes():
    for how, why in (("raises", "raised"), ("explodes", "overflow or multiply rounding errors")):
        result = check(how)
        assert result.verdict == "EQUIVALENT"
        assert not any(c.at_ordinary for c in result.checks)
        assert [why in note for note in result.notes if note.startswith("not covered: weights of ordinary size")] == [
            True
        ]


def test_where_something_differs_already_no_such_step_is_made():
    result = xcheck.check(linear_pair(keras={"learning_rate": 0.2}), steps=1, precision=("float64",), free_steps=0)
    assert {c.step for c in result.checks} == {None, 1}


def test_a_scale_that_is_too_large_is_made_smaller(monkeypatch):
    monkeypatch.setattr("xcheck.phases.ordinary.SCALES", (1e200, *SCALES))
    assert {c.step for c in check("").checks if c.at_ordinary} == {2}
