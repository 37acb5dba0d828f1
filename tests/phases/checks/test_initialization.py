"""Each side starts as its initializers promise, before anything is set from the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import plain
from ports import mlp

import xcheck
from xcheck.frameworks.keras.initializers import promised
from xcheck.matching import MatchPlan
from xcheck.phases.checks.initialization import transferred
from xcheck.records.trace import State


@pytest.mark.parametrize(
    "initializer",
    [
        "glorot_uniform",
        "glorot_normal",
        "he_normal",
        "he_uniform",
        "lecun_normal",
        "zeros",
        "ones",
        "random_normal",
        "random_uniform",
        "truncated_normal",
    ],
)
def test_keras_keeps_what_it_promises(initializer: str) -> None:
    import keras

    made = keras.initializers.get(initializer)
    for shape in ((300, 100), (3, 3, 40, 50)):
        promise = promised(made, shape)
        assert promise is not None
        values = np.asarray(keras.ops.convert_to_numpy(made(shape)))
        from xcheck.numerics.distributions import distance_bound

        bound = 0.0 if promise.kind == "constant" else distance_bound(values.size, 1e-6)
        assert promise.distance(values) <= bound
        assert promise.distance(values * 1.1 + 0.02) > bound


def test_the_axes_of_an_einsum_decide_its_fans() -> None:
    import keras

    from xcheck.frameworks.keras.initializers import promises
    from xcheck.numerics.distributions import distance_bound

    x = keras.Input((5, 60))
    model = keras.Model(x, keras.layers.MultiHeadAttention(4, 15, name="attention")(x, x))
    kernels = {v.path: np.asarray(v.value) for v in model.variables if v.name == "kernel"}
    for path, values in kernels.items():
        promise, bound = promises(model)[path], distance_bound(values.size, 1e-6)
        assert promise.distance(values) <= bound
        assert promise.distance(values * 1.2) > bound
    assert len(kernels) == 4


def test_an_initializer_that_is_not_known_promises_nothing() -> None:
    import keras

    assert promised(keras.initializers.Orthogonal(), (30, 30)) is None


def test_the_bias_of_an_lstm_promises_nothing_since_its_forget_gate_starts_at_one() -> None:
    import keras

    from xcheck.frameworks.keras.initializers import promises

    for forget in (True, False):
        lstm = keras.layers.LSTM(20, unit_forget_bias=forget, name="r")
        model = keras.Sequential([keras.Input((3, 4)), lstm], name="m")
        assert ("m/r/lstm_cell/bias" in promises(model)) is not forget


def test_an_initializer_that_does_not_do_what_it_says_is_different_in_this_phase() -> None:
    def build() -> Any:
        import keras

        class Shy(keras.initializers.HeNormal):
            def __call__(self, shape: Any, dtype: Any = None) -> Any:
                return 0.5 * super().__call__(shape, dtype)

        wide = keras.layers.Dense(400, kernel_initializer=Shy(), name="hidden")
        return keras.Sequential([keras.Input((6,)), wide, keras.layers.Dense(3, name="head")])

    def build_torch() -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(6, 400), nn.Identity(), nn.Linear(400, 3))

    pair = mlp(torch={"build": build_torch}, keras={"build": build})
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0)
    wrong = [c for c in result.checks if c.verdict != "EQUIVALENT"]
    assert [(c.phase, c.keras) for c in wrong] == [("initialization", "sequential/hidden/kernel")]
    assert result.verdict == "DIFFERENT"


def test_statistics_of_a_batchnorm_start_as_promised() -> None:
    def build() -> Any:
        import keras

        hidden, norm = keras.layers.Dense(8, name="hidden"), keras.layers.BatchNormalization(name="norm")
        return keras.Sequential([keras.Input((6,)), hidden, norm, keras.layers.Dense(3, name="head")])

    def build_torch() -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    names = {"0": "hidden", "2": "head"}
    weight_map = {f"{t}.{a}": f"sequential/{k}/{b}" for t, k in names.items() for a, b in ROLES}
    weight_map |= {"1.weight": "sequential/norm/gamma", "1.bias": "sequential/norm/beta"}
    pair = mlp(torch={"build": build_torch}, keras={"build": build}, weight_map=weight_map)
    result = xcheck.check(pair, steps=1, phases=("initialization",), precision=("float64",))
    assert {"sequential/norm/moving_mean", "sequential/norm/moving_variance"} <= {c.keras for c in result.checks}
    assert result.verdict == "EQUIVALENT", result.report()


ROLES = (("weight", "kernel"), ("bias", "bias"))


DRAWN = np.random.default_rng(0).standard_normal(5)


@pytest.mark.parametrize(
    ("there", "same"),
    [
        (DRAWN, True),
        (DRAWN.astype(np.float32).astype(np.float64), True),
        (DRAWN * (1 + 1e-6), False),
        (DRAWN[::-1], False),
        (DRAWN * np.nan, False),
    ],
)
def test_only_the_same_numbers_were_carried_over(there: np.ndarray, same: bool) -> None:
    plan = MatchPlan("torch", (plain("w", "k", (5,)),))
    found = transferred(plan, State({"w": DRAWN}), State({"k": there}))
    assert found == (frozenset({"w", "k"}) if same else frozenset())


def test_equal_constants_were_not_carried_over() -> None:
    plan = MatchPlan("torch", (plain("w", "k", (5,)),))
    assert transferred(plan, State({"w": np.zeros(5)}), State({"k": np.zeros(5)})) == frozenset()


def test_a_run_says_what_was_carried_over() -> None:
    import keras
    import torch

    kernel = np.random.default_rng(1).standard_normal((6, 5))

    def build() -> Any:
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="d")])
        model.layers[0].kernel.assign(kernel)
        return model

    def build_torch() -> Any:
        module = torch.nn.Linear(6, 5)
        with torch.no_grad():
            module.weight.copy_(torch.as_tensor(kernel.T))
        return module

    def batches(seed: int) -> Any:
        while True:
            yield xcheck.Batch(np.random.default_rng(seed).standard_normal((4, 6)))

    def notes(torch_side: Any) -> list[str]:
        pair = xcheck.Pair("carried", xcheck.TorchSide(torch_side), xcheck.KerasSide(build), batches)
        result = xcheck.check(pair, steps=1, phases=("initialization",), precision=("float64",))
        return [note for note in result.notes if "copied" in note]

    (said,) = notes(build_torch)
    assert said.startswith("1 parameters start from the same numbers")
    assert notes(lambda: torch.nn.Linear(6, 5)) == []
