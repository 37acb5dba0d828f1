"""What a training setup does to a gradient before it moves a weight, right and wrong.

Clipping, gradient accumulation, weight decay, averaged weights, loss scaling: a correct port of each is equivalent, and
each of their usual faults is found where it belongs with everything before it passing.

The helpers here serve the other files of this kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from ports import assert_parts_in, keras_mlp, keras_sgd, mlp, torch_loss

import xcheck
from xcheck.optim import KerasAdamW, KerasSGD, TorchAdamW, TorchSGD
from xcheck.phases import STEP_PHASES

PHASES = ("inventory", "sync", *STEP_PHASES)


def wrong_today(reason: str, raises: Any = AssertionError) -> Any:
    """A mark for what is not so yet and has to be."""
    return pytest.mark.xfail(strict=True, raises=raises, reason=reason)


def run(pair: xcheck.Pair, steps: int = 1) -> xcheck.Result:
    """The semantic verdict on a few steps."""
    return xcheck.check(pair, steps=steps, precision=("float64",), phases=PHASES)


def assert_equivalent(pair: xcheck.Pair, steps: int = 2) -> xcheck.Result:
    result = run(pair, steps)
    assert result.verdict == "EQUIVALENT", result.report()
    return result


def parted(result: xcheck.Result, phase: str) -> set[str]:
    """Names of what differs in a phase of the first step."""
    return {c.name for c in result.checks if (c.phase, c.step, c.verdict) == (phase, 1, "DIFFERENT")}


def step_with(between: Callable[[Any], None], scale: float = 1.0, zero: bool = True) -> Callable[..., Any]:
    """A user's own training step: `between(model)` runs after backpropagation and before the optimizer."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        if zero:
            optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        (loss * scale).backward()
        between(model)
        optimizer.step()
        return loss

    return step


HALVES = wrong_today(
    "a step that calls its model several times is compared call by call, and by its last loss in Keras"
)


# Clipping ------------------------------------------------------------------------------------------------------

CLIPS = {"clipvalue": 0.02, "clipnorm": 0.1, "global_clipnorm": 0.1}


def clip_by_value(model: Any) -> None:
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.02)


def clip_by_norm(model: Any) -> None:
    for p in model.parameters():
        p.grad *= 0.1 / p.grad.norm().clamp(min=0.1)


def clip_by_global_norm(model: Any) -> None:
    norm = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad *= 0.1 / norm.clamp(min=0.1)


@pytest.mark.parametrize("kind", CLIPS)
def test_clipping_by_the_optimizer(kind: str) -> None:
    clip = {kind: CLIPS[kind]}
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=0.1, momentum=0.9, **clip)},
        keras={"optimizer": lambda: keras_sgd(momentum=0.9, **clip)},
    )
    assert_equivalent(pair)


@pytest.mark.parametrize(
    ("kind", "between"),
    [("clipvalue", clip_by_value), ("clipnorm", clip_by_norm), ("global_clipnorm", clip_by_global_norm)],
)
def test_clipping_in_the_users_own_step(kind: str, between: Callable[[Any], None]) -> None:
    pair = mlp(torch={"step": step_with(between)}, keras={"optimizer": lambda: keras_sgd(**{kind: CLIPS[kind]})})
    assert_equivalent(pair)


@pytest.mark.parametrize(
    ("kind", "between"),
    [
        # PyTorch divides by norm + 1e-6, Keras by norm.
        ("global_clipnorm", lambda model: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)),
        ("global_clipnorm", lambda model: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1, norm_type=math.inf)),
        ("global_clipnorm", clip_by_norm),
        ("clipnorm", clip_by_global_norm),
        ("clipvalue", lambda model: torch.nn.utils.clip_grad_value_(model.parameters(), 0.02 * (1 + 1e-9))),
        ("clipnorm", lambda model: None),
    ],
    ids=["epsilon", "largest-element", "each-by-itself", "all-together", "limit", "none"],
)
def test_another_clipping(kind: str, between: Callable[[Any], None]) -> None:
    pair = mlp(torch={"step": step_with(between)}, keras={"optimizer": lambda: keras_sgd(**{kind: CLIPS[kind]})})
    assert_parts_in(run(pair), "update")


