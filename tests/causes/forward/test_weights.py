"""Another weight than the other side's: told how each side came by its own, and only where that is all that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, BATCH = 6, 4


def nothing(x: Any) -> Any:
    return x


def spoilt(x: Any) -> Any:
    import keras

    return x + 1e-4 * keras.ops.sin(1e3 * x)


def pair_of(torch_use: Callable[[Any], Any], keras_use: Callable[[Any], Any], after: Callable[[Any], Any] = nothing):
    """A layer with a square convolution kernel (3, 3, 6, 6) that each side turns in its own way before its use."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(SIZE, SIZE, 3, 3))

            def forward(self, x: Any) -> Any:
                return torch.tanh(torch.nn.functional.conv2d(x, torch_use(self.weight), padding=1))

        return Net()

    def build_keras() -> Any:
        import keras

        class Own(keras.layers.Layer):
            def build(self, input_shape: Any) -> None:
                self.kernel = self.add_weight(shape=(3, 3, SIZE, SIZE), name="kernel")

            def call(self, x: Any) -> Any:
                return keras.ops.conv(x, keras_use(self.kernel), padding="same")

        x = keras.Input((5, 5, SIZE))
        return keras.Model(x, keras.ops.tanh(after(Own(name="own")(x))))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, 5, 5, SIZE)))

    return xcheck.Pair(
        name="weights",
        torch=xcheck.TorchSide(
            build_torch,
            prepare=lambda batch: (np.moveaxis(np.asarray(batch.inputs), -1, 1), None),
            outputs=lambda y: y.movedim(1, -1),
        ),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={"weight": ("own/kernel", "conv")},
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


def ops() -> Any:
    import keras

    return keras.ops


def joined(weight: Any) -> Any:
    import torch

    return torch.cat([weight, weight.flip(2)])


CASES: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any], tuple[str, ...]]] = {
    "first and last outputs": (
        "slice",
        lambda w: w[:4],
        lambda w: w[..., 2:],
        ("0:4 of 6 along outputs in torch", "2:6 of 6 along outputs in keras"),
    ),
    "a quarter the other way": (
        "turned_weight",
        lambda w: w.rot90(1, (2, 3)),
        lambda w: ops().rot90(w, 1, axes=(1, 0)),
        ("turned by 1 quarters from height to width in torch", "turned by 3 quarters from height to width in keras"),
    ),
    "mirrored along one axis": (
        "turned_weight",
        lambda w: w,
        lambda w: ops().flip(w, axis=1),
        ("as it is in torch", "mirrored along width in keras"),
    ),
    "inputs and outputs exchanged": (
        "transposed_kernel",
        lambda w: w,
        lambda w: ops().transpose(w, (0, 1, 3, 2)),
        ("with inputs and outputs exchanged in keras",),
    ),
    "joined in another order": (
        "turned_weight",
        joined,
        lambda w: ops().concatenate([ops().flip(w, axis=0), ops().flip(w, axis=1)], axis=-1),
        ("as it is and mirrored along height, joined along outputs in torch",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_how_each_side_came_by_its_weight_is_told(name):
    cause, torch_use, keras_use, words = CASES[name]
    result = looked_into(pair_of(torch_use, keras_use))
    assert [(c.id, c.confirmed) for c in result.causes] == [(cause, True)], result.report()
    (found,) = result.causes
    for part in words:
        assert part in found.summary
    assert found.evidence["before"] > 1e-4
    assert found.evidence["after"] <= found.evidence["allowed"] < 1e-11
    assert found.fix


@pytest.mark.parametrize("name", CASES)
def test_no_weight_is_named_where_something_else_is_wrong_too(name):
    _, torch_use, keras_use, _ = CASES[name]
    result = looked_into(pair_of(torch_use, keras_use, after=spoilt))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == [], result.report()


def test_no_weight_is_named_where_it_was_made_in_another_way():
    result = looked_into(pair_of(lambda w: w * 1.0, lambda w: w * (1 + 1e-6)))
    assert result.verdict == "DIFFERENT"
    assert {c.id for c in result.causes}.isdisjoint({"slice", "turned_weight", "other_parameter"}), result.report()


def test_turned_alike_it_is_the_same_computation():
    turned = pair_of(lambda w: w.rot90(1, (2, 3)), lambda w: ops().rot90(w, 1, axes=(0, 1)))
    assert looked_into(turned).checks
    assert {c.verdict for c in looked_into(turned).checks if c.phase == "forward"} == {"EQUIVALENT"}


def layers_in(order: tuple[int, ...], *, after: Callable[[Any], Any] = nothing, copied: bool = False) -> xcheck.Pair:
    """Two dense layers of one size, called in PyTorch as 0, 1, 0, and in Keras in another order.

    Args:
        order: of the calls in Keras.
        after: applied to what each call gives.
        copied: a third layer in Keras is a copy of the first.
    """

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.ModuleList(torch.nn.Linear(SIZE, SIZE) for _ in range(2))

            def forward(self, x: Any) -> Any:
                for i in (0, 1, 0):
                    x = torch.tanh(self.layers[i](x))
                return x

        return Net()

    def build_keras() -> Any:
        import keras

        x = inputs = keras.Input((SIZE,))
        layers = [keras.layers.Dense(SIZE, name=f"layer_{i}") for i in range(2 + copied)]
        for i in order:
            x = keras.ops.tanh(after(layers[i](x)))
        for layer in layers:  # both are in the model, whether they are called or not
            x = x + 0.0 * layer(inputs)
        return keras.Model(inputs, x)

    names = {"weight": "kernel", "bias": "bias"}
    weight_map: dict[str, Any] = {f"layers.{i}.{t}": f"layer_{i}/{k}" for i in range(2) for t, k in names.items()}
    if copied:
        weight_map |= {f"layers.0.{t}": [f"layer_{i}/{k}" for i in (0, 2)] for t, k in names.items()}
    return xcheck.Pair(
        name="layers",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=lambda seed: (xcheck.Batch(np.random.default_rng(seed).standard_normal((BATCH, SIZE))) for _ in "ab"),
        weight_map=weight_map,
    )


def test_another_layer_is_named_with_its_counterparts():
    result = looked_into(layers_in((0, 1, 1)))
    (cause,) = (c for c in result.causes if c.confirmed)
    assert cause.id == "other_parameter", result.report()
    assert "layers.0.weight in torch, whose counterpart is layer_0/kernel" in cause.summary
    assert "layer_1/kernel in keras, whose counterpart is layers.1.weight" in cause.summary


def test_another_layer_is_a_guess_where_a_tie_is_lost():
    result = looked_into(layers_in((0, 1, 1), copied=True))
    assert [c.confirmed for c in result.causes if c.id == "other_parameter"] == [False], result.report()
    assert "tie_missing" in {c.id for c in result.causes if c.confirmed}


def test_no_other_layer_is_named_where_something_else_is_wrong_too():
    result = looked_into(layers_in((0, 1, 1), after=spoilt))
    assert result.verdict == "DIFFERENT"
    assert "other_parameter" not in {c.id for c in result.causes}


def test_a_weight_that_is_made_of_a_vector_is_no_matrix():
    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.code, self.make = torch.nn.Parameter(torch.randn(4)), torch.nn.Linear(4, 18)

            def forward(self, x: Any) -> Any:
                made = self.make(self.code)
                return torch.tanh(torch.nn.functional.linear(x, made[:15].view(3, 5), made[15:]))

        return Net()

    def build_keras() -> Any:
        import keras
        from keras import ops as o

        class Net(keras.Model):
            def build(self, _: Any) -> None:
                self.code = self.add_weight(shape=(1, 4), name="code")
                self.make = keras.layers.Dense(18, name="make")
                self.make.build((1, 4))

            def call(self, x: Any) -> Any:
                made = self.make(self.code)[0]
                return o.tanh(o.matmul(x, o.transpose(o.reshape(made[:15], (3, 5)))))

        return Net(name="net")

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((6, 5)))

    sides = xcheck.TorchSide(build_torch), xcheck.KerasSide(build_keras)
    result = looked_into(xcheck.Pair("made", *sides, batches))
    assert result.verdict == "DIFFERENT", result.report()
    assert [c.id for c in result.causes if c.confirmed] == []
