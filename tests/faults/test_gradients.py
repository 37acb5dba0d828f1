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
from setups import (
    accumulated,
    assert_equivalent,
    averaged,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    parted,
    run,
    step_with,
)

import xcheck
from xcheck.optim import KerasAdamW, KerasSGD, TorchAdamW, TorchSGD

# Clipping ------------------------------------------------------------------------------------------------------

CLIPS = {"clipvalue": 0.02, "clipnorm": 0.1, "global_clipnorm": 0.1}


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

    return InHalves(net.inputs[0], net.outputs[0])


def test_accumulation_over_two_halves_is_one_big_batch() -> None:
    assert_equivalent(mlp(torch={"step": accumulated(1 / 2)}))


def test_accumulation_over_parts_of_several_sizes() -> None:
    assert_equivalent(mlp(torch={"step": accumulated(4 / 10, (4, 4, 2))}))


def test_accumulation_on_both_sides() -> None:
    assert_equivalent(mlp(torch={"step": accumulated(1 / 2)}, keras={"build": keras_in_halves}))


def test_accumulation_in_keras_alone() -> None:
    assert_equivalent(mlp(keras={"build": keras_in_halves}))


def test_accumulation_that_sums_instead_of_averaging() -> None:
    result = run(mlp(torch={"step": accumulated(1.0)}))
    assert_parts_in(result, "loss")  # the step reports the loss that it differentiates
    assert parted(result, "gradient") == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_accumulation_that_gives_a_short_part_the_weight_of_a_full_one() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        parts = zip(batch.inputs.split(4), batch.targets.split(4), strict=True)
        loss = torch.stack([torch_loss(model(x), y) for x, y in parts]).mean()
        loss.backward()
        optimizer.step()
        return loss

    result = run(mlp(torch={"step": step}))
    assert_parts_in(result, "loss")
    assert parted(result, "forward") == set()


def test_accumulation_that_forgets_the_last_part() -> None:
    result = run(mlp(torch={"step": accumulated(4 / 10, (4, 4))}))
    assert_parts_in(result, "forward")


def test_a_batch_that_is_gone_through_twice() -> None:
    """As sharpness-aware steps do: the calls do not share out the batch, and each is compared with its own."""

    def twice(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        for _ in range(2):
            loss = torch_loss(model(batch.inputs), batch.targets)
            loss.backward()
        optimizer.step()
        return loss

    def keras_twice(**_: Any) -> Any:
        net = keras_mlp()

        class Twice(keras.Model):
            def train_step(self, data: Any) -> Any:
                import tensorflow as tf

                x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
                with tf.GradientTape() as tape:
                    losses: list[Any] = [self.compute_loss(x=x, y=y, y_pred=self(x, training=True)) for _ in range(2)]
                    total = losses[0] + losses[1]
                self.optimizer.apply(tape.gradient(total, self.trainable_variables), self.trainable_variables)
                return {"loss": losses[-1]}

        return Twice(net.inputs[0], net.outputs[0])

    result = assert_equivalent(mlp(torch={"step": twice}, keras={"build": keras_twice}))
    assert {"output (training)", "output (call 2) (training)"} <= {c.name for c in result.checks}
    assert_parts_in(run(mlp(torch={"step": twice})), "forward")


def test_two_losses_of_one_call_are_one_call() -> None:
    def keras_with_two_losses(**_: Any) -> Any:
        net = keras_mlp()

        class TwoLosses(keras.Model):
            def train_step(self, data: Any) -> Any:
                import tensorflow as tf

                x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
                with tf.GradientTape() as tape:
                    y_pred = self(x, training=True)
                    losses: list[Any] = [self.compute_loss(x=x, y=y, y_pred=y_pred) for _ in range(2)]
                    total = (losses[0] + losses[1]) / 2
                self.optimizer.apply(tape.gradient(total, self.trainable_variables), self.trainable_variables)
                return {"loss": total}

        return TwoLosses(net.inputs[0], net.outputs[0])

    assert_equivalent(mlp(keras={"build": keras_with_two_losses}))


def test_a_penalty_within_the_users_own_step_is_part_of_its_total() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets) + 0.01 * model[0].weight.square().sum()
        loss.backward()
        optimizer.step()
        return loss

    def build(factor: float) -> Any:
        return keras_mlp(kernel_regularizer=keras.regularizers.L2(factor))

    assert_equivalent(mlp(torch={"step": step}, keras={"build": lambda: build(0.01)}))
    assert_parts_in(run(mlp(torch={"step": step}, keras={"build": lambda: build(0.01 * (1 + 1e-9))})), "loss")


def test_accumulation_over_several_steps_of_keras_is_not_compared() -> None:
    def every_other(model: Any, optimizer: Any, batch: Any) -> Any:
        loss = torch_loss(model(batch.inputs), batch.targets)
        (loss / 2).backward()
        return loss

    pair = mlp(torch={"step": every_other}, keras={"optimizer": lambda: keras_sgd(gradient_accumulation_steps=2)})
    result = run(pair)
    assert result.verdict != "EQUIVALENT"
    assert any("gradient_accumulation_steps" in c.detail for c in result.checks), result.report()


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