def test_gradients_that_are_never_zeroed_part_in_the_second_step() -> None:
    assert_parts_in(run(mlp(torch={"step": step_with(lambda model: None, zero=False)}), steps=2), "gradient", 2)


# Gradient accumulation -----------------------------------------------------------------------------------------


def accumulated(share: float) -> Callable[..., Any]:
    """A step of PyTorch over two halves of the batch, each with this share of the gradient."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        losses = []
        for x, y in zip(batch.inputs.chunk(2), batch.targets.chunk(2), strict=True):
            losses.append(torch_loss(model(x), y))
            (losses[-1] * share).backward()
        optimizer.step()
        return torch.stack(losses).mean()

    return step


def keras_in_halves(**_: Any) -> Any:
    """The net of the pair, trained over two halves of the batch."""
    net = keras_mlp()

    class InHalves(keras.Model):
        def train_step(self, data: Any) -> Any:
            import tensorflow as tf

            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                halves = zip(keras.ops.split(x, 2), keras.ops.split(y, 2), strict=True)
                losses = [self.compute_loss(x=a, y=b, y_pred=self(a, training=True)) for a, b in halves]
                loss = sum(losses) / 2
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    return InHalves(net.inputs, net.outputs)


@HALVES
def test_accumulation_over_two_halves_is_one_big_batch() -> None:
    assert_equivalent(mlp(torch={"step": accumulated(1 / 2)}))


@HALVES
def test_accumulation_on_both_sides() -> None:
    assert_equivalent(mlp(torch={"step": accumulated(1 / 2)}, keras={"build": keras_in_halves}))


@HALVES
def test_accumulation_that_sums_instead_of_averaging() -> None:
    assert_parts_in(run(mlp(torch={"step": accumulated(1.0)})), "gradient")


def test_accumulation_over_several_steps_of_keras_is_not_compared() -> None:
    pair = mlp(keras={"optimizer": lambda: keras_sgd(gradient_accumulation_steps=2)})
    result = run(pair)
    assert result.verdict != "EQUIVALENT"
    assert any("no known counterpart" in c.detail for c in result.checks), result.report()


# Weight decay --------------------------------------------------------------------------------------------------


def groups(parameters: Any, **biases: Any) -> list[dict[str, Any]]:
    """Weights as they are, biases with options of their own."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim == 1], **biases},
    ]


def excluding(optimizer: Any, *names: str) -> Any:
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def decay_pair(torch_optimizer: Any, keras_optimizer: Any) -> xcheck.Pair:
    return mlp(torch={"optimizer": torch_optimizer}, keras={"optimizer": keras_optimizer})


