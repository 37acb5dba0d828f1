"""What a Keras optimizer says of itself, in numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import keras

from ...errors import UserCodeError
from ...pairs.user_code import calling
from ...records.inventory import UPDATE_COUNTS
from ..protocol import SCHEDULED, known_kind
from .variables import to_numpy, unwrapped


def facts(optimizer: Any) -> Mapping[str, Any]:
    """Its class, the nearest class of Keras's own or of `xcheck.optim`, its numbers and its learning rates to come.

    Args:
        optimizer: of the model; None where nothing trains.
    """
    optimizer = unwrapped(optimizer)
    return {
        "optimizer": type(optimizer).__name__,
        "optimizer_kind": known_kind(optimizer, ("keras.", "xcheck.optim.")),
        "optimizer_settings": _settings(optimizer),
        "schedule": _schedule(optimizer),
    }


def _settings(optimizer: Any) -> dict[str, Any]:
    """The numbers of its config, its learning rate as it is now."""
    if optimizer is None:
        return {}
    config = {**_config(optimizer), "learning_rate": float(to_numpy(optimizer.learning_rate))}
    if isinstance(config.get("betas"), tuple | list):
        config |= dict(zip(("beta_1", "beta_2"), config["betas"], strict=True))
    return {name: value for name, value in config.items() if isinstance(value, int | float)}


def _config(optimizer: Any) -> dict[str, Any]:
    """Its config; its attributes where it cannot be serialized, as with a user's schedule that has no `get_config`."""
    with suppress(UserCodeError), calling("get_config of the optimizer"):
        return optimizer.get_config()
    named = (name for c in type(optimizer).__mro__ for name in inspect.signature(c.__init__).parameters)
    return {name: getattr(optimizer, name) for name in named if name in vars(optimizer)}


def _schedule(optimizer: Any) -> list[float]:
    """Learning rates of the first steps, where it has a schedule."""
    rate = getattr(optimizer, "_learning_rate", None)
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return []
    return [_rate(rate, optimizer, taken) for taken in range(SCHEDULED)]


def _rate(schedule: Any, optimizer: Any, updates: int) -> float:
    """What a schedule gives for a count of updates, given as the optimizer gives it: a tensor."""
    with calling("learning rate schedule"):
        return float(to_numpy(schedule(keras.ops.convert_to_tensor(updates, optimizer.iterations.dtype))))


def rates(model: Any) -> dict[int, float]:
    """The learning rate after each number of updates of `UPDATE_COUNTS`; nothing where other code may set it.

    Args:
        model: compiled.
    """
    optimizer = unwrapped(model.optimizer)
    if not type(optimizer).__module__.startswith(("keras.", "xcheck.optim.")):
        return {}
    rate = getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return {n: _rate(rate, optimizer, n) for n in UPDATE_COUNTS}
    own = any("train_step" in vars(c) for c in type(model).__mro__ if not c.__module__.startswith("keras."))
    return {} if own else dict.fromkeys(UPDATE_COUNTS, float(to_numpy(optimizer.learning_rate)))