def test_averaged_weights_on_one_side_alone_are_said_and_are_a_difference_only_where_they_reach_the_weights() -> None:
    result = run(mlp(keras={"optimizer": lambda: keras_sgd(use_ema=True, ema_momentum=0.9)}))
    assert_equivalent(mlp(keras={"optimizer": lambda: keras_sgd(use_ema=True, ema_momentum=0.9)}))
    assert any("the keras side keeps averages of 4 weights" in note for note in result.notes)
    written = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 1000}
    assert_parts_in(run(mlp(keras={"optimizer": lambda: keras_sgd(**written)})), "update")


def test_averaged_weights_on_both_sides() -> None:
    assert_equivalent(averaged(), steps=3)


def test_another_average_of_the_weights() -> None:
    """Seen in the second step, and in nothing but the averages: no weight is moved by them."""
    result = run(averaged(ema_momentum=0.9 * (1 + 1e-6)), steps=2)
    assert_parts_in(result, "update", step=2)
    wrong = {c.name for c in result.checks if c.verdict == "DIFFERENT"}
    assert wrong == {f"{path} [average]" for path in ("0.weight", "0.bias", "2.weight", "2.bias")}


def test_averages_that_overwrite_the_weights() -> None:
    """Also after an optimizer of the base class was made, whose `step` is then hooked like that of the subclass."""
    assert_equivalent(mlp(torch={"optimizer": lambda p: KerasSGD(p, learning_rate=0.1)}), steps=1)
    result = run(averaged(ema_overwrite_frequency=2), steps=2)
    assert_parts_in(result, "update", step=2)
    assert "0.weight" in {c.name for c in result.checks if c.verdict == "DIFFERENT"}


# Loss scaling --------------------------------------------------------------------------------------------------


def unscale(model: Any) -> None:
    for p in model.parameters():
        p.grad /= 1024


def test_a_scaled_loss_in_keras_alone() -> None:
    assert_equivalent(mlp(keras={"optimizer": lambda: keras_sgd(loss_scale_factor=1024.0)}))


def test_a_scaled_loss_in_torch_alone() -> None:
    assert_equivalent(mlp(torch={"step": step_with(unscale, scale=1024.0)}))


def test_a_scaled_loss_whose_gradient_is_never_unscaled() -> None:
    assert_parts_in(run(mlp(torch={"step": step_with(lambda model: None, scale=1024.0)})), "gradient")


def test_a_scaled_loss_that_is_unscaled_by_another_number() -> None:
    pair = mlp(torch={"step": step_with(unscale, scale=1024.0 * (1 + 1e-6))})
    assert_parts_in(run(pair), "gradient")


def test_a_scaled_loss_on_both_sides() -> None:
    pair = mlp(
        torch={"step": step_with(unscale, scale=1024.0)},
        keras={"optimizer": lambda: keras_sgd(loss_scale_factor=1024.0)},
    )
    assert_equivalent(pair)


def scaled_by_keras(optimizer: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    return lambda: keras.optimizers.LossScaleOptimizer(optimizer(**options), initial_scale=1024.0)


def test_a_scaled_loss_by_the_wrapper_of_keras() -> None:
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=0.1, momentum=0.9)},
        keras={"optimizer": scaled_by_keras(keras_sgd, momentum=0.9)},
    )
    result = assert_equivalent(pair)
    assert any(c.name.endswith("[momentum]") for c in result.checks)


def test_a_scaled_loss_by_the_wrappers_of_both() -> None:
    """The counters and the rate that scales PyTorch's momentum are those of the optimizer inside."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        optimizer.scaler.scale(loss).backward()
        optimizer.scaler.step(optimizer)
        optimizer.scaler.update()
        return loss

    def optimizer(p: Any) -> Any:
        made: Any = torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
        return made

    def check(decay: float) -> xcheck.Result:
        wrapper = scaled_by_keras(TorchAdamW, lr=0.01, weight_decay=decay)
        return run(mlp(torch={"optimizer": optimizer, "step": step}, keras={"optimizer": wrapper}), steps=3)

    result = check(0.1)
    assert result.verdict == "EQUIVALENT", result.report()
    assert_parts_in(check(0.1 * (1 + 1e-6)), "update")


def test_another_setting_inside_of_the_wrapper_is_named() -> None:
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=0.1, momentum=0.9)},
        keras={"optimizer": scaled_by_keras(keras_sgd, momentum=0.9 * (1 + 1e-6))},
    )
    result = run(pair, steps=2)
    assert_parts_in(result, "update", step=2)
    assert [c.id for c in result.causes] == ["optimizer_setting"]


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
