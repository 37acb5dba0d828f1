"""Steps with one optimizer per network: each is watched, restored, and compared, wherever a side keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import xcheck
from xcheck.errors import PairError

ops: Any = keras.ops


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """States (B, 4), and what was earned (B, 1)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 4)), rng.standard_normal((8, 1)))


class Torch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.actor, self.critic = (torch.nn.Linear(*n) for n in ((4, 3), (3, 2), (3, 1)))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.body(x).tanh()
        return {"policy": self.actor(h), "value": self.critic(h)}


class Keras(keras.Model):
    """One optimizer for the actor and the body, one for the critic and the body."""

    def __init__(self, critic: Any, kept_in: str = "attribute") -> None:
        super().__init__(name="net")
        self.body = keras.layers.Dense(3, activation="tanh", name="body")
        self.actor, self.critic = keras.layers.Dense(2, name="actor"), keras.layers.Dense(1, name="critic")
        held = {"attribute": critic, "list": [critic], "dict": {"critic": critic}}[kept_in]
        self.of_critic, self.kept_in = held, kept_in

    def call(self, x: Any) -> Any:
        h = self.body(x)
        return {"policy": self.actor(h), "value": self.critic(h)}

    def train_step(self, data: Any) -> Any:
        x, y = data[:2]
        with tf.GradientTape() as tape:
            value = ops.mean(ops.square(self(x, training=True)["value"] - y))
        own = self.body.trainable_variables + self.critic.trainable_variables
        held = self.of_critic
        critic = {"attribute": lambda: held, "list": lambda: held[0], "dict": lambda: held["critic"]}[self.kept_in]()
        critic.apply(tape.gradient(value, own), own)
        with tf.GradientTape() as tape:
            made = self(x, training=True)
            policy = -ops.mean(ops.sum(ops.tanh(made["policy"]), -1) * ops.stop_gradient(y - made["value"])[:, 0])
        own = self.body.trainable_variables + self.actor.trainable_variables
        self.optimizer.apply(tape.gradient(policy, own), own)
        return {"value": value, "policy": policy}


def torch_step(model: Any, optimizers: Any, batch: Any) -> Any:
    actor, critic = (optimizers["actor"], optimizers["critic"]) if isinstance(optimizers, dict) else optimizers
    critic.zero_grad()
    value = ((model(batch.inputs)["value"] - batch.targets) ** 2).mean()
    value.backward()
    critic.step()
    actor.zero_grad()
    made = model(batch.inputs)
    policy = -(made["policy"].tanh().sum(-1) * (batch.targets - made["value"]).detach()[:, 0]).mean()
    policy.backward()
    actor.step()
    return {"value": value, "policy": policy}


def torch_optimizers(make: Any, form: type, lr: float = 0.03) -> Any:
    def optimizer(named_parameters: Any) -> Any:
        actor = make([p for name, p in named_parameters if not name.startswith("critic")], lr=0.1)
        critic = make([p for name, p in named_parameters if not name.startswith("actor")], lr=lr)
        return {"actor": actor, "critic": critic} if form is dict else form((actor, critic))

    return optimizer


def pair(
    form: type = dict, kept_in: str = "attribute", name: str = "SGD", lr: float = 0.03, **of_keras: Any
) -> xcheck.Pair:
    def make(parameters: Any, lr: float) -> Any:
        return (
            torch.optim.SGD(parameters, lr=lr, momentum=0.9) if name == "SGD" else torch.optim.Adadelta(parameters, lr)
        )

    def make_keras(lr: float) -> Any:
        return keras.optimizers.SGD(lr, 0.9) if name == "SGD" else keras.optimizers.Adadelta(lr, 0.9, 1e-6)

    def build() -> Any:
        model = Keras(make_keras(0.03), kept_in)
        model.compile(optimizer=make_keras(0.1))
        return model

    return xcheck.Pair(
        "several",
        torch=xcheck.TorchSide(Torch, optimizer=torch_optimizers(make, form, lr), step=torch_step),
        keras=xcheck.KerasSide(build),
        batches=batches,
        **of_keras,
    )


