"""Losses, optimizers and steps of setups, written out in both frameworks, and the pair that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import torch
from keras import ops
from keras_parts import keras_net
from loss_formulas import LOSS_FORMULAS
from parts import Setup
from torch import Tensor
from torch.nn import functional as F
from torch_parts import torch_net
from words import KerasWords, TorchWords

import xcheck
from xcheck import optim

Settings = Mapping[str, Any]


def batches_of(setup: Setup) -> Callable[[int], Iterator[xcheck.Batch]]:
    """Inputs as the net takes them; labels (B,) or (B, T), some of them -100 where the loss leaves such out."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            shape = (setup.rows, *setup.shape)
            x = rng.integers(0, setup.loss["words"], shape) if setup.form == "tokens" else rng.standard_normal(shape)
            kind = setup.loss["kind"]
            rows = (setup.rows, *setup.loss.get("places", ()))
            if kind in ("cross_entropy", "focal"):
                y = rng.integers(0, setup.classes, rows)
                if setup.loss.get("ignored"):
                    y[rng.random(y.shape) < 0.3] = -100
            elif kind in ("binary", "dice", "overlap", "asymmetric"):
                y = (rng.random((*rows, setup.classes)) < 0.4).astype(float)
            elif kind == "divergence":
                y = rng.dirichlet(np.ones(setup.classes), rows)
            else:
                y = rng.standard_normal((*rows, setup.classes))
            yield xcheck.Batch(x, y)

    return batches


# Losses -------------------------------------------------------------------------------------------------------------


def torch_loss(s: Settings) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of these settings in PyTorch."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return _torch_loss(s, outputs, targets) * s["factor"] if "factor" in s else _torch_loss(s, outputs, targets)

    return loss


def _torch_loss(s: Settings, outputs: Tensor, targets: Tensor) -> Tensor:
    kind, how = s["kind"], s.get("reduction", "mean")
    if kind in LOSS_FORMULAS:
        return LOSS_FORMULAS[kind](TorchWords(), s, outputs, targets)
    if kind == "cross_entropy":
        if s.get("from_probabilities"):
            outputs = torch.softmax(outputs, -1)
        flat, labels = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        weights = torch.tensor(s["weights"]) if "weights" in s else None
        options: dict[str, Any] = {"label_smoothing": s.get("smoothing", 0.0), "weight": weights}
        if s.get("divide_by_all"):
            return F.cross_entropy(flat, labels, reduction="sum", **options) / labels.numel()
        if s.get("counted", -100) == "all":
            labels = labels.clamp(min=0)
        return F.cross_entropy(flat, labels, reduction=how, **options)
    if kind == "focal":
        p = torch.softmax(outputs, -1).gather(-1, targets[..., None])[..., 0]
        return (s.get("alpha", 1.0) * (1 - p) ** s["gamma"] * -torch.log(p)).mean()
    if kind == "binary":
        pos = torch.tensor(s["positive"]) if "positive" in s else None
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction=how, pos_weight=pos)
    if kind == "dice":
        p, axes = torch.sigmoid(outputs), tuple(range(1 if s.get("per_image", True) else 0, outputs.ndim))
        power = s.get("power", 1)
        top = 2 * (p * targets).sum(axes) + s.get("smooth", 1.0)
        return (1 - top / ((p**power).sum(axes) + (targets**power).sum(axes) + s.get("smooth", 1.0))).mean()
    if kind == "divergence":
        log = torch.log_softmax(outputs, -1)
        if s.get("swapped"):
            return (log.exp() * (log - torch.log(targets))).sum(-1).mean()
        return F.kl_div(log, targets, reduction=s.get("reduction", "batchmean"))
    if kind == "huber":
        return F.huber_loss(outputs, targets, reduction=how, delta=s["delta"])
    return {"squares": F.mse_loss, "magnitudes": F.l1_loss}[kind](outputs, targets, reduction=how)