def test_decay_in_the_gradient_but_for_biases() -> None:
    pair = decay_pair(
        lambda p: torch.optim.SGD(groups(p, weight_decay=0.0), lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda: excluding(TorchSGD(0.1, momentum=0.9, weight_decay=0.1), "bias"),
    )
    assert_equivalent(pair)


def test_decoupled_decay_of_pytorch_but_for_biases() -> None:
    pair = decay_pair(
        lambda p: torch.optim.AdamW(groups(p, weight_decay=0.0), lr=0.01, weight_decay=0.1),
        lambda: excluding(TorchAdamW(0.01, weight_decay=0.1), "bias"),
    )
    assert_equivalent(pair)


def test_decoupled_decay_of_keras_but_for_biases() -> None:
    pair = decay_pair(
        lambda p: KerasAdamW(groups(p, weight_decay=None), learning_rate=0.01, weight_decay=0.1),
        lambda: excluding(keras.optimizers.AdamW(0.01, weight_decay=0.1), "bias"),
    )
    assert_equivalent(pair)


def adamw(p: Any) -> Any:
    return torch.optim.AdamW(groups(p, weight_decay=0.0), lr=0.01, weight_decay=0.1)


@pytest.mark.parametrize(
    ("torch_optimizer", "keras_optimizer"),
    [
        (adamw, lambda: TorchAdamW(0.01, weight_decay=0.1)),
        (adamw, lambda: excluding(TorchAdamW(0.01, weight_decay=0.1), "kernel")),
        (adamw, lambda: excluding(TorchAdamW(0.01, weight_decay=0.1 * (1 + 1e-6)), "bias")),
        (adamw, lambda: excluding(TorchAdamW(0.01, weight_decay=0.1 / 0.01), "bias")),
        (adamw, lambda: TorchAdamW(0.01, weight_decay=0.0)),
        (
            lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
            lambda: TorchAdamW(0.01, weight_decay=0.1),
        ),
        (
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
            lambda: keras_sgd(momentum=0.9, weight_decay=0.1),
        ),
        (
            lambda p: KerasAdamW(groups(p, weight_decay=None), learning_rate=0.01, weight_decay=0.1),
            lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        ),
    ],
    ids=[
        "biases-decay-too",
        "weights-excluded-instead",
        "a-millionth-off",
        "not-multiplied-by-the-rate",
        "none",
        "in-the-gradient-of-adam",
        "in-the-gradient-of-sgd",
        "biases-decay-too-in-keras",
    ],
)
def test_another_decay(torch_optimizer: Any, keras_optimizer: Any) -> None:
    assert_parts_in(run(decay_pair(torch_optimizer, keras_optimizer)), "update")


# Averaged weights ----------------------------------------------------------------------------------------------


class AveragingSGD(KerasSGD):
    """Keeps an average of the weights, as Keras does with `use_ema`: the first is the weights themselves."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for p, kept in self.state.items():
            share = 0.9 if "average" in kept else 0.0
            kept["average"] = share * kept.get("average", 0.0) + (1 - share) * p.detach()
        return loss


def test_averaged_weights_on_one_side_alone() -> None:
    result = run(mlp(keras={"optimizer": lambda: keras_sgd(use_ema=True, ema_momentum=0.9)}))
    assert_parts_in(result, "update")
    missing = [c for c in result.checks if c.detail == "missing on the torch side alone"]
    assert {c.name for c in missing} >= {"0.weight [average]"}


def test_averaged_weights_on_both_sides() -> None:
    pair = mlp(
        torch={"optimizer": lambda p: AveragingSGD(p, learning_rate=0.1)},
        keras={"optimizer": lambda: keras_sgd(use_ema=True, ema_momentum=0.9)},
    )
    assert_equivalent(pair, steps=3)


# Loss scaling --------------------------------------------------------------------------------------------------


def unscale(model: Any) -> None:
    for p in model.parameters():
        p.grad /= 1024


def test_a_scaled_loss_in_keras_alone() -> None:
    assert_equivalent(mlp(keras={"optimizer": lambda: keras_sgd(loss_scale_factor=1024.0)}))


def test_a_scaled_loss_in_torch_alone() -> None:
    assert_equivalent(mlp(torch={"step": step_with(unscale, scale=1024.0)}))


def test_a_scaled_loss_on_both_sides() -> None:
    pair = mlp(
        torch={"step": step_with(unscale, scale=1024.0)},
        keras={"optimizer": lambda: keras_sgd(loss_scale_factor=1024.0)},
    )
    assert_equivalent(pair)


@wrong_today("the slots of an optimizer inside of a wrapper are not read")
def test_a_scaled_loss_by_the_wrapper_of_keras() -> None:
    def optimizer() -> Any:
        return keras.optimizers.LossScaleOptimizer(keras_sgd(momentum=0.9), initial_scale=1024.0)

    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=0.1, momentum=0.9)}, keras={"optimizer": optimizer}
    )
    assert_equivalent(pair)


def test_a_scaled_gradient_that_is_clipped_before_it_is_unscaled() -> None:
    def between(model: Any) -> None:
        clip_by_global_norm(model)
        unscale(model)

    pair = mlp(
        torch={"step": step_with(between, scale=1024.0)},
        keras={"optimizer": lambda: keras_sgd(loss_scale_factor=1024.0, global_clipnorm=0.1)},
    )
    # What was clipped and then unscaled is no power of two of what it was: the gradient is left as it was recorded.
    assert_parts_in(run(pair), "gradient")
