"""A side must agree with itself: eager, compiled, and by the path users ship."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ports import mlp

import xcheck
from xcheck.frameworks.torch.runner import TorchRunner
from xcheck.phases import AVAILABLE
from xcheck.phases.begin import begin

MODES = {"phases": ("modes",), "steps": 2, "precision": ("float64",)}


@pytest.fixture
def _keras_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling with PyTorch takes half a minute; one test does it."""
    monkeypatch.setattr(TorchRunner, "modes", lambda self: ())


def keras_with(layer: Any) -> xcheck.Pair:
    def build() -> Any:
        import keras

        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="head"), layer()])

    def build_torch() -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(6, 3))

    weight_map = {"0.weight": "sequential/head/kernel", "0.bias": "sequential/head/bias"}
    return mlp(torch={"build": build_torch}, keras={"build": build}, weight_map=weight_map)


@pytest.mark.usefixtures("_keras_alone")
def test_a_model_agrees_with_itself_in_every_mode() -> None:
    result = xcheck.check(mlp(), **MODES)
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.name.partition(":")[0] for c in result.checks} == {"keras graph", "keras xla", "keras fit"}
    assert all(c.error is not None for c in result.checks)


@pytest.mark.usefixtures("_keras_alone")
def test_the_averages_that_fit_leaves_in_the_weights_at_its_end_are_no_difference_of_a_step() -> None:
    def torch_optimizer(parameters: Any) -> Any:
        import torch

        return torch.optim.SGD(parameters, lr=0.1)

    def keras_optimizer() -> Any:
        import keras

        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)

    pair = mlp(torch={"optimizer": torch_optimizer}, keras={"optimizer": keras_optimizer})
    result = xcheck.check(pair, **MODES)
    assert result.verdict == "EQUIVALENT", result.report()


@pytest.mark.usefixtures("_keras_alone")
def test_a_layer_that_does_something_else_when_traced_is_named_with_its_mode() -> None:
    def layer() -> Any:
        import keras
        import tensorflow as tf

        class Fickle(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x if tf.executing_eagerly() else x * (1 + 1e-6)

        return Fickle()

    result = xcheck.check(keras_with(layer), **MODES)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.name) == ("modes", "keras graph: total loss")


BOTH = {**MODES, "precision": ("float64", "float32"), "free_steps": 0}


@pytest.mark.usefixtures("_keras_alone")
def test_modes_are_compared_in_float32_too_where_they_agree_in_float64() -> None:
    result = xcheck.check(mlp(), **BOTH)
    assert result.verdict == "EQUIVALENT", result.report()
    names = {(c.precision, c.name.partition(":")[0]) for c in result.checks}
    assert names == {(p, f"keras {mode}") for p in ("float64", "float32") for mode in ("graph", "xla", "fit")}
    assert all(c.error is not None for c in result.checks)


