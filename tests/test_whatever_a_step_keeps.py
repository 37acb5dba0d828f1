"""Whatever a step keeps, wherever it keeps it, is put back; averages are found by what they do."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xcheck

QUICK: dict[str, Any] = {"steps": 3, "precision": ("float64",), "free_steps": 0}


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 4)), rng.standard_normal((8, 2)))


def torch_net() -> Any:
    from torch import nn

    return nn.Linear(4, 2)


def keras_net() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])


def keras_sgd(rate: Any = 0.1, **options: Any) -> Callable[[], Any]:
    def optimizer() -> Any:
        import keras

        return keras.optimizers.SGD(rate() if callable(rate) else rate, **options)

    return optimizer


def torch_sgd(parameters: Any) -> Any:
    import torch

    return torch.optim.SGD(parameters, lr=0.1)


def train(model: Any, optimizer: Any, batch: Any, extra: Callable[[Any], Any] = lambda _: 0.0) -> Any:
    import torch

    optimizer.zero_grad()
    output = model(batch.inputs)
    loss = torch.nn.functional.mse_loss(output, batch.targets) + extra(output)
    loss.backward()
    optimizer.step()
    return loss


def keras_with(after: Callable[[Any], None], extra: Callable[[Any, Any, Any], Any] = lambda *_: 0.0) -> Any:
    """A Keras model whose own training step ends with a function, and adds a term to the loss."""
    import keras
    import tensorflow as tf

    class Net(keras.Model):
        taken = 0

        def train_step(self, data: Any) -> Any:
            x, y = data[:2]
            with tf.GradientTape() as tape:
                output = self(x, training=True)
                loss = keras.ops.mean(keras.ops.square(output - y)) + extra(self, x, output)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            after(self)
            return {"loss": loss}

    inputs = keras.Input((4,))
    return Net(inputs, keras.layers.Dense(2, name="head")(inputs))


def check(step: Any, keras_optimizer: Any, build: Any = keras_net, options: Any = None) -> xcheck.Result:
    sides = (
        xcheck.TorchSide(torch_net, step=step, optimizer=torch_sgd),
        xcheck.KerasSide(build, loss="mean_squared_error", optimizer=keras_optimizer),
    )
    return xcheck.check(xcheck.Pair("keeps", *sides, batches), **QUICK | (options or {}))


def different_at(result: xcheck.Result) -> set[tuple[str, int, str]]:
    return {(c.phase, c.step or 0, c.torch or c.name) for c in result.checks if c.verdict == "DIFFERENT"}


def confirmed(result: xcheck.Result) -> list[str]:
    return [cause.id for cause in result.causes if cause.confirmed]


# Numbers that a step counts -------------------------------------------------------------------------------------------


def harmonic() -> Any:
    import keras

    class Harmonic(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.1 / (keras.ops.cast(step, keras.config.floatx()) + 1)

        def get_config(self) -> Any:
            return {}

    return Harmonic()


def counting(where: str, start: int = 1) -> Any:
    """A step that sets the rate to 0.1 / (steps + start), and counts on the optimizer, the model or itself."""

    class Step:
        taken = 0

        def __call__(self, model: Any, optimizer: Any, batch: Any) -> Any:
            holder = {"optimizer": optimizer, "model": model, "step": self}[where]
            loss = train(model, optimizer, batch)
            holder.taken = getattr(holder, "taken", 0) + 1
            optimizer.param_groups[0]["lr"] = 0.1 / (holder.taken + start)
            return loss

    return Step()


@pytest.mark.parametrize("where", ["optimizer", "model", "step"])
def test_a_plain_number_that_the_step_counts_is_put_back(where: str) -> None:
    check(counting(where), keras_sgd(harmonic), options={"precision": ("float64", "float32")}).assert_equivalent()


def test_a_count_on_a_keras_model_is_put_back_and_one_that_is_off_by_one_is_different_from_the_second_step() -> None:
    def count(model: Any) -> None:
        model.taken += 1
        model.optimizer.learning_rate.assign(0.1 / (model.taken + 1))

    right = check(counting("optimizer"), keras_sgd(), lambda: keras_with(count))
    right.assert_equivalent()
    wrong = check(counting("optimizer", start=2), keras_sgd(), lambda: keras_with(count))
    assert different_at(wrong) == {("update", n, path) for n in (2, 3) for path in ("weight", "bias")}
    assert set(confirmed(wrong)) <= {"schedule", "optimizer_setting"}


def test_a_scheduler_in_a_closure_is_put_back() -> None:
    made: dict[int, Any] = {}

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        import torch

        if id(optimizer) not in made:
            made[id(optimizer)] = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        loss = train(model, optimizer, batch)
        made[id(optimizer)].step()
        return loss

    def decay() -> Any:
        import keras

        return keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)

    check(step, keras_sgd(decay)).assert_equivalent()


# Averages of the weights ----------------------------------------------------------------------------------------------


class Shadow:
    """As hub libraries have it: a list of tensors, a state_dict, and an update."""

    def __init__(self, parameters: Any, keep: float) -> None:
        self.parameters, self.keep = parameters, keep
        self.shadow = [p.detach().clone() for p in parameters]

    def update(self) -> None:
        for s, p in zip(self.shadow, self.parameters, strict=True):
            s.mul_(self.keep).add_(p.detach() * (1 - self.keep))

    def state_dict(self) -> Any:
        return {"shadow": self.shadow}

    def load_state_dict(self, state: Any) -> None:
        self.shadow = [s.clone() for s in state["shadow"]]


def averaging(kind: str, keep: float = 0.9, first: int = 1) -> Any:
    """A step that averages from the weights before its first call; `first` is the first update that counts."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        import torch
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        optimizer.taken = getattr(optimizer, "taken", 0) + 1
        if kind == "dict" and not hasattr(optimizer, "ema"):
            optimizer.ema = {name: p.detach().clone() for name, p in model.named_parameters()}
        if kind == "object" and not hasattr(optimizer, "ema"):
            optimizer.ema = Shadow(list(model.parameters()), keep)
        if kind == "model" and not hasattr(optimizer, "ema"):
            optimizer.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(keep))
            optimizer.ema.n_averaged += 1  # from the weights before the first update
        loss = train(model, optimizer, batch)
        if optimizer.taken < first:
            return loss
        if kind == "dict":
            with torch.no_grad():
                for name, p in model.named_parameters():
                    optimizer.ema[name].lerp_(p, 1 - keep)
        elif kind == "object":
            optimizer.ema.update()
        else:
            optimizer.ema.update_parameters(model)
        return loss

    return step


