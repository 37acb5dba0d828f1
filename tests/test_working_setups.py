"""What works outside of xcheck works in it: however a step takes its data, calls its model and keeps its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

import xcheck

ops: Any = keras.ops
layers = keras.layers


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 4)), rng.standard_normal((8, 2)))


def torch_loss(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((made - target) ** 2).mean()


def torch_mlp(*middle: nn.Module) -> Any:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), *middle, nn.Linear(5, 2))


def keras_mlp(*middle: Any, kind: type = keras.Sequential) -> Any:
    return kind([keras.Input((4,)), layers.Dense(5, activation="tanh"), *middle, layers.Dense(2)])


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1)


def checked(torch_side: Any = None, keras_side: Any = None, steps: int = 2, reach: Any = "none") -> xcheck.Result:
    """A run of two setups that mean the same, each with what is its own."""
    left = {"build": torch_mlp, "optimizer": sgd, **(torch_side or {})}
    right = {"build": keras_mlp, "optimizer": lambda: keras.optimizers.SGD(0.1), **(keras_side or {})}
    if "step" not in left:
        left["loss"] = torch_loss
    right.setdefault("loss", "mean_squared_error")
    pair = xcheck.Pair("works", xcheck.TorchSide(**left), xcheck.KerasSide(**right), batches)
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0, reach=reach)


def confirmed(result: xcheck.Result) -> list[str]:
    return [cause.id for cause in result.causes if cause.confirmed]


# How a step is handed its data --------------------------------------------------------------------------------------


def trained(model: Any, x: Any, y: Any, rate: float = 1.0) -> dict[str, Any]:
    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(x, training=True) - y))
    gradients = [rate * g for g in tape.gradient(loss, model.trainable_variables)]
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return {"loss": loss}


class TakesTwo(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        x, y = data
        return trained(self, x, y)


class TakesThree(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        x, y, _ = data
        return trained(self, x, y)


class TakesTwoOtherwise(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        (x, y) = data
        return trained(self, x, y, rate=1.01)


@pytest.mark.parametrize(
    ("kind", "verdict"), [(TakesTwo, "EQUIVALENT"), (TakesThree, "EQUIVALENT"), (TakesTwoOtherwise, "DIFFERENT")]
)
def test_a_step_takes_its_data_as_fit_or_as_train_on_batch_hands_it_over(kind: type, verdict: str) -> None:
    result = checked(keras_side={"build": lambda: keras_mlp(kind=kind), "loss": None})
    assert result.verdict == verdict, result.report()


def test_a_step_without_targets_takes_the_inputs_alone() -> None:
    class Takes(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return trained(self, data, 0.0)

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(batch.inputs) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    inputs: dict[str, Any] = {"prepare": lambda b: (b.inputs, None)}
    right = {"build": lambda: keras_mlp(kind=Takes), "loss": None, **inputs}
    result = checked({"step": step, **inputs}, right)
    assert result.verdict == "EQUIVALENT", result.report()


def test_a_step_that_fails_in_both_forms_says_what_it_raised() -> None:
    class Fails(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            x, y = data
            raise ValueError(f"no {len(x)} of {len(y)} today")

    with pytest.raises(xcheck.errors.UserCodeError, match="no 8 of 8 today"):
        checked(keras_side={"build": lambda: keras_mlp(kind=Fails), "loss": None})


# How a step calls its model -----------------------------------------------------------------------------------------


def by_parts(factor: float = 1.0) -> Callable[[], Any]:
    """A model of which the step calls a part and never the whole."""

    class Outer(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = keras_mlp()

        def call(self, x: Any) -> Any:
            return self.net(x)

        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                loss = factor * ops.mean(ops.square(self.net(x, training=True) - y))
            gradients = tape.gradient(loss, self.net.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.net.trainable_variables, strict=True))
            return {"loss": loss}

    return Outer


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_step_may_call_a_part_of_its_model(factor: float) -> None:
    result = checked(keras_side={"build": by_parts(factor), "loss": None})
    assert result.verdict == ("EQUIVALENT" if factor == 1.0 else "DIFFERENT"), result.report()
    assert any("calls the whole model in torch 1 times, keras 0 times" in note for note in result.notes)
    assert factor == 1.0 or result.first_divergence.phase == "loss"


def in_chunks(share: float) -> Callable[..., Any]:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        total: Any = 0.0
        for x, y in zip(batch.inputs.chunk(4), batch.targets.chunk(4), strict=True):
            loss = torch_loss(model(x), y)
            (share * loss).backward()
            total = total + loss.detach() / 4
        optimizer.step()
        return total

    return step


def test_a_batch_in_four_chunks_is_not_asked_about_one_that_makes_fewer() -> None:
    result = checked({"step": in_chunks(1 / 4)}, reach="default")
    assert result.verdict == "EQUIVALENT", result.report()
    assert any("the torch step calls its model 1 times there, and 4 times on a given batch" in n for n in result.notes)


def test_chunks_that_are_added_up_are_no_mean_that_the_other_side_takes() -> None:
    result = checked({"step": in_chunks(1.0)}, steps=1)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "gradient"
    assert confirmed(result) == []


def test_gradients_that_both_sides_add_up_over_steps_are_not_compared() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        loss = torch_loss(model(batch.inputs), batch.targets)
        (loss / 2).backward()
        optimizer.count = getattr(optimizer, "count", 0) + 1
        if optimizer.count % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    result = checked(
        {"step": step}, {"optimizer": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)}, steps=1
    )
    assert result.verdict == "INCONCLUSIVE", result.report()
    open_ = {c.phase for c in result.checks if "gradient_accumulation_steps" in c.detail}
    assert open_ == {"gradient", "update"}


# What a model keeps -------------------------------------------------------------------------------------------------


class TorchMemory(nn.Module):
    """Adds what it made of the last batch, which it keeps in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(4, 5), nn.Linear(5, 2), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.a(x).tanh()
        before = self.last[-1] if self.last else torch.zeros_like(made)
        self.last.append(made.detach())
        del self.last[:-1]
        return self.b(made + 0.5 * before)


