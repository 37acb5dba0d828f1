"""What a training step of the user's own returns and does: terms by name, watched inputs, gradients of gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import xcheck

ops: Any = keras.ops


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 4)), rng.standard_normal((8, 1)))


def torch_net() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))


def keras_side(step: Any) -> xcheck.KerasSide:
    def build() -> Any:
        class Net(keras.Sequential):
            def train_step(self, data: Any) -> Any:
                return step(self, *data[:2])

        dense = keras.layers.Dense
        model = Net([keras.Input((4,)), dense(3, activation="tanh", name="a"), dense(1, name="b")])
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        return model

    return xcheck.KerasSide(build)


def run(torch_step: Any, keras_step: Any) -> xcheck.Result:
    side = xcheck.TorchSide(torch_net, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), step=torch_step)
    pair = xcheck.Pair("steps", side, keras_side(keras_step), batches)
    return xcheck.check(pair, steps=2, precision=("float64",), free_steps=2)


def update(model: Any, tape: Any, loss: Any) -> None:
    model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def torch_terms(names: Any, as_floats: bool = False) -> Any:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        out = model(batch.inputs)
        fit, size = ((out - batch.targets) ** 2).mean(), 0.1 * out.abs().mean()
        optimizer.zero_grad()
        (fit + size).backward()
        optimizer.step()
        named = {"fit": fit, "size": size, "sum": fit + size}
        return {name: named[of].item() if as_floats else named[of] for name, of in names.items()}

    return step


def keras_terms(names: Any, by: float = 1.0) -> Any:
    def step(model: Any, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            out = model(x, training=True)
            fit, size = ops.mean(ops.square(out - y)), 0.1 * ops.mean(ops.abs(out))
            loss = fit + size
        update(model, tape, loss)
        named = {"fit": fit, "size": by * size, "sum": loss}
        return {name: named[of] for name, of in names.items()}

    return step


AB, DATA = {"a": "fit", "b": "size"}, {"data": "fit", "penalty": "size"}


@pytest.mark.parametrize(
    ("mine", "theirs", "compared"),
    [
        (AB, AB, {"data/a", "data/b"}),
        (AB, {**AB, "loss": "sum"}, {"data/a", "data/b", "total"}),
        ({**AB, "loss": "sum"}, {**AB, "loss": "sum"}, {"data/a", "data/b", "total"}),
        (AB, {"loss": "sum"}, {"total"}),
        ({"total": "sum"}, {**AB, "loss": "sum"}, {"total"}),
        (DATA, DATA, {"data", "penalty"}),
        (DATA, {**DATA, "loss": "sum"}, {"data", "penalty", "total"}),
    ],
)
@pytest.mark.parametrize("as_floats", [False, True])
def test_terms_go_by_their_own_names_and_data_is_not_the_total(
    mine: Any, theirs: Any, compared: set[str], as_floats: bool
) -> None:
    result = run(torch_terms(mine, as_floats), keras_terms(theirs))
    assert result.verdict == "EQUIVALENT", result.first_divergence
    assert {c.name for c in result.checks if c.phase == "loss"} == compared


@pytest.mark.parametrize(("names", "wrong"), [(AB, "data/b"), (DATA, "penalty")])
def test_a_wrong_term_is_found_by_its_name_alone(names: Any, wrong: str) -> None:
    result = run(torch_terms(names), keras_terms({**names, "loss": "sum"}, by=2.0))
    assert {c.name for c in result.checks if c.phase == "loss" and c.verdict == "DIFFERENT"} == {wrong}


def test_terms_of_other_names_without_a_total_are_not_compared_and_said() -> None:
    result = run(torch_terms(AB), keras_terms({"c": "fit", "d": "size"}))
    assert result.verdict == "INCONCLUSIVE"
    (told,) = {c.detail for c in result.checks if c.phase == "loss"}
    assert "use the same names" in told


def torch_smooth(second: bool = True) -> Any:
    """The slope of the output is part of the loss, as in a gradient penalty."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        x = batch.inputs.clone().requires_grad_()
        out = model(x)
        slope = torch.autograd.grad(out.sum(), x, create_graph=second, retain_graph=True)[0]
        loss = ((out - batch.targets) ** 2).mean() + ((slope.square().sum(1) + 1e-3).sqrt() - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def keras_smooth(model: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        with tf.GradientTape() as inner:
            inner.watch(x)
            out = model(x, training=True)
        slope = inner.gradient(out, x)
        size = ops.sqrt(ops.sum(ops.square(slope), 1) + 1e-3)
        loss = ops.mean(ops.square(out - y)) + ops.mean(ops.square(size - 1))
    update(model, tape, loss)
    return {"loss": loss}


def test_a_step_that_watches_its_inputs_gets_tensors() -> None:
    assert run(torch_smooth(), keras_smooth).verdict == "EQUIVALENT"
    first = run(torch_smooth(second=False), keras_smooth).first_divergence
    assert first is not None
    assert first.phase == "gradient"


def torch_inner(rate: float) -> Any:
    """One step of descent inside of the loss, and the gradient through it, as meta-learning takes it."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        weights = dict(model.named_parameters())
        inner = ((model(batch.inputs) - batch.targets) ** 2).mean()
        slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        moved = {name: w - rate * s for (name, w), s in zip(weights.items(), slopes, strict=True)}
        loss = ((torch.func.functional_call(model, moved, batch.inputs) + batch.targets) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"inner": inner, "loss": loss}

    return step


def keras_inner(model: Any, x: Any, y: Any) -> Any:
    held = model.trainable_variables
    with tf.GradientTape() as tape:
        with tf.GradientTape() as within:
            inner = ops.mean(ops.square(model(x, training=True) - y))
        slopes = within.gradient(inner, held)
        moved = [v - 0.05 * s for v, s in zip(held, slopes, strict=True)]
        hidden = ops.tanh(ops.matmul(x, moved[0]) + moved[1])
        loss = ops.mean(ops.square(ops.matmul(hidden, moved[2]) + moved[3] + y))
    update(model, tape, loss)
    return {"inner": inner, "loss": loss}


def torch_sharpness(radius: float) -> Any:
    """Two passes: up the slope by a radius, then down from there, as SAM does."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = ((model(batch.inputs) - batch.targets) ** 2).mean()
            value.backward()
            return value

        first, weights = loss(), list(model.parameters())
        norm = torch.stack([w.grad.norm() for w in weights]).norm()
        climbed = [radius * w.grad / norm for w in weights]
        with torch.no_grad():
            for w, by in zip(weights, climbed, strict=True):
                w.add_(by)
        loss()
        with torch.no_grad():
            for w, by in zip(weights, climbed, strict=True):
                w.sub_(by)
        optimizer.step()
        return first

    return step


def keras_sharpness(model: Any, x: Any, y: Any) -> Any:
    def slopes() -> Any:
        with tf.GradientTape() as tape:
            value = ops.mean(ops.square(model(x, training=True) - y))
        return value, tape.gradient(value, model.trainable_variables)

    first, found = slopes()
    norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in found))
    climbed = [0.05 * g / norm for g in found]
    for v, by in zip(model.trainable_variables, climbed, strict=True):
        v.assign_add(by)
    _, found = slopes()
    for v, by in zip(model.trainable_variables, climbed, strict=True):
        v.assign_sub(by)
    model.optimizer.apply(found, model.trainable_variables)
    return {"loss": first}


