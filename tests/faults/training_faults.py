# ruff: noqa: E501
"""Faults of losses, penalties, optimizers, schedules, clipping and steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from parts import Setup
from planting import Change, Fault, Plant, loss, optimizer


def _fault(id: str, family: str, causes: str, plant: Any, **options: Any) -> Fault:
    return Fault(id, family, options.pop("phase", "loss"), tuple(causes.split()), plant, **options)


def _weights(host: Setup, rng: Random) -> tuple[float, ...]:
    return tuple(round(rng.uniform(0.5, 2.0), 1) for _ in range(host.classes))


def _penalized(wrong: dict[str, Any], base: bool = True) -> Plant:
    """A penalty of one dense layer; `wrong` is what the faulty side has in its place."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        dense = rng.choice(host.of_kind("dense")).name
        with_it = replace(host, loss={**host.loss, "penalty": 0.01, "penalized": dense})
        kept = {**with_it.loss, **wrong}
        faulty = replace(host, loss={key: value for key, value in kept.items() if value is not None})
        yield (with_it if base else host), faulty, ""

    return plant


SOFT = {"kind": "cross_entropy", "smoothing": 0.0, "ignored": None}
DICE = {"kind": "dice", "smooth": 1.0}
PREDICTING = "cross_entropy binary divergence"


