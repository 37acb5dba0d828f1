"""Keras optimizers that follow PyTorch's formulas, on any backend of Keras.

In the formulas `g` is the gradient after clipping (plus `weight_decay * p`, unless the decay is decoupled),
`p` the variable, `t` its step counted from 1 and `lr` the learning rate of that step; all of it elementwise
and of the variable's shape. Source of PyTorch's formulas: `torch/optim/*.py` of PyTorch 2.13.0; of Keras's,
for comparison: `keras/src/optimizers/*.py` of Keras 3.15.1.

Decay, step counts and clipping come before every update; `TorchRules` has them. Each class takes PyTorch's
arguments with PyTorch's defaults by Keras's names, `learning_rate` and `weight_decay` among them, and by
keyword `max_norm` and what all Keras optimizers take, all explained there; by keyword PyTorch's names
(`lr`, `betas`, ...) do as well. Each raises `BadInput` for numbers that PyTorch refuses. Left out: `maximize`,
and the switches of PyTorch's implementation (`foreach`, `fused`, `capturable`, `differentiable`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ...errors import BadInput
from .rules import AdamRules, TorchRules, at_least_zero, bias_correction, larger, ops, read

__all__ = ["TorchAdagrad", "TorchAdam", "TorchAdamW", "TorchAdamax", "TorchNadam", "TorchRMSprop", "TorchSGD"]

saved_by_keras = keras.saving.register_keras_serializable(package="xcheck.optim")


@saved_by_keras
class TorchSGD(TorchRules):
    """Gradient descent as `torch.optim.SGD` does it.

    ```
    here:     buffer = momentum*buffer + (1-dampening)*g   (in step 1: buffer = g)
              p -= lr*buffer;      nesterov: p -= lr*(g + momentum*buffer)
    Keras:    velocity = momentum*velocity - lr*g
              p += velocity;       nesterov: p += momentum*velocity - lr*g
    ```
    The same while the learning rate stays. After a change the whole buffer here is scaled by the new rate.

    Args:
        momentum: share of the buffer that is kept; 0 keeps no slot.
        dampening: share of the gradient that stays out of the buffer.
        nesterov: look ahead along the buffer; needs momentum and no dampening.

    Slots: `_momentum_buffers` (gradient; only with momentum).
    """

    constants = ("momentum", "dampening", "nesterov")

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        at_least_zero("TorchSGD", momentum=momentum)
        if nesterov and (momentum == 0 or dampening != 0):
            numbers = f"momentum = {momentum}, dampening = {dampening}"
            raise BadInput(
                "Nesterov momentum needs momentum above 0 and dampening 0.", where="TorchSGD", numbers=numbers
            )
        super().__init__(learning_rate, weight_decay, **others)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        self._momentum_buffers = self.slot(variables, "momentum_buffer") if self.momentum else []

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        if not self.momentum:
            return lr * g
        fresh = ops.where(t == 1, g, g * (1 - self.dampening)) if self.dampening else g
        buffer = self._momentum_buffers[i]
        buffer = self.keep(buffer, read(buffer) * self.momentum + fresh)
        return lr * (g + buffer * self.momentum) if self.nesterov else lr * buffer


@saved_by_keras
class TorchRMSprop(TorchRules):
    """RMSprop as `torch.optim.RMSprop` does it.

    ```
    both:     v = alpha*v + (1-alpha)*g^2;   a = alpha*a + (1-alpha)*g;   s = v, centered: v - a^2
    here:     u = g / (sqrt(s) + eps);        buffer = momentum*buffer + u;       p -= lr*buffer
    Keras:    u = lr*g / sqrt(s + epsilon);   velocity = momentum*velocity + u;   p -= velocity
    ```
    Epsilon stands outside the root here: 1e-8 against a Keras epsilon of 1e-7, whose root is 3e-4. The
    defaults of alpha (0.99; Keras's rho is 0.9) and of the learning rate (1e-2; 1e-3) differ too.

    Args:
        rho: share of the averages that is kept.
        epsilon: in units of the gradient.
        momentum: share of the buffer that is kept; 0 keeps no slot.
        centered: divide by the standard deviation instead of the root mean square. Nothing keeps `v - a^2`
            from rounding below zero; the result is then NaN, as in PyTorch.

    Slots: `_velocities` (v), `_average_gradients` (a; centered only), `_momentum_buffers` (no unit: gradients
    divided by their size; only with momentum).
    """

    constants = ("rho", "epsilon", "momentum", "centered")

    def __init__(
        self,
        learning_rate: Any = 1e-2,
        rho: float = 0.99,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        at_least_zero("TorchRMSprop", rho=rho, epsilon=epsilon, momentum=momentum)
        super().__init__(learning_rate, weight_decay, **others)
        self.rho, self.epsilon, self.momentum, self.centered = rho, epsilon, momentum, centered

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        self._velocities = self.slot(variables, "velocity")
        self._average_gradients = self.slot(variables, "average_gradient") if self.centered else []
        self._momentum_buffers = self.slot(variables, "momentum_buffer") if self.momentum else []

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        square = self._velocities[i]
        square = self.keep(square, read(square) * self.rho + g * g * (1 - self.rho))
        if self.centered:
            average = self._average_gradients[i]
            average = self.keep(average, read(average) * self.rho + g * (1 - self.rho))
            square = square - average * average
        update = g / (ops.sqrt(square) + self.epsilon)
        if self.momentum:
            buffer = self._momentum_buffers[i]
            update = self.keep(buffer, read(buffer) * self.momentum + update)
        return lr * update


@saved_by_keras
class TorchAdagrad(TorchRules):
    """Adagrad as `torch.optim.Adagrad` does it.

    ```
    both:     s += g^2, started at initial_accumulator_value
    here:     p -= lr/(1 + (t-1)*lr_decay) * g / (sqrt(s) + eps)
    Keras:    p -= lr*g / sqrt(s + epsilon)
    ```
    Epsilon stands outside the root here. All defaults differ: the sum starts at 0 (Keras: 0.1), the learning
    rate is 1e-2 (1e-3), epsilon 1e-10 (1e-7).

    Args:
        lr_decay: growth per step of what the learning rate is divided by.
        initial_accumulator_value: start of the sum, in units of the gradient squared.
        epsilon: in units of the gradient.

    Slots: `_accumulators` (s).
    """

    constants = ("lr_decay", "initial_accumulator_value", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-10,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        start = initial_accumulator_value
        at_least_zero("TorchAdagrad", lr_decay=lr_decay, initial_accumulator_value=start, epsilon=epsilon)
        super().__init__(learning_rate, weight_decay, **others)
        self.lr_decay, self.initial_accumulator_value, self.epsilon = lr_decay, start, epsilon

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        start = keras.initializers.Constant(np.float64(self.initial_accumulator_value))  # keeps its digits
        self._accumulators = self.slot(variables, "accumulator", start)

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        total = self.keep(self._accumulators[i], read(self._accumulators[i]) + g * g)
        return lr / ((t - 1) * self.lr_decay + 1) * g / (ops.sqrt(total) + self.epsilon)


@saved_by_keras
class TorchAdam(AdamRules):
    """Adam as `torch.optim.Adam` does it.

    ```
    both:     m += (1-beta1)*(g - m);   v += (1-beta2)*(g^2 - v);   amsgrad: below, the largest v so far
              c1 = 1 - beta1^t;   c2 = 1 - beta2^t
    here:     p -= lr/c1 * m / (sqrt(v)/sqrt(c2) + eps)
    Keras:    p -= lr*sqrt(c2)/c1 * m / (sqrt(v) + epsilon)
    ```
    Epsilon is added after `v` is corrected here; Keras's counts as `epsilon/sqrt(c2)` in this formula, 31.6
    times more in step 1. The default is 1e-8 against 1e-7.

    Args:
        beta_1: share of `m` that is kept.
        beta_2: share of `v` that is kept.
        epsilon: in units of the gradient.
        amsgrad: divide by the root of the largest `v` so far.
        decoupled_weight_decay: decay the variable instead of the gradient; this is AdamW.

    Slots: `_momentums` (m), `_velocities` (v), `_velocity_hats` (amsgrad only).
    """

    constants = (*AdamRules.constants, "amsgrad", "decoupled_weight_decay")

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        decoupled_weight_decay: bool = False,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        others["decoupled_weight_decay"] = decoupled_weight_decay
        super().__init__(learning_rate, (beta_1, beta_2), epsilon, weight_decay, **others)
        self.amsgrad = amsgrad

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        super().build_slots(variables)
        self._velocity_hats = self.slot(variables, "velocity_hat") if self.amsgrad else []

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        m, v = self.moments(i, g)
        if self.amsgrad:
            v = self.keep(self._velocity_hats[i], larger(read(self._velocity_hats[i]), v))
        root = ops.sqrt(v) / ops.sqrt(bias_correction(self.beta_2, t))
        return lr / bias_correction(self.beta_1, t) * m / (root + self.epsilon)


@saved_by_keras
class TorchAdamW(TorchAdam):
    """AdamW as `torch.optim.AdamW` does it: `TorchAdam` with decoupled decay.

    ```
    both:     p -= p * weight_decay * lr, then Adam's update of the same framework
    ```
    The default decay is 0.01 against 0.004.

    Args:
        beta_1: share of `m` that is kept.
        beta_2: share of `v` that is kept.
        epsilon: in units of the gradient.
        amsgrad: divide by the root of the largest `v` so far.

    Slots: those of `TorchAdam`.
    """

    constants = (*AdamRules.constants, "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        others["decoupled_weight_decay"] = True
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, amsgrad, **others)


@saved_by_keras
class TorchAdamax(AdamRules):
    """Adamax as `torch.optim.Adamax` does it.

    ```
    both:     m += (1-beta1)*(g - m);   c1 = 1 - beta1^t
    here:     u = max(beta2*u, |g| + eps);   p -= lr/c1 * m/u
    Keras:    u = max(beta2*u, |g|);         p -= lr*m / (c1 * (u + epsilon))
    ```
    Epsilon enters the norm here and decays with it. The default learning rate is 2e-3 against 1e-3, epsilon
    1e-8 against 1e-7.

    Args:
        beta_1: share of `m` that is kept.
        beta_2: share of `u` that is kept.
        epsilon: in units of the gradient.

    Slots: `_m` (m), `_u` (u as PyTorch has it, with epsilon in it).
    """

    def __init__(
        self,
        learning_rate: Any = 2e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        super().__init__(learning_rate, (beta_1, beta_2), epsilon, weight_decay, **others)

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        self._m = self.slot(variables, "momentum")
        self._u = self.slot(variables, "norm")

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        m, u = read(self._m[i]), read(self._u[i])
        m = self.keep(self._m[i], m + (g - m) * (1 - self.beta_1))
        u = self.keep(self._u[i], larger(u * self.beta_2, ops.abs(g) + self.epsilon))
        return lr / bias_correction(self.beta_1, t) * m / u


@saved_by_keras
class TorchNadam(AdamRules):
    """Nadam as `torch.optim.NAdam` does it.

    ```
    both:     m and v as in Adam;   c2 = 1 - beta2^t;   M_t = mu_1 * mu_2 * ... * mu_t
              n = mu_(t+1)*m/(1 - M_(t+1)) + (1 - mu_t)*g/(1 - M_t);   p -= lr * n / (sqrt(v/c2) + eps)
    here:     mu_t = beta1 * (1 - 0.5 * 0.96^(t*momentum_decay))
    Keras:    mu_t = beta1 * (1 - 0.5 * 0.96^t)
    ```
    So Keras's is this one at `momentum_decay=1`. The default learning rate is 2e-3 against 1e-3, epsilon 1e-8
    against 1e-7.

    Args:
        beta_1: share of `m` that is kept in the long run.
        beta_2: share of `v` that is kept.
        epsilon: in units of the gradient.
        momentum_decay: pace at which the momentum grows to `beta_1`.
        decoupled_weight_decay: decay the variable instead of the gradient.

    Slots: `_momentums` (m), `_velocities` (v), `_mu_products` (M; shape (), one for each variable).
    """

    constants = (*AdamRules.constants, "momentum_decay", "decoupled_weight_decay")

    def __init__(
        self,
        learning_rate: Any = 2e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **others: Any,
    ) -> None:
        """Set up the optimizer; see the class."""
        at_least_zero("TorchNadam", momentum_decay=momentum_decay)
        others["decoupled_weight_decay"] = decoupled_weight_decay
        super().__init__(learning_rate, (beta_1, beta_2), epsilon, weight_decay, **others)
        self.momentum_decay = momentum_decay

    def build_slots(self, variables: Sequence[Any]) -> None:
        """See the class."""
        super().build_slots(variables)
        self._mu_products = self.scalar_slot("mu_product", [v.dtype for v in variables], "ones")

    def decrement(self, i: int, g: Any, lr: Any, t: Any) -> Any:
        """See the class."""
        m, v = self.moments(i, g)
        mu, mu_next = self._mu(t), self._mu(t + 1)
        product = self.keep(self._mu_products[i], read(self._mu_products[i]) * mu)
        n = m * (mu_next / (1 - product * mu_next)) + g * ((1 - mu) / (1 - product))
        return lr * n / (ops.sqrt(v / bias_correction(self.beta_2, t)) + self.epsilon)

    def _mu(self, t: Any) -> Any:
        return (1 - 0.5 * ops.exp(t * (self.momentum_decay * math.log(0.96)))) * self.beta_1