@pytest.mark.usefixtures("_keras_alone")
def test_a_mode_that_loses_precision_is_numeric_and_named() -> None:
    """In float64 the cast is kept in float64, so that only float32 shows it."""

    def layer() -> Any:
        import keras
        import tensorflow as tf

        class Fickle(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x if tf.executing_eagerly() else tf.cast(tf.cast(x, "bfloat16"), x.dtype)

        return Fickle()

    result = xcheck.check(keras_with(layer), **BOTH)
    assert result.verdict == "NUMERIC", result.report()
    wrong = {c.name for c in result.checks if c.verdict == "NUMERIC"}
    assert {"keras graph: total loss", "keras fit: total loss"} <= wrong
    assert all(c.precision == "float32" and c.phase == "modes" for c in result.checks if c.verdict == "NUMERIC")


@pytest.mark.usefixtures("_keras_alone")
def test_modes_that_part_in_float64_are_not_run_in_float32() -> None:
    def layer() -> Any:
        import keras
        import tensorflow as tf

        class Fickle(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x if tf.executing_eagerly() else x * (1 + 1e-6)

        return Fickle()

    result = xcheck.check(keras_with(layer), **BOTH)
    assert result.verdict == "DIFFERENT"
    assert {c.precision for c in result.checks} == {"float64"}


@pytest.mark.usefixtures("_keras_alone")
def test_a_mode_that_does_not_run_is_inconclusive_and_the_others_go_on() -> None:
    def layer() -> Any:
        import keras
        import tensorflow as tf

        class EagerOnly(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                if not tf.executing_eagerly() and not isinstance(x, keras.KerasTensor) and x.shape[0] is not None:
                    raise RuntimeError("no graphs here")
                return x

        return EagerOnly()

    result = xcheck.check(keras_with(layer), **MODES)
    stopped = [c for c in result.checks if c.verdict == "INCONCLUSIVE"]
    assert {c.name for c in stopped} >= {"keras graph"}
    assert all("no graphs here" in c.detail for c in stopped)
    assert result.verdict == "INCONCLUSIVE"


@pytest.mark.slow
def test_a_compiled_torch_model_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from xcheck.frameworks.keras.runner import KerasRunner

    monkeypatch.setattr(KerasRunner, "modes", lambda self: ())
    result = xcheck.check(mlp(), **{**MODES, "steps": 1})
    names = {c.name.partition(":")[0] for c in result.checks}
    assert names == {"torch compiled"}
    assert result.verdict in ("EQUIVALENT", "INCONCLUSIVE"), result.report()
    if result.verdict == "INCONCLUSIVE":
        pytest.skip(f"torch.compile does not run here: {result.checks[0].detail:.200}")


@pytest.mark.slow
def test_dropout_that_a_compiled_torch_model_keeps_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    from torch import nn

    from xcheck.frameworks.keras.runner import KerasRunner

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(3, 1, dropout=0.3, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            x = x.reshape(-1, 2, 3)
            return self.head(self.attention(x, x, x, need_weights=False)[0].flatten(1))

    def build() -> Any:
        given = keras.Input((6,))
        x = keras.layers.Reshape((2, 3))(given)
        x = keras.layers.MultiHeadAttention(1, 3, dropout=0.3)(x, x)
        return keras.Model(given, keras.layers.Dense(3)(keras.layers.Reshape((6,))(x)))

    monkeypatch.setattr(KerasRunner, "modes", lambda self: ())
    pair = mlp(torch={"build": Attention}, keras={"build": build}, weight_map=None)
    result = xcheck.check(pair, **{**MODES, "steps": 1})
    assert [c.verdict.value for c in result.checks if c.name == "torch compiled"] == ["INCONCLUSIVE"], result.report()


def test_modes_run_only_where_they_are_asked_for() -> None:
    assert "modes" not in begin(mlp(), 0, 1, None).phases
    assert begin(mlp(), 0, 1, None).complete
    assert not begin(mlp(), 0, 1, ("modes",)).complete


def test_a_pair_may_ask_for_a_phase_on_request_for_each_of_its_runs() -> None:
    """`also` adds to the usual phases and leaves an explicit choice alone."""
    asking = replace(mlp(), also=("modes",))
    assert "modes" in begin(asking, 0, 1, None).phases
    assert begin(asking, 0, 1, ("forward",)).phases == ("forward",)
    assert begin(mlp(), 0, 1, ["all"]).phases == AVAILABLE


@pytest.mark.usefixtures("_keras_alone")
def test_a_pair_without_a_loss_runs_in_every_mode() -> None:
    """The fixed projection that stands in for the loss is compiled with the step."""
    pair = mlp(torch={"loss": None, "optimizer": None}, keras={"loss": None, "optimizer": None})
    result = xcheck.check(pair, **MODES)
    assert result.verdict == "EQUIVALENT", result.report()
    assert any(c.name == "keras graph: total loss" and c.error is not None for c in result.checks)
