"""Keras layers written with TensorFlow's own functions: nothing is refused in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn
from torch.nn import functional as F

import xcheck
from xcheck.frameworks.keras.patches.precision import float64_throughout
from xcheck.frameworks.keras.patches.tf_operations import seed_all
from xcheck.records.islands import NO_FLOAT64, Islands
from xcheck.records.result import Verdict

FACTORS = [0.1, 0.2, 0.3, 0.4, 0.7]


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((4, 5)))


class Own(nn.Module):
    def __init__(self, of: Any) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Any) -> Any:
        return self.of(x)


def checked(in_torch: Any, in_keras: Any, *, steps: int = 1, of: Any = batches) -> xcheck.Result:
    class Layer(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return in_keras(x)

    def torch_model() -> Any:
        return nn.Sequential(nn.Linear(5, 5), Own(in_torch))

    def keras_model() -> Any:
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), Layer()])

    pair = xcheck.Pair("own", xcheck.TorchSide(torch_model), xcheck.KerasSide(keras_model), of)
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0)


def mixed(x: Any) -> Any:
    made = tf.multiply(x, tf.constant(FACTORS)) + tf.ones((5,)) * 0.3 + tf.linspace(0.0, 1.0, 5)
    return made / tf.sqrt(tf.cast(tf.shape(x)[-1], tf.float32)) * tf.constant(0.1, tf.float32)


def mixed_torch(x: Any) -> Any:
    return (x * torch.tensor(FACTORS) + 0.3 + torch.linspace(0, 1, 5)) / 5**0.5 * 0.1


def masked(x: Any) -> Any:
    variable: Any = tf.Variable
    slope = variable(0.3)
    kept = tf.where(x > 0, x, tf.zeros((5,))) + tf.one_hot(tf.argmax(x, -1), 5) * slope
    return tf.concat([kept[:, :3], tf.fill((tf.shape(x)[0], 2), 0.7)], 1)


def masked_torch(x: Any) -> Any:
    kept = x.relu() + F.one_hot(x.argmax(-1), 5) * 0.3
    return torch.cat([kept[:, :3], torch.full((x.shape[0], 2), 0.7)], 1)


def noisy(x: Any) -> Any:
    drawn = tf.random.normal(tf.shape(x)) + tf.random.uniform((5,), dtype=tf.float32)
    return x + tf.nn.bias_add(0.0 * drawn, tf.constant(FACTORS)) + tf.einsum("bi,ij->bj", x, tf.eye(5))


def noisy_torch(x: Any) -> Any:
    return 2 * x + torch.tensor(FACTORS)


@pytest.mark.parametrize(("ours", "theirs"), [(mixed_torch, mixed), (masked_torch, masked), (noisy_torch, noisy)])
def test_tensors_of_float32_are_no_obstacle_in_float64(ours: Any, theirs: Any) -> None:
    result = checked(ours, theirs)
    assert result.verdict is Verdict.EQUIVALENT
    assert not result.causes


def test_a_constant_that_is_off_by_what_float32_hardly_holds_is_found() -> None:
    result = checked(lambda x: x * 0.1, lambda x: x * tf.constant(0.1000000001))
    assert result.verdict is Verdict.DIFFERENT
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"


def test_the_number_of_a_table_of_float32_is_named_as_such() -> None:
    table = np.array(FACTORS, np.float32)
    result = checked(lambda x: x + torch.tensor(FACTORS), lambda x: tf.add(x, tf.constant(table)))
    assert result.verdict is Verdict.EQUIVALENT
    assert [cause.id for cause in result.causes] == ["float32_constant"]


def needs_grouped_gradients() -> None:
    """TensorFlow has them on CPUs that oneDNN is switched on for, and nowhere else without a GPU."""
    kernel, x = tf.ones((3, 2, 4)), tf.ones((2, 6, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.nn.conv1d(x, kernel, 1, "VALID")
    try:
        tape.gradient(y, x)
    except tf.errors.InvalidArgumentError:
        pytest.skip("TensorFlow has no gradient of a grouped convolution on this CPU, in no float type")


def grouped(shift: float) -> xcheck.Result:
    needs_grouped_gradients()

    class Grouped(keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.kernel = self.add_weight(shape=(3, 2, 4), name="kernel")

        def call(self, x: Any) -> Any:
            return tf.nn.conv1d(x * (1 + shift), self.kernel, 1, "VALID")

    def in_keras() -> Any:
        return keras.Sequential([keras.Input((6, 3)), keras.layers.Conv1D(4, 1), Grouped()])

    def in_torch() -> Any:
        return nn.Sequential(nn.Conv1d(3, 4, 1), nn.Conv1d(4, 4, 3, groups=2, bias=False))

    def signals(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((2, 6, 3)))

    def turned(batch: xcheck.Batch) -> Any:
        return np.moveaxis(np.asarray(batch.inputs), -1, 1), None

    side = xcheck.TorchSide(in_torch, prepare=turned, outputs=lambda y: y.transpose(1, 2))
    pair = xcheck.Pair("grouped", side, xcheck.KerasSide(in_keras), signals)
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=1)


def test_an_operation_without_a_gradient_in_float64_is_run_in_float32_and_named() -> None:
    result = grouped(0.0)
    assert result.verdict is Verdict.EQUIVALENT
    assert [cause.id for cause in result.causes] == ["float32_operation"]
    assert "Conv2DBackprop" in str(result.causes[0].keras)
    assert any("no free run was made" in note for note in result.notes)
    forward = [c for c in result.checks if c.phase == "forward"]
    assert all(c.error is not None and c.error < 1e-13 for c in forward)


def test_what_such_an_operation_cannot_explain_is_different() -> None:
    result = grouped(1e-9)
    assert result.verdict is Verdict.DIFFERENT
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"


@pytest.mark.parametrize("by", ["keras", "tensorflow"])
def test_ctc_is_taken_in_float64(by: str) -> None:
    def loss(targets: Any, outputs: Any) -> Any:
        if by == "keras":
            return keras.losses.CTC()(targets, outputs)
        sizes = {"label_length": tf.fill([2], 3), "logit_length": tf.fill([2], 7)}
        labels = tf.cast(targets, tf.int32)
        return tf.nn.ctc_loss(labels, outputs, **sizes, blank_index=0, logits_time_major=False)

    def torch_loss(outputs: Any, targets: Any) -> Any:
        sizes = torch.full((2,), 7), torch.full((2,), 3)
        return F.ctc_loss(outputs.log_softmax(-1).transpose(0, 1), targets, *sizes, reduction="none").mean()

    def sequences(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((2, 7, 5)), rng.integers(1, 4, (2, 3)))

    def sgd(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.1)

    sides = (
        xcheck.TorchSide(lambda: nn.Linear(5, 4), loss=torch_loss, optimizer=sgd),
        xcheck.KerasSide(
            lambda: keras.Sequential([keras.Input((7, 5)), keras.layers.Dense(4)]),
            loss=loss,
            optimizer=lambda: keras.optimizers.SGD(0.1),
        ),
    )
    result = xcheck.check(xcheck.Pair("ctc", *sides, sequences), steps=1, precision=("float64",), free_steps=0)
    assert result.verdict is Verdict.EQUIVALENT


def test_a_variable_that_keras_does_not_track_is_named() -> None:
    class Scaled(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(tf.ones(5) * 0.3, name="scale")

        def call(self, x: Any) -> Any:
            return x * self.scale

    def in_keras() -> Any:
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), Scaled()])

    def in_torch() -> Any:
        return nn.Sequential(nn.Linear(5, 5), Own(lambda x: x * 0.3))

    pair = xcheck.Pair("scaled", xcheck.TorchSide(in_torch), xcheck.KerasSide(in_keras), batches)
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0)
    assert result.verdict is Verdict.EQUIVALENT
    named = [note for note in result.notes if "neither trained nor saved" in note]
    assert len(named) == 1
    assert "scale (scaled)" in named[0]


def test_whole_numbers_keep_the_width_that_they_ship_with() -> None:
    ops: Any = keras.ops

    def widths() -> list[str]:
        made = (ops.arange(3), ops.add(ops.arange(3), 1), ops.multiply(ops.cast([1], "int32"), 2))
        return [keras.backend.standardize_dtype(tensor.dtype) for tensor in made]

    shipped = widths()
    with float64_throughout():
        assert widths() == shipped
        assert keras.backend.standardize_dtype(ops.add(0.5, 1).dtype) == "float64"
    assert widths() == shipped


@pytest.mark.parametrize("draw", [lambda x: tf.random.shuffle(x, seed=3), lambda x: x + tf.random.normal([5], seed=3)])
def test_a_seed_makes_an_operation_with_a_random_state_draw_anew(draw: Any) -> None:
    x, drew = tf.reshape(tf.range(20.0), (4, 5)), list[Any]()
    for _ in range(3):
        with float64_throughout(Islands(lambda _: None)):
            seed_all(7, "float64")
            drew.append(np.asarray(draw(x)))
    assert np.array_equal(drew[0], drew[1])
    assert np.array_equal(drew[1], drew[2])


def test_tensorflow_is_itself_again_afterwards_and_a_failure_stays_the_users() -> None:
    islands = Islands(lambda _: None)
    with float64_throughout(islands), pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size"):
        tf.matmul(tf.ones((2, 3)), tf.ones((2, 3)))
    assert not any(NO_FLOAT64 in place for place in islands.places())
    assert tf.constant(0.5).dtype == tf.float32
    assert tf.random.normal((1,)).dtype == tf.float32
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.multiply(tf.ones(1), tf.ones(1, tf.float64))
