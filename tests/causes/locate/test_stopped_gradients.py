"""A gradient that one side cuts off: found by keeping it, named where it is cut, and only where that is all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, BATCH = 5, 4
PHASES = ("inventory", "sync", "forward", "loss", "gradient")
Cut = Callable[[Any, int], Any]


def as_it_is(x: Any, number: int) -> Any:
    return x


def detached(*numbers: int) -> Cut:
    return lambda x, number: x.detach() if number in numbers else x


def without_gradient(*numbers: int) -> Cut:
    def cut(x: Any, number: int) -> Any:
        return x.data if number in numbers else x

    return cut


def within_no_grad(*numbers: int) -> Cut:
    def cut(x: Any, number: int) -> Any:
        import torch

        if number not in numbers:
            return x
        with torch.no_grad():
            return x * 1.0

    return cut


def stopped(*numbers: int) -> Cut:
    def cut(x: Any, number: int) -> Any:
        import keras

        return keras.ops.stop_gradient(x) if number in numbers else x

    return cut


def pair_of(torch_cut: Cut, keras_cut: Cut) -> xcheck.Pair:
    """Three dense layers; between them each side may cut the gradient off."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.ModuleList(torch.nn.Linear(SIZE, SIZE) for _ in range(3))

            def forward(self, x: Any) -> Any:
                for i, layer in enumerate(self.layers):
                    x = torch.tanh(layer(x)) + torch_cut(x, i)
                return x

        return Net()

    def build_keras() -> Any:
        import keras

        class Net(keras.Model):
            def __init__(self) -> None:
                super().__init__(name="net")
                self.dense = [keras.layers.Dense(SIZE, name=f"layer_{i}") for i in range(3)]

            def call(self, x: Any) -> Any:
                for i, layer in enumerate(self.dense):
                    x = keras.ops.tanh(layer(x)) + keras_cut(x, i)
                return x

        return Net()

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, SIZE)))

    names = {"weight": "kernel", "bias": "bias"}
    return xcheck.Pair(
        name="cut",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={
            f"layers.{i}.{mine}": f"net/layer_{i}/{theirs}" for i in range(3) for mine, theirs in names.items()
        },
    )


def causes(pair: xcheck.Pair) -> list[tuple[str, bool, list[str], list[str]]]:
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=PHASES)
    assert result.verdict == "DIFFERENT", result.report()
    assert {c.phase for c in result.checks if c.verdict == "DIFFERENT"} == {"gradient"}
    return [
        (c.id, c.confirmed, list(c.evidence["places"].get("torch", ())), list(c.evidence["places"].get("keras", ())))
        for c in result.causes
    ]


@pytest.mark.parametrize(
    ("pair", "torch", "keras"),
    [
        (pair_of(detached(1), as_it_is), ["(the model): detach"], []),
        (pair_of(without_gradient(1), as_it_is), ["(the model): data"], []),
        (pair_of(within_no_grad(1), as_it_is), ["(the model): no_grad"], []),
        (pair_of(as_it_is, stopped(1)), [], ["net: stop_gradient"]),
        # both cut the second one off: only what the other does not is named
        (pair_of(detached(2), stopped(1, 2)), [], ["net: stop_gradient"]),
        (pair_of(detached(1, 2), stopped(2)), ["(the model): detach"], []),
        # each cuts off where the other does not
        (pair_of(detached(2), stopped(1)), ["(the model): detach"], ["net: stop_gradient"]),
    ],
)
def test_where_a_gradient_is_cut_off_is_named(pair, torch, keras):
    ((cause, confirmed, in_torch, in_keras),) = causes(pair)
    assert (cause, confirmed) == ("stopped_gradient", True)
    assert in_torch == torch
    assert [name.replace("(the model)", "net") for name in in_keras] == keras


def test_cut_off_alike_is_the_same_gradient():
    result = xcheck.check(
        pair_of(detached(1), stopped(1)), steps=1, precision=("float64",), free_steps=0, phases=PHASES
    )
    assert {c.verdict for c in result.checks if c.phase == "gradient"} == {"EQUIVALENT"}
    assert result.causes == ()


def test_no_cut_is_named_where_the_gradient_is_wrong_besides():
    def scaled(x: Any, number: int) -> Any:
        import torch

        class Doubled(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, given: Any) -> Any:
                return given.clone()

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return 2 * grads[0]

        return Doubled.apply(x) if number == 1 else x

    assert causes(pair_of(scaled, stopped(2))) == []