class TorchAttribute(TorchMemory):
    """Likewise, in an attribute that is replaced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.a(x).tanh()
        before = self.last if torch.is_tensor(self.last) else torch.zeros_like(made)
        self.last = made.detach()
        return self.b(made + 0.5 * before)


def keras_memory(share: float, late: bool) -> Any:
    class Memory(layers.Layer):
        def build(self, shape: Any) -> None:
            self.last = self.add_weight(shape=(8, 5), initializer="zeros", trainable=False, name="last")

        def call(self, x: Any) -> Any:
            before = self.last + 0.0
            self.last.assign(ops.stop_gradient(x))
            return x + share * before

    first = [] if late else [keras.Input((4,))]
    return keras.Sequential([*first, layers.Dense(5, activation="tanh"), Memory(), layers.Dense(2)])


@pytest.mark.parametrize(("kind", "late"), [(TorchMemory, True), (TorchAttribute, False), (TorchAttribute, True)])
def test_what_a_model_keeps_in_attributes_is_left_by_no_pass_but_a_training_step(kind: Any, late: bool) -> None:
    same = checked({"build": kind}, {"build": lambda: keras_memory(0.5, late)})
    # Nothing says which buffer the attribute is, and no step differs.
    assert [c.name for c in same.checks if c.verdict == "DIFFERENT"] == [], same.report()
    assert same.verdict == "INCONCLUSIVE"
    assert any("a state that training changes has no counterpart" in note for note in same.notes)


def test_a_memory_that_is_read_otherwise_is_different_from_the_second_step() -> None:
    other = checked({"build": TorchMemory}, {"build": lambda: keras_memory(0.4, late=True)})
    assert other.verdict == "DIFFERENT"
    assert (other.first_divergence.phase, other.first_divergence.step) == ("forward", 2)


class TorchQueue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)
        self.register_buffer("queue", torch.zeros(16, 5))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made, before = self.a(x).tanh(), self.queue.mean(0)
        if self.training:
            at = int(self.at)
            self.queue[at : at + len(made)] = made.detach()
            self.at[0] = (at + len(made)) % 16
        return self.b(made + before)


def keras_queue(by: int) -> Any:
    class Queue(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(5, activation="tanh"), layers.Dense(2)
            self.queue = self.add_weight(shape=(16, 5), initializer="zeros", trainable=False, name="queue")
            self.at = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="at")

        def call(self, x: Any, training: bool = False) -> Any:
            made, before = self.a(x), ops.mean(self.queue, axis=0)
            if training:
                self.queue.assign(ops.slice_update(self.queue, (self.at + 0, 0), ops.stop_gradient(made)))
                self.at.assign((self.at + by) % 16)
            return self.b(made + before)

    return Queue()


@pytest.mark.parametrize(("by", "verdict"), [(8, "EQUIVALENT"), (4, "DIFFERENT")])
def test_a_place_in_a_queue_is_a_state_like_any_other(by: int, verdict: str) -> None:
    result = checked({"build": TorchQueue}, {"build": lambda: keras_queue(by)})
    assert result.verdict == verdict, result.report()


# What is drawn by hand ----------------------------------------------------------------------------------------------


class Rand(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand_like(x) >= 0.2) / 0.8 if self.training else x


class Bernoulli(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.bernoulli(torch.full_like(x, 0.8)) / 0.8 if self.training else x


class Uniform(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool = False) -> Any:
        drawn: Any = keras.random.uniform(ops.shape(x), seed=self.seed)
        return x * ops.cast(drawn >= 0.2, x.dtype) / 0.8 if training else x


@pytest.mark.parametrize(
    ("of_torch", "of_keras"),
    [
        (Rand, lambda: layers.Dropout(0.2)),
        (Bernoulli, lambda: layers.Dropout(0.2)),
        (lambda: nn.Dropout(0.2), Uniform),
    ],
)
def test_dropout_by_hand_on_one_side_is_dropout(of_torch: Any, of_keras: Any) -> None:
    left, right = {"build": lambda: torch_mlp(of_torch())}, {"build": lambda: keras_mlp(of_keras())}
    result = checked(left, right, steps=1)
    assert result.verdict == "INCONCLUSIVE", result.report()
    assert confirmed(result) == []
    assert any("dropout at a rate of 0.2" in c.detail for c in result.checks)


def test_dropout_by_hand_beside_that_of_both_sides_is_drawn_by_one_side_alone() -> None:
    left = {"build": lambda: torch_mlp(nn.Dropout(0.2), Rand())}
    right = {"build": lambda: keras_mlp(layers.Dropout(0.2))}
    result = checked(left, right, steps=1)
    assert result.verdict == "DIFFERENT"
    assert confirmed(result) == ["random_layer"]


# How numbers and code are held --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_lazy_sign_of_a_tensor_is_read(sign: float) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft(x).conj().imag

    class KerasSpectrum(layers.Layer):
        def call(self, x: Any) -> Any:
            return sign * ops.rfft(x)[1]

    def build() -> Any:
        return keras.Sequential([keras.Input((4,)), layers.Dense(4), KerasSpectrum(), layers.Dense(2)])

    left = {"build": lambda: nn.Sequential(nn.Linear(4, 4), Spectrum(), nn.Linear(3, 2))}
    result = checked(left, {"build": build}, steps=1)
    assert result.verdict == ("EQUIVALENT" if sign < 0 else "DIFFERENT"), result.report()


@pytest.mark.parametrize("slope", [0.1, 0.2])
def test_a_model_that_its_build_compiles_is_run_as_it_was_written(slope: float) -> None:
    left = {"build": lambda: torch.compile(torch_mlp(nn.LeakyReLU(0.1)), backend="eager")}
    right = {"build": lambda: keras_mlp(layers.LeakyReLU(negative_slope=slope))}
    result = checked(left, right, steps=1)
    assert result.verdict == ("EQUIVALENT" if slope == 0.1 else "DIFFERENT"), result.report()
    assert slope == 0.1 or "activation" in confirmed(result)


def test_a_factor_that_one_side_trains_is_no_constant_of_the_other() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.tensor(1.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.by

    class Untracked(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.by = tf.Variable(1.5)

        def call(self, x: Any) -> Any:
            return x * tf.cast(self.by, x.dtype)

    result = checked({"build": lambda: torch_mlp(Scale())}, {"build": lambda: keras_mlp(Untracked())})
    assert result.verdict == "DIFFERENT", result.report()
    assert confirmed(result) == []
    assert any("2.by has no counterpart" in cause.summary for cause in result.causes)
