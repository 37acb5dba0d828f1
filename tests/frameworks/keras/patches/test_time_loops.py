"""Time steps as a graph compute what they compute one by one, and code that is not Keras's own is left as it is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import xcheck
from xcheck.frameworks.keras.patches import time_loops
from xcheck.frameworks.keras.runner import KerasRunner
from xcheck.records.trace import State, StepRecord

STEPS = 20
PARTS = ("outputs", "inference", "losses", "gradients")

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="other backends compile loops themselves"
)


class OwnCell(keras.layers.SimpleRNNCell):
    """A cell that somebody wrote."""


def batch(seed: int = 0) -> xcheck.Batch:
    x = np.random.default_rng(seed).standard_normal((3, STEPS, 2))
    return xcheck.Batch(x, x.mean((1, 2))[:, None])


def runner(layer: Any) -> KerasRunner:
    def build() -> keras.Model:
        x = keras.Input((STEPS, 2))
        return keras.Model(x, keras.layers.Dense(1, name="head")(layer()(keras.layers.Masking()(x))))

    side = xcheck.KerasSide(build, loss="mean_squared_error", optimizer=lambda: keras.optimizers.SGD(0.1))
    made = KerasRunner(side, precision="float64", device="cpu", seed=0)
    made.prime(batch())
    return made


def steps(layer: Any, scale: float = 1.0) -> tuple[list[StepRecord], int]:
    """The records of two steps, between which the weights are scaled, and the number of graphs."""
    made = runner(layer)
    records = [made.step(1, batch())]
    made.write(State({path: array * scale for path, array in made.read().parameters.items()}))
    return [*records, made.step(2, batch(1))], len(made._loops._made)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.GRU(2),
        lambda: keras.layers.Bidirectional(keras.layers.LSTM(2)),
        lambda: keras.layers.RNN([keras.layers.SimpleRNNCell(2), keras.layers.GRUCell(2)]),
    ],
)
def test_a_graph_computes_what_the_steps_do_one_by_one(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, made = steps(layer, 1.5)
    monkeypatch.setattr(time_loops, "LEAST", STEPS + 1)
    plain, none = steps(layer, 1.5)
    assert made >= 2  # in training and in inference
    assert none == 0
    for graph, record in zip(graphs, plain, strict=True):
        for part in PARTS:
            for name, value in getattr(record, part).items():
                assert np.abs(getattr(graph, part)[name] - value).max() <= 1e-13 * np.abs(value).max()
    assert not np.allclose(graphs[1].outputs["output"], steps(layer)[0][1].outputs["output"])  # the scale is seen


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.RNN(OwnCell(2)),
        lambda: keras.layers.GRU(2, activation=lambda x: x),
        lambda: keras.layers.GRU(2, recurrent_dropout=0.5),
        lambda: keras.layers.GRU(2, dtype="float32"),
        lambda: keras.layers.GRU(2, unroll=True),
    ],
)
def test_code_of_the_user_and_what_draws_stays_as_it_is(layer: Any) -> None:
    assert steps(layer)[1] == 0


def test_a_weight_that_is_computed_anew_is_no_constant_of_a_graph() -> None:
    class Normed(keras.layers.GRU):
        def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
            kernel: Any = self.cell.kernel
            vars(self.cell)["kernel"] = kernel / keras.ops.norm(kernel)
            try:
                return super().call(sequences, initial_state, mask=mask, training=training)
            finally:
                vars(self.cell)["kernel"] = kernel

    assert steps(lambda: Normed(2))[1] == 0