@pytest.mark.parametrize("mine", [torch_sharpness])
@pytest.mark.parametrize(("rate", "same"), [(0.05, True), (0.06, False)])
def test_a_step_of_two_passes(mine: Any, rate: float, same: bool) -> None:
    result = run(mine(rate), keras_sharpness)
    assert (result.verdict == "EQUIVALENT") == same, result.first_divergence
    assert not any(cause.confirmed for cause in result.causes)


@pytest.mark.parametrize(("rate", "same"), [(0.05, True), (0.06, False)])
def test_a_step_with_a_step_inside_of_its_loss(rate: float, same: bool) -> None:
    wrong = {(c.phase, c.name) for c in run(torch_inner(rate), keras_inner).checks if c.verdict == "DIFFERENT"}
    assert bool({phase for phase, _ in wrong} & {"loss", "gradient", "update"}) != same


def block(prefix: str) -> Any:
    x = keras.Input((4,))
    h = keras.layers.BatchNormalization(momentum=0.5, name=prefix + "bn")(keras.layers.Dense(3, name=prefix + "fc")(x))
    return keras.Model(x, ops.tanh(h), name=prefix + "net")


@pytest.mark.parametrize("shared", [False, True])
def test_layers_of_one_name_in_two_models_share_nothing_unless_they_do(shared: bool) -> None:
    from xcheck.frameworks.keras.variables import inventory

    class Both(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="both")
            self.student = block("")
            self.teacher = self.student if shared else block("")

        def call(self, x: Any) -> Any:
            return self.student(x) + self.teacher(2 * x)

    model = Both()
    model(np.ones((2, 4)))
    held = inventory(model)
    assert len(held.canonical()) == (6 if shared else 12)
    assert len({entry.owner for entry in held.entries}) == (2 if shared else 4)
    assert len({entry.storage for entry in held.entries}) == len(held.canonical())
