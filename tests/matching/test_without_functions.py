"""Weights that one side uses through a function: the weight is matched, and the function is the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops

import xcheck
from xcheck.causes.forward.weight_functions import function_of

SIZE = 6
LOWER = np.tril(np.ones((SIZE, SIZE)))


def torch_net(of_weight: Callable[[Any], Any]) -> Callable[[], torch.nn.Module]:
    class Middle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(SIZE, SIZE) / 2)
            self.bias = torch.nn.Parameter(torch.randn(SIZE) / 2)

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.linear(x, of_weight(self.weight), self.bias)

    return lambda: torch.nn.Sequential(
        torch.nn.Linear(SIZE, SIZE), torch.nn.Tanh(), Middle(), torch.nn.Tanh(), torch.nn.Linear(SIZE, SIZE)
    )


def keras_net(of_kernel: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    class Middle(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(SIZE, SIZE), name="kernel")
            self.bias = self.add_weight(shape=(SIZE,), name="bias")

        def call(self, x: Any) -> Any:
            return ops.matmul(x, of_kernel(self.kernel)) + self.bias

    def build() -> keras.Model:
        dense = keras.layers.Dense
        x = keras.Input((SIZE,))
        return keras.Model(x, dense(SIZE)(ops.tanh(Middle(name="middle")(ops.tanh(dense(SIZE)(x))))))

    return build


def batches(seed: int) -> Iterator[xcheck.Batch]:
    while True:
        yield xcheck.Batch(np.random.default_rng(seed).standard_normal((4, SIZE)))


def checked(torch_weight: Callable[[Any], Any], keras_kernel: Callable[[Any], Any]) -> xcheck.Result:
    sides = xcheck.TorchSide(torch_net(torch_weight)), xcheck.KerasSide(keras_net(keras_kernel))
    pair = xcheck.Pair("function_of_a_weight", *sides, batches)
    return xcheck.check(pair, steps=1, free_steps=0, precision=("float64",), reach="none")


def as_it_is(weight: Any) -> Any:
    return weight


CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "softplus in torch": (torch.nn.functional.softplus, as_it_is, "softplus(w) in torch and w in keras"),
    "a norm in keras": (
        as_it_is,
        lambda w: w / ops.norm(w, axis=0, keepdims=True),
        "w in torch and w / norm(w), over inputs in keras",
    ),
    "a mask in torch": (
        lambda w: w * torch.tensor(LOWER, dtype=w.dtype),
        as_it_is,
        "w * mask, with 15 of 36 elements at zero in torch and w in keras",
    ),
    "another function on each side": (torch.exp, ops.square, "exp(w) in torch and square(w) in keras"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_weight_is_matched_and_its_function_is_the_cause(name: str) -> None:
    of_weight, of_kernel, words = CASES[name]
    result = checked(of_weight, of_kernel)
    assert result.verdict == "DIFFERENT"
    assert [(c.id, c.confirmed) for c in result.causes] == [("weight_function", True)], result.report()
    assert words in result.causes[0].summary
    (match,) = (c for c in result.checks if c.phase == "inventory" and c.torch == "2.weight" and c.keras)
    assert (match.keras, match.detail) == ("middle/kernel", "transpose, by value")


def test_a_function_that_both_sides_apply_is_no_difference() -> None:
    result = checked(torch.nn.functional.softplus, ops.softplus)
    assert result.verdict == "EQUIVALENT", result.report()


def test_each_function_is_told_from_the_others() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 5))
    axes = ("inputs", "outputs")
    centred = weight - weight.mean(0)
    assert function_of(np.logaddexp(weight, 0), weight, axes) == "softplus(w)"
    assert function_of(centred, weight, axes) == "w - mean(w), over inputs"
    assert function_of(centred / weight.std(0, ddof=1), weight, axes) == "(w - mean(w)) / std(w), over inputs"
    assert function_of(weight / np.linalg.norm(weight), weight, axes) == "w / norm(w)"
    assert function_of(weight + np.outer(weight[:, 0], weight[0]), weight, axes) == "w + a matrix of rank 1"
    assert function_of(np.sin(weight), weight, axes) is None
