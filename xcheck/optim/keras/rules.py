"""The common base of the Keras optimizers with PyTorch's formulas: decay, step counts, gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from ...errors import BadInput

ops: Any = keras.ops  # for a static reader, any operation of it may return None


class TorchRules(keras.optimizers.Optimizer):
    """Common rules of PyTorch's optimizers; a subclass adds its slots and its update.

    ```
    here:     g += weight_decay * p;        update      (decoupled: p -= p * weight_decay * lr;   update)
    Keras:    p -= p * weight_decay * lr;   update
    ```
    Each variable has a step count of its own, which grows only with a gradient; Keras has one for all.
    `exclude_from_weight_decay` works with both kinds of decay: it is PyTorch's parameter group without one.
    Gradients that TensorFlow hands over in slices (those of an embedding) are summed to one dense tensor
    first, so that a row a batch uses twice counts with its whole gradient. Keras's own optimizers square the slices.

    Constants keep the precision of the variable's dtype, where Keras rounds some of its own through float32. A
    learning rate that is a number is held in `keras.config.floatx()`, by Keras; a schedule or a
    function is not.

    Args:
        lr: learning rate; a number, a `keras.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments.
        weight_decay: 0 or more; 0 for none.
        decoupled_weight_decay: decay the variable instead of the gradient.
        max_norm: clip all gradients together, before anything else, as `torch.nn.utils.clip_grad_norm_`
            does: by `min(1, max_norm / (norm + 1e-6))`; None for none.
        keras_arguments: other arguments of `keras.optimizers.Optimizer`, with Keras's meaning: `name`,
            `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `gradient_accumulation_steps` and so on.

    Slots: `_steps` (integers of shape (), one for each variable), and those of the subclass.

    Raises:
        BadInput: a negative learning rate, decay or `max_norm`.
        ValueError: an argument that Keras refuses.

    Source of PyTorch's rules: `torch/optim/*.py` and `torch/nn/utils/clip_grad.py` of PyTorch 2.13.0.
    """

    constants: tuple[str, ...] = ()
    """Names of the subclass's arguments, each an attribute too, for `get_config`."""

    def __init__(
        self,
        lr: Any,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        max_norm: float | None = None,
        **keras_arguments: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        if isinstance(lr, int | float):
            lr = float(lr)
            at_least_zero(type(self).__name__, lr=lr)
        at_least_zero(type(self).__name__, weight_decay=weight_decay, max_norm=max_norm or 0.0)
        super().__init__(learning_rate=lr, weight_decay=weight_decay, **keras_arguments)
        self.decoupled_weight_decay = decoupled_weight_decay
        self.max_norm = max_norm

    def build(self, variables: Sequence[Any]) -> None:
        """Create the slots, once.

        Args:
            variables: the variables that will be trained, in order.
        """
        if self.built:
            return
        super().build(variables)
        self._steps = self.scalar_slot("step", ["int"] * len(variables), "zeros")
        self.build_slots(variables)

    def slot(self, variables: Sequence[Any], name: str, start: Any = "zeros") -> list[Any]:
        """One slot for each variable, of its shape and dtype; `start` is a Keras initializer."""
        return self.add_optimizer_variables(variables, name, initializer=start)  # pyright: ignore

    def scalar_slot(self, name: str, dtypes: Sequence[str], start: str) -> list[Any]:
        """One slot of shape () for each variable."""
        return [
            self.add_variable(shape=(), initializer=start, dtype=dtype, name=f"{name}_{i}")
            for i, dtype in enumerate(dtypes)
        ]

    def build_slots(self, variables: Sequence[Any]) -> None:
        """Create the slots of the subclass, each a list in the order of `variables`."""
        raise NotImplementedError

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """Amount to subtract from a variable; also updates its slots.

        Args:
            i: position of the variable among those of `build`.
            g: gradient, with the decay in it unless that is decoupled; of the variable's shape and dtype.
            lr: learning rate; shape (), the variable's dtype.
            t: the variable's step count, from 1; shape (), the variable's dtype.
        """
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decay and update one variable.

        Args:
            gradient: of the variable's shape.
            variable: the variable.
            learning_rate: shape ().
        """
        i = self._get_variable_index(variable)
        lr = ops.convert_to_tensor(learning_rate, dtype=variable.dtype)
        g = ops.cast(gradient, variable.dtype)
        if self.weight_decay and self._use_weight_decay(variable):
            decay = read(variable) * self.weight_decay
            if self.decoupled_weight_decay:
                self.assign_sub(variable, decay * lr)
            else:
                g = g + decay
        self.assign_sub(variable, self.decrement(i, g, lr, ops.cast(self._steps[i], variable.dtype)))

    def keep(self, slot: Any, value: Any) -> Any:
        """Store a slot's new value, and return it."""
        self.assign(slot, value)
        return value

    def get_config(self) -> dict[str, Any]:
        """The constructor arguments of this optimizer, without its state."""
        config = super().get_config()
        config["lr"] = config.pop("learning_rate")
        return {**config, "max_norm": self.max_norm, **{name: getattr(self, name) for name in self.constants}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Create an optimizer from the result of `get_config`.

        Args:
            config: what `get_config` returned.
            custom_objects: classes by name, for a schedule that Keras does not know.
        """
        config = dict(config)
        if isinstance(config["lr"], dict):
            config["lr"] = keras.saving.deserialize_keras_object(config["lr"], custom_objects=custom_objects)
        return cls(**config)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: `update_step` applies the decay."""

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        dense = [ops.zeros(g.shape, g.dtype) + g if hasattr(g, "dense_shape") else g for g in grads]
        if self.max_norm is not None:
            norm = ops.sqrt(ops.sum(ops.stack([ops.sum(g * g) for g in dense])))
            scale = self.max_norm / (norm + 1e-6)
            scale = ops.where(scale >= 1, ops.ones_like(scale), scale)
            dense = [g * scale for g in dense]
        return super()._clip_gradients(dense)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        for variable in trainable_variables:
            self.assign_add(self._steps[self._get_variable_index(variable)], 1)
        super()._backend_update_step(grads, trainable_variables, learning_rate)


def read(variable: Any) -> Any:
    """A variable's tensor; its product with a number keeps the number's digits, unlike that of the variable."""
    return ops.convert_to_tensor(variable)


def larger(old: Any, new: Any) -> Any:
    """Elementwise maximum, NaN where `new` is. `ops.maximum` of float64 is float32 on Keras's torch backend."""
    return ops.where(old >= new, old, new)


def bias_correction(beta: float, t: Any) -> Any:
    """`1 - beta^t` without cancellation where `beta^t` is near 1; shape () and dtype of `t`."""
    return -ops.expm1(t * math.log(beta)) if beta else ops.ones_like(t)


def at_least_zero(where: str, **arguments: float) -> None:
    """Raise BadInput for a negative argument."""
    for name, value in arguments.items():
        if not value >= 0:
            raise BadInput(f"{name} must be 0 or more.", where=where, numbers=f"{name} = {value}")