def _of(kinds: str, base: dict[str, Any], **changes: Any) -> Plant:
    """A fault of a loss that hosts of these kinds are given."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        if host.loss["kind"] in kinds.split():
            yield from loss(base=base, **changes)(host, rng)

    return plant


LOSSES = [
    _fault("sum_for_mean_loss", "losses", "reduction loss_factor", loss("cross_entropy binary squares", reduction="sum")),
    _fault("loss_factor", "losses", "loss_factor constant_factor", loss(factor=lambda h, rng: rng.choice((0.5, 2.0, 0.1)))),
    _fault("softmax_twice", "losses", "from_logits activation", loss("cross_entropy", from_probabilities=True)),
    _fault("no_smoothing", "losses", "label_smoothing", loss("cross_entropy", {"smoothing": 0.1}, smoothing=0.0)),
    _fault("other_smoothing", "losses", "label_smoothing", loss("cross_entropy", {"smoothing": 0.1}, smoothing=0.2)),
    _fault("no_class_weights", "losses", "class_weights", loss("cross_entropy", {"smoothing": 0.0, "weights": _weights}, weights=None)),
    _fault("other_class_weights", "losses", "class_weights", loss("cross_entropy", {"smoothing": 0.0, "weights": _weights}, weights=_weights)),
    _fault("weights_by_count", "losses", "weighted_reduction", loss("cross_entropy", {"smoothing": 0.0, "weights": _weights}, divide_by_all=True)),
    _fault("ignored_counted", "losses", "reduction", _of("cross_entropy", {"ignored": True}, divide_by_all=True)),
    _fault("ignored_learned", "losses", "ignored_label loss_mask", _of("cross_entropy", {"ignored": True}, counted="all")),
    _fault("positive_weight", "losses", "class_weights constant_factor", loss("binary", {"positive": 3.0}, positive=1.0)),
    _fault("magnitudes", "losses", "loss_formula", loss("squares", kind="magnitudes")),
    _fault("huber_for_squares", "losses", "loss_formula", loss("squares", kind="huber", delta=1.0)),
    _fault("huber_width", "losses", "huber_width", _of("squares divergence", {"kind": "huber", "delta": 1.0}, delta=0.5)),
    _fault("swapped_divergence", "losses", "swapped_arguments", loss("divergence", swapped=True)),
    _fault("divergence_mean", "losses", "reduction loss_factor", loss("divergence", reduction="mean")),
    _fault("focal_gamma", "losses", "focal_gamma", _of("cross_entropy", {"kind": "focal", "gamma": 2.0, "alpha": 0.25, "ignored": None}, gamma=1.5)),
    _fault("focal_alpha", "losses", "focal_alpha loss_factor constant_factor", _of("cross_entropy", {"kind": "focal", "gamma": 2.0, "alpha": 0.25, "ignored": None}, alpha=1.0)),
    _fault("dice_over_batch", "losses", "axis reduction", _of("binary", DICE, per_image=False)),
    _fault("dice_smooth", "losses", "constant_offset", _of("binary squares", DICE, smooth=lambda h, rng: rng.choice((1e-5, 0.1)))),
    _fault("dice_squares", "losses", "one_sided_operation other_function other_operand", _of("binary divergence", DICE, power=2)),
    _fault("penalty_doubled", "penalties", "penalty_factor", _penalized({"penalty": 0.005})),
    _fault("penalty_missing", "penalties", "penalty_missing", _penalized({"penalty": None})),
    _fault("penalty_norm", "penalties", "penalty_norm", _penalized({"norm": 1})),
]  # fmt: skip

SGD = {"kind": "sgd", "rate": 0.1}
HEAVY = {**SGD, "momentum": 0.9}
ADAM = {"kind": "adam", "rate": 0.003, "b1": 0.9, "b2": 0.999, "eps": 1e-7, "formula": "keras"}
BY_TORCH = {**ADAM, "eps": 1e-8, "formula": "torch"}
DECAYED = {"kind": "adamw", "rate": 0.003, "eps": 1e-8, "decay": 0.1, "formula": "torch"}
PROP = {"kind": "rmsprop", "rate": 0.003, "rho": 0.9, "eps": 1e-7, "formula": "keras"}
GRAD = {"kind": "adagrad", "rate": 0.01, "start": 0.1, "eps": 1e-7, "formula": "keras"}
STEPS = {**SGD, "schedule": "steps", "every": 2}


def _update(id: str, causes: str, plant: Plant, family: str = "optimizers", **options: Any) -> Fault:
    return _fault(id, family, causes, plant, phase="update", **options)


def _dense(plant: Plant) -> Plant:
    """Only in hosts without embeddings: TensorFlow squares and clips their gradients row by row."""

    def planted(host: Setup, rng: Random) -> Iterator[Change]:
        if host.form != "tokens":
            yield from plant(host, rng)

    return planted


def _in_parts(host: Setup, rng: Random) -> Iterator[Change]:
    """Halves of a batch whose losses are added up."""
    even = replace(host, rows=host.rows + host.rows % 2)
    yield from optimizer(base=SGD, step={"parts": 1}, wrong_step={"parts": 2, "share": 1.0})(even, rng)


def _clipped(kind: str, bound: float, wrong: dict[str, Any]) -> Plant:
    return _dense(optimizer(base=SGD, step={"clip": kind, "bound": bound}, wrong_step=wrong))


UPDATES = [
    _update("rate", "optimizer_setting", optimizer(base=HEAVY, rate=0.05)),
    _update("rate_of_adam", "optimizer_setting", _dense(optimizer(base=ADAM, rate=0.001))),
    _update("momentum", "optimizer_setting", optimizer(base=HEAVY, momentum=0.99), step=2),
    _update("no_momentum", "optimizer_setting", optimizer(base=HEAVY, momentum=None), step=1),
    _update("no_nesterov", "optimizer_setting", optimizer(base={**HEAVY, "nesterov": True}, nesterov=False)),
    _update("adam_epsilon", "optimizer_setting", _dense(optimizer(base=ADAM, eps=1e-3))),
    _update("epsilon_place", "optimizer_formula", _dense(optimizer(base=BY_TORCH, formula="keras")), sides=("keras",)),
    _update("beta_2", "optimizer_setting", _dense(optimizer(base=ADAM, b2=0.99)), step=2),
    _update("amsgrad", "optimizer_setting", _dense(optimizer(base=BY_TORCH, amsgrad=True)), step=2),
    _update("decay_in_gradient", "decay_in_the_gradient", _dense(optimizer(base=DECAYED, kind="adam")), sides=("torch",)),
    _update("no_decay", "weight_decay", optimizer(base=DECAYED, decay=0.0)),
    _update("other_decay", "weight_decay", optimizer(base=DECAYED, decay=0.04)),
    _update("decay_everywhere", "decay_exclusion weight_decay", optimizer(base={**DECAYED, "spared": True}, spared=None)),
    _update("sgd_decay", "weight_decay", optimizer(base={**HEAVY, "decay": 0.1, "by_torch": True}, decay=0.0)),
    _update("rho", "optimizer_setting", _dense(optimizer(base=PROP, rho=0.99))),
    _update("rms_formula", "optimizer_formula", _dense(optimizer(base={**PROP, "eps": 1e-3}, formula="torch")), sides=("torch",)),
    _update("accumulator", "slot_start optimizer_setting", _dense(optimizer(base=GRAD, start=0.0))),
    _update("other_optimizer", "another_optimizer", _dense(optimizer(base=ADAM, kind="nadam"))),
    _update("sgd_for_adam", "another_optimizer", _dense(optimizer(base=ADAM, kind="sgd", b1=None, b2=None, eps=None, formula=None))),
    _update("slower_head", "rate_of_some", optimizer(base=SGD, slower=0.1), sides=("torch",)),
    _update("halved_by_hand", "scaled_step", optimizer(base={**SGD, "own": 1.0}, own=0.5), sides=("torch",)),
    _update("schedule_late", "schedule", optimizer(base=STEPS, late=1), family="schedules", step=2),
    _update("no_schedule", "schedule", optimizer(base={**STEPS, "every": 1}, schedule=None), family="schedules", step=2),
    _update("cosine_for_steps", "schedule", optimizer(base={**STEPS, "every": 1}, schedule="cosine"), family="schedules", step=2),
    _update("clip_bound", "clipping", _clipped("global", 0.02, {"bound": 0.05}), family="steps"),
    _update("clip_kind", "clipping", _clipped("global", 0.02, {"clip": "norm"}), family="steps"),
    _update("clip_by_value", "clipping", _clipped("norm", 0.02, {"clip": "value"}), family="steps"),
    _update("no_clip", "clipping", _clipped("global", 0.02, {"clip": None}), family="steps"),
    _update("clip_floor", "clipping_formula clipping", _clipped("global", 0.02, {"floor": True}), family="steps", sides=("torch",)),
    _fault("micro_batches_summed", "steps", "loss_factor", _in_parts, sides=("torch",)),
    _fault("zero_grad_forgotten", "steps", "gradient_not_reset", optimizer(base=SGD, step={"zero": True}, wrong_step={"zero": False}), sides=("torch",), phase="gradient", step=2),
    _update("constraint", "constraint constraint_missing", optimizer(base=SGD, wrong_step={"held": ("head",)}), family="steps", sides=("keras",)),
]  # fmt: skip


def _untrained(host: Setup, rng: Random) -> Iterator[Change]:
    for part in host.of_kind("dense"):
        yield host, host.with_part(part.but(untrained=True)), part.name


SETUPS = [_fault("untrained", "setup", "frozen_parameters", _untrained, phase="inventory")]

TRAINING_FAULTS = [*LOSSES, *UPDATES, *SETUPS]