def keras_loss(s: Settings) -> Callable[[Any, Any], Any]:
    """The loss of these settings in Keras."""

    def loss(targets: Any, outputs: Any) -> Any:
        return _keras_loss(s, targets, outputs) * s["factor"] if "factor" in s else _keras_loss(s, targets, outputs)

    return loss


def _keras_loss(s: Settings, targets: Any, outputs: Any) -> Any:
    kind = s["kind"]
    if kind in LOSS_FORMULAS:
        return LOSS_FORMULAS[kind](KerasWords(), s, outputs, targets)
    reduce = {"mean": ops.mean, "sum": ops.sum}[s.get("reduction", "mean") if kind != "divergence" else "mean"]
    if kind == "cross_entropy":
        return _keras_cross_entropy(s, targets, outputs, reduce)
    if kind == "focal":
        labels = ops.one_hot(ops.cast(targets, "int32"), outputs.shape[-1], dtype=outputs.dtype)
        p = ops.sum(ops.softmax(outputs) * labels, axis=-1)
        return ops.mean(s.get("alpha", 1.0) * (1 - p) ** s["gamma"] * -ops.log(p))
    if kind == "binary":
        weight = ops.convert_to_tensor(s.get("positive", 1.0), dtype=outputs.dtype)
        each = weight * targets * ops.softplus(-outputs) + (1 - targets) * ops.softplus(outputs)
        return reduce(each)
    if kind == "dice":
        p, axes = ops.sigmoid(outputs), tuple(range(1 if s.get("per_image", True) else 0, len(outputs.shape)))
        power = s.get("power", 1)
        top = 2 * ops.sum(p * targets, axis=axes) + s.get("smooth", 1.0)
        below = ops.sum(p**power, axis=axes) + ops.sum(targets**power, axis=axes) + s.get("smooth", 1.0)
        return ops.mean(1 - top / below)
    if kind == "divergence":
        log = ops.log_softmax(outputs)
        if s.get("swapped"):
            return ops.mean(ops.sum(ops.exp(log) * (log - ops.log(targets)), axis=-1))
        each = targets * (ops.log(targets) - log)
        return ops.mean(each) if s.get("reduction") == "mean" else ops.mean(ops.sum(each, axis=-1))
    difference = outputs - targets
    if kind == "huber":
        size = ops.abs(difference)
        return reduce(ops.where(size <= s["delta"], 0.5 * size**2, s["delta"] * (size - 0.5 * s["delta"])))
    return reduce({"squares": ops.square, "magnitudes": ops.abs}[kind](difference))


def _keras_cross_entropy(s: Settings, targets: Any, outputs: Any, reduce: Any) -> Any:
    classes = outputs.shape[-1]
    flat, labels = ops.reshape(outputs, (-1, classes)), ops.reshape(ops.cast(targets, "int64"), (-1,))
    if s.get("from_probabilities"):
        flat = ops.softmax(flat)
    kept = ops.cast(labels != -100, outputs.dtype)
    if s.get("counted", -100) == "all":
        kept = ops.ones_like(kept)
    labels = ops.maximum(labels, 0)
    hot = ops.one_hot(ops.cast(labels, "int32"), classes, dtype=outputs.dtype)
    smooth = s.get("smoothing", 0.0)
    if "weights" in s:
        w = ops.convert_to_tensor(s["weights"], dtype=outputs.dtype)
        kept = kept * ops.sum(hot * w, axis=-1)
    each = keras.losses.categorical_crossentropy(hot, flat, from_logits=True, label_smoothing=smooth)
    if s.get("reduction", "mean") == "sum":
        return ops.sum(each * kept)
    return ops.sum(each * kept) / (ops.sum(ops.ones_like(kept)) if s.get("divide_by_all") else ops.sum(kept))


def penalty_of(setup: Setup) -> Callable[[Any], Any] | None:
    """In PyTorch: the sum of squares of one layer's weight."""
    if "penalty" not in setup.loss:
        return None
    name, factor, power = setup.loss["penalized"], setup.loss["penalty"], setup.loss.get("norm", 2)
    return lambda model: factor * model.get_submodule(name).weight.abs().pow(power).sum()


