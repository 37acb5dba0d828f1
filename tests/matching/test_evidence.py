"""What is settled in the end: which guesses stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import torch

import xcheck
from xcheck.matching.evidence import within_calls
from xcheck.matching.layers import Unit
from xcheck.phases.match import match


@dataclass(eq=False)
class Guessed:
    torch: tuple[Unit, ...]
    keras: tuple[Unit, ...]
    by_value: bool = False

    def units(self, side: str) -> tuple[Unit, ...]:
        return self.torch if side == "torch" else self.keras


def unit(name: str, *calls: int) -> Unit:
    return Unit(name, "Linear", (), calls)


def kept(*guesses: Any) -> list[Any]:
    return within_calls(guesses, "torch", "keras")


@pytest.mark.parametrize(("calls", "stays"), [((3,), False), ((3, 5), True)])
def test_a_layer_has_no_more_counterparts_than_calls(calls: tuple[int, ...], stays: bool) -> None:
    layer = unit("body.0", *calls)
    proven = Guessed((layer,), (unit("dense_7", 9),), by_value=True)
    alike = Guessed((layer,), (unit("dense_2", 2),))
    assert kept(alike, proven) == ([alike, proven] if stays else [proven])


def test_where_no_value_tells_which_it_is_every_guess_stays() -> None:
    layer = unit("body.0", 3)
    guesses = [Guessed((layer,), (unit(name, 1),)) for name in ("dense_1", "dense_2")]
    assert kept(*guesses) == guesses


def test_copies_that_values_prove_stay_however_often_the_layer_is_called() -> None:
    layer = unit("body.0", 3)
    guesses = [Guessed((layer,), (unit(name, 1),), by_value=True) for name in ("dense_1", "dense_2")]
    assert kept(*guesses) == guesses


class Block(torch.nn.Module):
    """Two vectors of one shape, whose names say nothing."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size
        self.one, self.two = (torch.nn.Parameter(torch.randn(8)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) + self.size * (self.two * x + self.one)


class Ported(keras.layers.Layer):
    """The same, but for a setting: a slope of the tanh."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def build(self, input_shape: Any) -> None:
        self.a, self.b = (self.add_weight((8,), initializer="random_normal", name=name) for name in "ab")

    def call(self, x: Any) -> Any:
        return keras.ops.tanh(1.00001 * x) + self.size * (self.a * x + self.b)


@pytest.mark.parametrize(("size", "told"), [(1.0, True), (1e-5, False)])
def test_where_parameters_exchanged_come_as_close_no_value_says_which_is_which(size: float, told: bool) -> None:
    def batches(seed: int) -> Any:
        yield xcheck.Batch(np.random.default_rng(seed).standard_normal((4, 8)))

    def build() -> keras.Model:
        return keras.Sequential([keras.Input((8,)), Ported(size), keras.layers.Dense(3)])

    torch_side = xcheck.TorchSide(lambda: torch.nn.Sequential(Block(size), torch.nn.Linear(8, 3)))
    plan = match(xcheck.Pair("exchanged", torch_side, xcheck.KerasSide(build), batches))
    found = {
        m.torch: (m.keras.rpartition("/")[2], m.evidence) for m in plan.parameters if m.torch in ("0.one", "0.two")
    }
    if told:
        assert found == {"0.one": ("b", "by value"), "0.two": ("a", "by value")}
        assert plan.doubts == ()
    else:
        assert {evidence for _, evidence in found.values()} == {"by structure"}
        assert [d.torch for d in plan.doubts] == ["0"]
        assert "its parameters or their slices" in plan.doubts[0].detail
