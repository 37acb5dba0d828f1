"""The common base of the Keras optimizers with PyTorch's formulas: decay, step counts, gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from ...errors import BadInput
from ..names import either_name

ops: Any = keras.ops  # a type checker thinks that any of its operations may return None


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
        learning_rate: a number, a `keras.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments.
        weight_decay: 0 or more; 0 or None for none.
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
        learning_rate: Any,
        weight_decay: float | None = 0.0,
        decoupled_weight_decay: bool = False,
        max_norm: float | None = None,
        **keras_arguments: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        if isinstance(learning_rate, int | float):
            learning_rate = float(learning_rate)
            at_least_zero(type(self).__name__, learning_rate=learning_rate)
        weight_decay = weight_decay or 0.0
        at_least_zero(type(self).__name__, weight_decay=weight_decay, max_norm=max_norm or 0.0)
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **keras_arguments)
        self.decoupled_weight_decay = decoupled_weight_decay
        self.max_norm = max_norm

    def __init_subclass__(cls) -> None:
        """Let the subclass also accept PyTorch's argument names."""
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = either_name(cls.__init__)

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
        """The arguments that create this optimizer again, without its state."""
        own = {name: getattr(self, name) for name in self.constants}
        return {**super().get_config(), "max_norm": self.max_norm, **own}

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


class AdamRules(TorchRules):
    """The arguments that the Adam optimizers share, and the two running means of most of them."""

    constants = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate: Any, betas: tuple[float, float], epsilon: float, weight_decay: float, **others: Any
    ) -> None:
        """Set up the optimizer; see the subclass."""
        at_least_zero(type(self).__name__, epsilon=epsilon)
        if not all(0 <= beta < 1 for beta in betas):
            raise BadInput("Betas must be at least 0 and below 1.", where=type(self).__name__, numbers=f"{betas}")
        super().__init__(learning_rate, weight_decay, **others)
        (self.beta_1, self.beta_2), self.epsilon = betas, epsilon

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the subclass."""
        self._momentums = self.slot(variables, "momentum")
        self._velocities = self.slot(variables, "velocity")

    def moments(self, i: int, g: Any) -> tuple[Any, Any]:
        """The running means of the gradient and of its square, brought up to date."""
        m, v = read(self._momentums[i]), read(self._velocities[i])
        m = self.keep(self._momentums[i], m + (g - m) * (1 - self.beta_1))
        v = self.keep(self._velocities[i], v * self.beta_2 + g * g * (1 - self.beta_2))
        return m, v


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