# Optimizers ---------------------------------------------------------------------------------------------------------


def _rate(s: Settings) -> Callable[[int], float]:
    """The rate after `t` updates."""
    rate, kind = s["rate"], s.get("schedule")
    late = s.get("late", 0)
    if kind == "steps":
        return lambda t: rate * 0.3 ** ((t + late) // s.get("every", 2))
    if kind == "cosine":
        return lambda t: rate * 0.5 * (1 + math.cos(math.pi * min(t + late, 6) / 6))
    return lambda t: rate


class KerasSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The same rate in Keras."""

    def __init__(self, s: Settings) -> None:
        self.s = s

    def __call__(self, step: Any) -> Any:
        t = ops.cast(step, keras.config.floatx()) + self.s.get("late", 0)
        rate = self.s["rate"]
        if self.s["schedule"] == "steps":
            return rate * ops.power(ops.cast(0.3, t.dtype), ops.floor(t / self.s.get("every", 2)))
        return rate * 0.5 * (1 + ops.cos(math.pi * ops.minimum(t, ops.cast(6.0, t.dtype)) / 6))

    def get_config(self) -> dict[str, Any]:
        return {"s": dict(self.s)}


class OwnSGD(torch.optim.Optimizer):
    """Gradient descent by hand, whose step is multiplied by a number."""

    def __init__(self, params: Any, lr: float, factor: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})
        self.factor = factor

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"] * self.factor)


NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "Nadam"}
KERAS_NAMES = {"b1": "beta_1", "b2": "beta_2", "rho": "rho", "eps": "epsilon", "start": "initial_accumulator_value"}


def _by_torch(s: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that PyTorch and its likenesses name alike."""
    options: dict[str, Any] = {}
    if "rho" in s:
        options["alpha"] = s["rho"]
    if "b1" in s or "b2" in s:
        options["betas"] = s.get("b1", 0.9), s.get("b2", 0.999)
    if "start" in s:
        options["initial_accumulator_value"] = s["start"]
    return options


def torch_optimizer(setup: Setup) -> Callable[[Any], Any]:
    """The optimizer of these settings in PyTorch; with "formula": "keras", by Keras's formula."""
    s = setup.optimizer
    kind, options = s["kind"], {k: s[k] for k in ("momentum", "nesterov", "eps", "amsgrad") if k in s}
    options |= _by_torch(s)
    if "decay" in s:
        options["weight_decay"] = s["decay"]
    module: Any = optim if s.get("formula", "torch") == "keras" else torch.optim
    name = ("Keras" if module is optim else "") + NAMES[kind]

    def optimizer(parameters: Any) -> Any:
        groups = list(parameters)
        if "own" in s:
            return OwnSGD(groups, s["rate"], s["own"])
        if "spared" in s:  # biases and norms have no decay
            flat = [p for p in groups if p.ndim < 2]
            groups = [{"params": [p for p in groups if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0}]
        if "slower" in s:
            groups = [{"params": groups[:-2]}, {"params": groups[-2:], "lr": s["rate"] * s["slower"]}]
        made = getattr(module, name)(groups, lr=s["rate"], **options)
        if "schedule" in s:
            of = _rate({**s, "rate": 1.0})
            made.scheduler = torch.optim.lr_scheduler.LambdaLR(made, of)
        return made

    return optimizer


def keras_optimizer(setup: Setup) -> Callable[[], Any]:
    """The optimizer of these settings in Keras; with "formula": "torch", by PyTorch's formula."""
    s = setup.optimizer
    by_torch = (s.get("formula", "torch") == "torch" and s["kind"] != "sgd") or s.get("by_torch", False)
    module: Any = optim if by_torch else keras.optimizers
    name = ("Torch" if by_torch else "") + NAMES[s["kind"]]
    options: dict[str, Any] = {k: s[k] for k in ("momentum", "nesterov", "amsgrad") if k in s}
    for ours, name_there in KERAS_NAMES.items():
        if ours in s and not by_torch:
            options[name_there] = s[ours]
    if by_torch:
        options |= {k: s[k] for k in ("eps",) if k in s}
        options |= _by_torch(s)
    if "decay" in s:
        options["weight_decay"] = s["decay"]
    clip = setup.step.get("clip")
    if clip:
        options[{"norm": "clipnorm", "global": "global_clipnorm", "value": "clipvalue"}[clip]] = setup.step["bound"]
    if "average" in s:
        options |= {"use_ema": True, "ema_momentum": s["average"]}
    if "accumulate" in s:
        options["gradient_accumulation_steps"] = s["accumulate"]

    def optimizer() -> Any:
        rate = KerasSchedule(s) if "schedule" in s else s["rate"]
        made = getattr(module, name)(rate, **options)
        if "spared" in s:
            made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return made

    return optimizer


# Steps --------------------------------------------------------------------------------------------------------------


def torch_step(setup: Setup) -> Callable[..., Any] | None:
    """A training step by hand where the settings ask for one."""
    s = setup.step
    if not s and "schedule" not in setup.optimizer:
        return None
    made = torch_loss(setup.loss)

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        if s.get("zero", True):
            optimizer.zero_grad()
        parts = s.get("parts", 1)
        total = 0.0
        for x, y in zip(batch.inputs.chunk(parts), batch.targets.chunk(parts), strict=True):
            loss = made(model(x), y) * (s.get("share", 1 / parts) if parts > 1 else 1.0)
            loss.backward()
            total = total + loss.detach()
        _clip(model, s)
        optimizer.step()
        if "schedule" in setup.optimizer:
            optimizer.scheduler.step()
        return total

    return step


def _clip(model: Any, s: Settings) -> None:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    if s.get("clip") == "value":
        torch.nn.utils.clip_grad_value_(model.parameters(), s["bound"])
    elif s.get("clip") == "norm":
        for g in grads:
            g.mul_(s["bound"] / g.norm().clamp(min=s["bound"]))
    elif s.get("clip") == "global":
        if s.get("floor"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), s["bound"])
        else:
            norm = torch.cat([g.reshape(-1) for g in grads]).norm()
            for g in grads:
                g.mul_(s["bound"] / norm.clamp(min=s["bound"]))


def pair_of(torch_side: Setup, keras_side: Setup, *, functional: bool = True) -> xcheck.Pair:
    """The pair of two setups."""

    def channels_first(batch: xcheck.Batch) -> Any:
        x: Any = batch.inputs
        return (x.transpose(0, 3, 1, 2) if torch_side.form == "image" else x), batch.targets

    def keras_build() -> Any:
        model = keras_net(keras_side, functional=functional)
        if "penalty" in keras_side.loss:
            factor = keras_side.loss["penalty"]
            kind = keras.regularizers.L1 if keras_side.loss.get("norm", 2) == 1 else keras.regularizers.L2
            layer = {each.name: each for each in model._flatten_layers()}[keras_side.loss["penalized"]]
            layer._kernel.regularizer = kind(factor)
        for name in keras_side.step.get("held", ()):
            layer = {each.name: each for each in model._flatten_layers()}[name]
            layer._kernel.constraint = keras.constraints.MaxNorm(0.5)
        return model

    return xcheck.Pair(
        name=torch_side.name,
        torch=xcheck.TorchSide(
            lambda: torch_net(torch_side),
            loss=torch_loss(torch_side.loss),
            optimizer=torch_optimizer(torch_side),
            penalty=penalty_of(torch_side),
            prepare=channels_first,
            step=torch_step(torch_side),
        ),
        keras=xcheck.KerasSide(keras_build, loss=keras_loss(keras_side.loss), optimizer=keras_optimizer(keras_side)),
        batches=batches_of(torch_side),
    )
