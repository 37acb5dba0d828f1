"""How the data of a batch is handed to a training step of the model's own.

`train_on_batch` hands over (x, y, sample_weight), `fit` (x, y), or x alone, where there is no more. A step that is
written for the one may not take the other, and both are working code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from .training_step import has_own_step
from .untracked import replaced_method

REFUSED = (AttributeError, IndexError, KeyError, TypeError, UserWarning, ValueError)
"""What a step raises that takes its data otherwise."""

UNPACKED = "values to unpack"
"""In the message of Python where a tuple is of another length: nothing was computed before."""


class HandedOver:
    """Trains on a batch, in the form that the step of the model takes.

    Attributes:
        as_fit: what `fit` hands over; None before the first step.
    """

    def __init__(self) -> None:
        self.as_fit: bool | None = None

    def is_open(self, model: keras.Model) -> bool:
        """Whether a first step has to show which form the model takes."""
        return self.as_fit is None and has_own_step(model)

    def data(self, parts: Sequence[Any]) -> Any:
        """What the step of the model is handed; the argument is that of `train`."""
        return keras.utils.pack_x_y_sample_weight(*parts) if self.as_fit else tuple(parts)

    def train(self, model: keras.Model, parts: Sequence[Any], snapshot: Callable[[], Any]) -> Mapping[str, Any]:
        """A training step; what it returns.

        Args:
            model: compiled.
            parts: inputs, targets and sample weights, as tensors; None for what there is not.
            snapshot: saves what a step that fails half-way has changed.
        """
        if self.is_open(model):
            return self._tried(model, parts, snapshot())
        if self.as_fit:
            with _packed(model):
                return _train(model, parts)
        return _train(model, parts)

    def _tried(self, model: keras.Model, parts: Sequence[Any], kept: Any) -> Mapping[str, Any]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=r"(?s).*structure of `inputs`")  # a tuple, where x is expected
                made = _train(model, parts)
        except REFUSED as refused:
            kept.restore()
            model.train_function = None  # holds the step that it was made of
            try:
                with _packed(model):
                    made = _train(model, parts)
            except REFUSED as error:
                raise (error if UNPACKED in str(refused) else refused) from None
            self.as_fit = True
            return made
        self.as_fit = False
        return made


def _train(model: Any, parts: Sequence[Any]) -> Mapping[str, Any]:
    return model.train_on_batch(*parts, return_dict=True)


@contextmanager
def _packed(model: Any) -> Generator[None]:
    """The step of a model gets its data as `fit` hands it over while the block runs."""
    step = model.train_step

    def packed(data: tuple[Any, Any, Any]) -> Any:
        return step(keras.utils.pack_x_y_sample_weight(*data))

    with replaced_method(model, "train_step", packed):
        yield