def keras_average(model: Any) -> None:
    """Averages in a dict, made in the first step, from the weights that the step began with."""
    for v in model.trainable_variables:
        model.averages[v.path] = 0.9 * model.averages[v.path] + 0.1 * v.value


def keras_averaging() -> Any:
    def start(model: Any, *_: Any) -> Any:
        import keras

        if not hasattr(model, "averages"):
            object.__setattr__(model, "averages", {v.path: keras.ops.copy(v.value) for v in model.trainable_variables})
        return 0.0

    return keras_with(keras_average, start)


@pytest.mark.parametrize("kind", ["dict", "object", "model"])
def test_averages_that_the_first_step_makes_are_compared_wherever_either_side_keeps_them(kind: str) -> None:
    result = check(averaging(kind), keras_sgd(), keras_averaging)
    result.assert_equivalent()
    assert {c.torch for c in result.checks if c.name.endswith("[average]")} == {"weight", "bias"}


@pytest.mark.parametrize("kind", ["dict", "object", "model"])
def test_an_average_with_another_share_is_different_there(kind: str) -> None:
    result = check(averaging(kind, keep=0.8), keras_sgd(), keras_averaging)
    names = {c.name for c in result.checks if c.verdict == "DIFFERENT"}
    assert names == {"weight [average]", "bias [average]"}
    assert confirmed(result) == ["average_momentum"]


def test_an_average_that_starts_one_update_later_is_different_there() -> None:
    result = check(averaging("dict", first=2), keras_sgd(), keras_averaging)
    names = {(c.step, c.name) for c in result.checks if c.verdict == "DIFFERENT"}
    assert names == {(1, "weight [average]"), (1, "bias [average]")}
    assert set(confirmed(result)) <= {"average_start"}


def test_averages_that_one_side_alone_keeps_are_said_and_no_difference() -> None:
    result = check(averaging("object"), keras_sgd())
    result.assert_equivalent()
    assert any("the torch side keeps averages of 2 weights" in note for note in result.notes)


def test_averages_that_one_side_alone_writes_over_its_weights_are_different() -> None:
    result = check(averaging("object"), keras_sgd(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=50))
    assert result.verdict == "DIFFERENT"


# What the loss reads --------------------------------------------------------------------------------------------------


