"""Parameters without effect, in whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xcheck


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"x": rng.standard_normal((6, 4)), "gate": np.zeros((6, 1), int)})


def torch_model(how: str) -> Any:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.extra = nn.Linear(4, 5), nn.Linear(5, 2), nn.Linear(4, 3)
            if how == "zero":
                self.extra = nn.Linear(4, 2)
                self.last = nn.Linear(2, 2, bias=False)
                nn.init.zeros_(self.last.weight)

        def forward(self, x: Any, gate: Any) -> Any:
            out = self.b(torch.tanh(self.a(x)))
            if how == "gate":
                return out + gate * self.extra(x).sum(-1, keepdim=True)
            if how == "times zero":
                return out + 0.0 * self.extra(x).sum(-1, keepdim=True)
            return out + self.last(self.extra(x)) if how == "zero" else out

    return Model()


def keras_model(how: str) -> Any:
    import keras
    from keras import layers, ops

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(5, activation="tanh", name="a"), layers.Dense(2, name="b")
            self.extra = layers.Dense(2 if how == "zero" else 3, name="extra")
            self.extra.build((None, 4))
            if how == "zero":
                self.last = layers.Dense(2, use_bias=False, kernel_initializer="zeros", name="last")

        def call(self, inputs: Any) -> Any:
            x, gate = inputs["x"], inputs["gate"]
            out = self.b(self.a(x))
            total = ops.sum(self.extra(x), -1, keepdims=True) if how in ("gate", "times zero") else None
            if how == "gate":
                return out + ops.cast(gate, out.dtype) * total
            if how == "times zero":
                return out + 0.0 * total
            return out + self.last(self.extra(x)) if how == "zero" else out

    return Model()


MAP = {
    f"{layer}.{torch}": f"extra/{keras}" if layer == "extra" else f"model/{layer}/{keras}"
    for layer in ("a", "b", "extra")
    for torch, keras in (("weight", "kernel"), ("bias", "bias"))
}


def run(how: str, **kwargs: Any) -> xcheck.Result:
    weight_map = MAP | ({"last.weight": "model/last/kernel"} if how == "zero" else {})
    torch = xcheck.TorchSide(lambda: torch_model(how))
    keras = xcheck.KerasSide(lambda: keras_model(how))
    pair = xcheck.Pair("unused", torch, keras, batches, weight_map=weight_map)
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, **kwargs)


@pytest.mark.parametrize(("how", "word"), [("nothing", "unused"), ("times zero", "without_effect")])
def test_what_nothing_depends_on_is_counted_and_no_reason_to_doubt(how: str, word: str) -> None:
    result = run(how)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"][word] == 2


def test_what_only_these_batches_do_not_reach_is_open_with_the_line_to_add() -> None:
    result = run("gate")
    assert result.verdict == "INCONCLUSIVE"
    details = {c.name: c.detail for c in result.checks if c.verdict == "INCONCLUSIVE"}
    assert details.keys() == {"extra.weight", "extra.bias"}
    assert 'other inputs do; use batches that use it, or weight_map={"extra.weight"' in details["extra.weight"]


def test_behind_a_layer_that_starts_at_zero_a_second_step_is_made() -> None:
    result = run("zero")
    assert result.verdict == "EQUIVALENT", result.report()
    assert any(c.step == 2 and c.name == "extra.weight" and c.error is not None for c in result.checks)


def test_a_reached_parameter_takes_no_further_step() -> None:
    assert {c.step for c in run("nothing").checks if c.phase == "gradient" and not c.at_ordinary} == {1}