def run(pair: xcheck.Pair, steps: int = 2) -> xcheck.Result:
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0)


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize(
    ("form", "kept_in", "name"), [(dict, "attribute", "SGD"), (tuple, "list", "Adadelta"), (list, "dict", "SGD")]
)
def test_a_step_of_two_optimizers_that_share_a_network_is_the_same_computation(
    form: type, kept_in: str, name: str, reference: str
) -> None:
    result = run(pair(form, kept_in, name, reference=reference))
    assert result.verdict == "EQUIVALENT", result.first_divergence
    compared = {c.name for c in result.checks if c.phase == "gradient" and c.step == 2}
    assert len([n for n in compared if "weight" in n or "kernel" in n]) == 3


@pytest.mark.parametrize("name", ["SGD", "Adadelta"])
def test_the_learning_rate_of_the_second_optimizer_is_compared(name: str) -> None:
    result = run(pair(name=name, lr=0.031))
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase != "inventory"
    moved = {c.name for c in result.checks if (c.phase, c.step, c.verdict) == ("update", 1, "DIFFERENT")}
    assert {n.split(" ")[0] for n in moved} & {"critic.weight", "critic.bias"}
    assert not any(cause.confirmed for cause in result.causes)


def test_a_parameter_that_no_optimizer_has_is_named() -> None:
    def lacking(parameters: Any, model: Any) -> Any:
        return torch.optim.SGD(list(model.actor.parameters()), lr=0.1), torch.optim.SGD(
            list(model.critic.parameters()), lr=0.03
        )

    one = pair()
    result = run(
        xcheck.Pair("lacking", xcheck.TorchSide(Torch, optimizer=lacking, step=torch_step), one.keras, batches)
    )
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.torch) == ("inventory", "body.weight")


def test_what_is_no_optimizer_among_several_is_refused() -> None:
    side = xcheck.TorchSide(Torch, optimizer=lambda p: (torch.optim.SGD(p, lr=0.1), "adam"), step=torch_step)
    with pytest.raises(PairError, match=r"not return a torch.optim.Optimizer"):
        run(xcheck.Pair("wrong", side, pair().keras, batches))


class Descent(keras.Model):
    """Two equal steps of gradient descent within one training step."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(name="net")
        self.dense, self.rate = keras.layers.Dense(1, name="dense"), rate

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> Any:
        loss = None
        for _ in range(2):
            with tf.GradientTape() as tape:
                again = ops.mean(ops.square(self(data[0], training=True) - data[1]))
            loss = again if loss is None else loss
            for v, g in zip(self.trainable_variables, tape.gradient(again, self.trainable_variables), strict=True):
                v.assign_sub(self.rate * g)
        return {"loss": loss}


def closure_step(model: Any, optimizer: Any, batch: Any) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((model(batch.inputs) - batch.targets) ** 2).mean()
        loss.backward()
        return loss

    return optimizer.step(closure)


class Twice(torch.optim.Optimizer):
    """Asks its closure twice, and goes down each time."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        first = None
        for _ in range(2):
            loss = closure()
            first = loss if first is None else first
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad, alpha=group["lr"])
        return first


@pytest.mark.parametrize(("rate", "verdict"), [(0.1, {"update"}), (0.1001, {"update"})])
def test_an_optimizer_with_a_closure_makes_several_passes(rate: float, verdict: set[str]) -> None:
    def build() -> Any:
        model = Descent(rate)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        return model

    net = xcheck.TorchSide(lambda: torch.nn.Linear(4, 1), optimizer=lambda p: Twice(p, lr=0.1), step=closure_step)
    result = run(xcheck.Pair("closure", net, xcheck.KerasSide(build), batches))
    wrong = {c.phase for c in result.checks if c.verdict == "DIFFERENT"}
    assert ("update" in wrong) == (rate != 0.1)