def with_teacher(keep: float) -> Any:
    class Step:
        teacher: Any = None

        def __call__(self, model: Any, optimizer: Any, batch: Any) -> Any:
            import torch

            if self.teacher is None:
                self.teacher = copy.deepcopy(model)
            with torch.no_grad():
                wanted = self.teacher(batch.inputs)
            loss = train(model, optimizer, batch, lambda output: torch.nn.functional.mse_loss(output, wanted))
            with torch.no_grad():
                for t, p in zip(self.teacher.parameters(), model.parameters(), strict=True):
                    t.lerp_(p, 1 - keep)
            return loss

    return Step()


def keras_with_teacher() -> Any:
    def extra(model: Any, x: Any, output: Any) -> Any:
        import keras

        if not hasattr(model, "averages"):
            object.__setattr__(model, "averages", {v.path: keras.ops.copy(v.value) for v in model.trainable_variables})
        kernel, bias = model.averages.values()
        return keras.ops.mean(keras.ops.square(output - (keras.ops.matmul(x, kernel) + bias)))

    return keras_with(keras_average, extra)


def test_a_teacher_that_the_step_updates_is_put_back_and_its_share_compared() -> None:
    check(with_teacher(0.9), keras_sgd(), keras_with_teacher).assert_equivalent()
    wrong = check(with_teacher(0.8), keras_sgd(), keras_with_teacher)
    assert confirmed(wrong) == ["average_momentum"]
    assert {c.name for c in wrong.checks if c.verdict == "DIFFERENT"} == {"weight [average]", "bias [average]"}


def with_queue(length: int) -> Any:
    bank: dict[str, Any] = {}

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        import torch

        queue = bank.setdefault("queue", torch.ones(4, 2))
        loss = train(model, optimizer, batch, lambda output: (output.mean(0) * queue[-length:].mean(0)).sum())
        with torch.no_grad():
            bank["queue"] = torch.cat([queue[1:], model(batch.inputs).mean(0, keepdim=True)])
        return loss

    return step


def keras_with_queue() -> Any:
    import keras

    bank: dict[str, Any] = {}

    def extra(_: Any, x: Any, output: Any) -> Any:
        bank["x"] = x
        queue = bank.setdefault("queue", keras.ops.ones((4, 2), keras.config.floatx()))
        return keras.ops.sum(keras.ops.mean(output, 0) * keras.ops.mean(queue, 0))

    def after(model: Any) -> None:
        new = keras.ops.mean(model(bank["x"]), 0, keepdims=True)
        bank["queue"] = keras.ops.concatenate([bank["queue"][1:], new])

    return keras_with(after, extra)


def test_a_queue_is_put_back_and_one_that_is_read_otherwise_is_different() -> None:
    check(with_queue(4), keras_sgd(), keras_with_queue).assert_equivalent()
    assert check(with_queue(3), keras_sgd(), keras_with_queue).verdict == "DIFFERENT"


# What no state can hold -----------------------------------------------------------------------------------------------

NUMBERS = itertools.count(1)


def by_iterator(model: Any, optimizer: Any, batch: Any) -> Any:
    optimizer.param_groups[0]["lr"] = 0.1 / next(NUMBERS)
    return train(model, optimizer, batch)


def by_clock(model: Any, optimizer: Any, batch: Any) -> Any:
    import time

    optimizer.param_groups[0]["lr"] = 1e-3 * (time.perf_counter() % 1)
    return train(model, optimizer, batch)


@pytest.mark.parametrize(
    ("step", "named"),
    [(by_iterator, "step (global NUMBERS) (count, which cannot be set back)"), (by_clock, "param_groups[0]['lr']")],
)
def test_a_step_that_does_not_repeat_is_named_and_nothing_that_follows_is_different(step: Any, named: str) -> None:
    result = check(step, keras_sgd())
    assert result.verdict == "INCONCLUSIVE"
    assert different_at(result) == set()
    assert confirmed(result) == []
    told = [c.detail or "" for c in result.checks if "repeatability of the torch step" in c.name]
    assert told
    assert all(named in detail for detail in told)


def test_a_keras_step_that_does_not_repeat_is_named() -> None:
    numbers = itertools.count(1)

    def after(model: Any) -> None:
        model.optimizer.learning_rate.assign(0.1 / next(numbers))

    result = check(train, keras_sgd(), lambda: keras_with(after))
    assert result.verdict == "INCONCLUSIVE"
    assert different_at(result) == set()
    assert confirmed(result) == []
    assert any("repeatability of the keras step" in c.name for c in result.checks)
