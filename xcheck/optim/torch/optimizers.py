"""PyTorch optimizers that follow Keras's formulas.

In the formulas `g` is the gradient after clipping, `p` the parameter, `t` the step counted from 1 and `lr`
the learning rate of that step; all of it elementwise and of the parameter's shape. Source of Keras's
formulas: `keras/src/optimizers/{sgd,rmsprop,adam,adamw,adagrad,adamax,nadam}.py` of Keras 3.15.1; of PyTorch's, for
comparison: `torch/optim/*.py` of PyTorch 2.13.0.

Clipping, decay and step count come before every update; `KerasRules` has them. Each class takes `params`,
`lr` (step per unit of what the formula multiplies by it) and, by keyword, `weight_decay`,
`clipnorm`, `clipvalue` and `global_clipnorm`, all explained there; each raises `BadInput` where `KerasRules`
does. Arguments have PyTorch's names and Keras's defaults; by keyword Keras's names (`learning_rate`, `beta_1`,
...) do as well. A step's scalars (`1 - beta^t` and the like) are computed in float64 whatever the parameter's
dtype is, where Keras computes them in the parameter's dtype.
"""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ...errors import BadInput
from .rules import KerasRules, LearningRate, Shared, grown

Betas = tuple[float, float]

__all__ = [
    "KerasAdagrad",
    "KerasAdam",
    "KerasAdamW",
    "KerasAdamax",
    "KerasNadam",
    "KerasRMSprop",
    "KerasSGD",
]


class KerasSGD(KerasRules):
    """Gradient descent as `keras.optimizers.SGD` does it.

    ```
    here:     velocity = momentum*velocity - lr*g;   p += velocity
              nesterov:                              p += momentum*velocity - lr*g
    PyTorch:  buffer = momentum*buffer + g;          p -= lr*buffer
              nesterov:                              p -= lr*(g + momentum*buffer)
    ```
    The same while the learning rate stays. After a change the velocity here still holds steps at the old
    rate. PyTorch's `dampening` has no counterpart.

    Args:
        momentum: share of the velocity that is kept, 0 to 1; 0 keeps no slot.
        nesterov: look ahead along the velocity.

    Slots: `velocity` (units of the parameter; only with momentum).

    Raises:
        BadInput: momentum outside 0 to 1.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        if not 0 <= momentum <= 1:
            raise BadInput("Momentum must be from 0 to 1.", where=type(self).__name__, numbers=f"{momentum}")
        super().__init__(params, lr, {"momentum": momentum, "nesterov": nesterov}, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        return {"velocity": torch.zeros_like(p)} if group["momentum"] else {}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""
        step = g * group["lr"]
        if not group["momentum"]:
            return step
        velocity = state["velocity"].mul_(group["momentum"]).sub_(step)
        return step - velocity * group["momentum"] if group["nesterov"] else -velocity


class KerasRMSprop(KerasRules):
    """RMSprop as `keras.optimizers.RMSprop` does it.

    ```
    both:     square_avg = rho*square_avg + (1-rho)*g^2;   grad_avg = rho*grad_avg + (1-rho)*g
              s = square_avg, centered: square_avg - grad_avg^2
    here:     u = lr*g / sqrt(s + epsilon);   velocity = momentum*velocity + u;   p -= velocity
    PyTorch:  u = g / (sqrt(s) + eps);        buffer = momentum*buffer + u;       p -= lr*buffer
    ```
    Epsilon stands inside the root here and matters where `|g|` is below `sqrt(epsilon)`, 3e-4 by default;
    PyTorch's matters where it is below 1e-8. The defaults of the decay (rho 0.9, alpha 0.99) and of the
    learning rate (1e-3, 1e-2) differ too.

    Args:
        alpha: share of the averages that is kept.
        eps: added to the mean square, so in units of the gradient squared.
        momentum: share of the velocity that is kept; 0 keeps no slot.
        centered: divide by the standard deviation instead of the root mean square.

    Slots: `square_avg` (gradient squared); `grad_avg` (gradient; centered only); `velocity` (units of the
    parameter; only with momentum).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        alpha: float = 0.9,
        eps: float = 1e-7,
        momentum: float = 0.0,
        centered: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        formula = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, lr, formula, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        names = ["square_avg"] + ["velocity"] * (group["momentum"] > 0) + ["grad_avg"] * group["centered"]
        return {name: torch.zeros_like(p) for name in names}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""
        alpha = group["alpha"]
        square = state["square_avg"].mul_(alpha).add_(g.square() * (1 - alpha))
        if group["centered"]:
            average = state["grad_avg"].mul_(alpha).add_(g * (1 - alpha))
            square = square - average.square()
        update = g * group["lr"] / (square + group["eps"]).sqrt()
        return state["velocity"].mul_(group["momentum"]).add_(update) if group["momentum"] > 0 else update


class KerasAdam(KerasRules):
    """Adam as `keras.optimizers.Adam` does it.

    ```
    both:     m += (1-beta1)*(g - m);   v += (1-beta2)*(g^2 - v);   amsgrad: below, the largest v so far
              c1 = 1 - beta1^t;   c2 = 1 - beta2^t
    here:     p -= lr*sqrt(c2)/c1 * m / (sqrt(v) + epsilon)
    PyTorch:  p -= lr/c1 * m / (sqrt(v)/sqrt(c2) + eps)
    ```
    Epsilon is added before `v` is corrected here, so it counts as `epsilon/sqrt(c2)` in PyTorch's formula:
    31.6 times more in step 1, the same in the long run. The default is 1e-7 against 1e-8.

    Args:
        betas: shares of `m` and of `v` that are kept.
        eps: in units of the gradient.
        amsgrad: divide by the root of the largest `v` so far.

    Slots: `exp_avg` (m), `exp_avg_sq` (v), `max_exp_avg_sq` (amsgrad only).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        formula = {"betas": betas, "eps": eps, "amsgrad": amsgrad}
        super().__init__(params, lr, formula, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        return {name: torch.zeros_like(p) for name in names}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""
        m, v = _moments(g, state, group)
        if group["amsgrad"]:
            v = torch.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        alpha = group["lr"] * grown(group["betas"][1], t, g).sqrt() / grown(group["betas"][0], t, g)
        return m * alpha / (v.sqrt() + group["eps"])


class KerasAdamW(KerasAdam):
    """AdamW as `keras.optimizers.AdamW` does it: `KerasAdam` with a decay that is always applied.

    ```
    both:     p -= p * weight_decay * lr, then Adam's update of the same framework
    ```
    It differs from PyTorch's AdamW as `KerasAdam` does from PyTorch's Adam, and in the default decay: 0.004
    against 0.01.

    Args:
        weight_decay: per unit of `lr`.
        betas: shares of `m` and of `v` that are kept.
        eps: in units of the gradient.
        amsgrad: divide by the root of the largest `v` so far.

    Slots: those of `KerasAdam`.

    Raises:
        BadInput: `weight_decay` is None.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        weight_decay: float = 0.004,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        amsgrad: bool = False,
        **clips: float | None,
    ) -> None:
        """Set up the optimizer; see the class."""
        if weight_decay is None:
            raise BadInput("AdamW needs a weight decay.", where=type(self).__name__, todo="use KerasAdam")
        shared = Shared(weight_decay=weight_decay, **clips)
        super().__init__(params, lr, betas, eps, amsgrad, **shared)


class KerasAdagrad(KerasRules):
    """Adagrad as `keras.optimizers.Adagrad` does it.

    ```
    both:     sum += g^2, started at initial_accumulator_value
    here:     p -= lr*g / sqrt(sum + epsilon)
    PyTorch:  p -= lr/(1 + (t-1)*lr_decay) * g / (sqrt(sum) + eps)
    ```
    Epsilon stands inside the root here. All defaults differ: the sum starts at 0.1 against 0, the learning
    rate is 1e-3 against 1e-2, epsilon 1e-7 against 1e-10.

    Args:
        initial_accumulator_value: start of the sum, in units of the gradient squared.
        eps: added to the sum, so in units of the gradient squared.

    Slots: `sum` (gradient squared).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        eps: float = 1e-7,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        formula = {"initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, lr, formula, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        return {"sum": torch.full_like(p, group["initial_accumulator_value"])}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""
        total = state["sum"].add_(g.square())
        return g * group["lr"] / (total + group["eps"]).sqrt()


class KerasAdamax(KerasRules):
    """Adamax as `keras.optimizers.Adamax` does it.

    ```
    both:     m += (1-beta1)*(g - m);   c1 = 1 - beta1^t
    here:     u = max(beta2*u, |g|);         p -= lr*m / (c1 * (u + epsilon))
    PyTorch:  u = max(beta2*u, |g| + eps);   p -= lr*m / (c1 * u)
    ```
    Epsilon is added anew in every step here; in PyTorch it enters the norm and decays with it. The default
    learning rate is 1e-3 against 2e-3, epsilon 1e-7 against 1e-8.

    Args:
        betas: shares of `m` and of `u` that are kept.
        eps: in units of the gradient.

    Slots: `exp_avg` (m), `exp_inf` (u as Keras has it, without epsilon).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        formula = {"betas": betas, "eps": eps}
        super().__init__(params, lr, formula, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        return {"exp_avg": torch.zeros_like(p), "exp_inf": torch.zeros_like(p)}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""
        m = state["exp_avg"].add_((g - state["exp_avg"]) * (1 - group["betas"][0]))
        u = torch.maximum(state["exp_inf"].mul_(group["betas"][1]), g.abs(), out=state["exp_inf"])
        return m * group["lr"] / ((u + group["eps"]) * grown(group["betas"][0], t, g))


class KerasNadam(KerasRules):
    """Nadam as `keras.optimizers.Nadam` does it.

    ```
    both:     m and v as in Adam;   c2 = 1 - beta2^t;   M_t = mu_1 * mu_2 * ... * mu_t
              n = mu_(t+1)*m/(1 - M_(t+1)) + (1 - mu_t)*g/(1 - M_t);   p -= lr * n / (sqrt(v/c2) + epsilon)
    here:     mu_t = beta1 * (1 - 0.5 * 0.96^t)
    PyTorch:  mu_t = beta1 * (1 - 0.5 * 0.96^(t*momentum_decay))
    ```
    So this is PyTorch's NAdam at `momentum_decay=1`; its default is 0.004, and the default learning rate is
    1e-3 here against 2e-3, epsilon 1e-7 against 1e-8.

    Args:
        betas: shares of `m` and of `v` that are kept.
        eps: in units of the gradient.

    Slots: `exp_avg` (m), `exp_avg_sq` (v), `mu_product` (M; shape ()).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        **shared: Unpack[Shared],
    ) -> None:
        """Set up the optimizer; see the class."""
        formula = {"betas": betas, "eps": eps}
        super().__init__(params, lr, formula, **shared)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """See the class."""
        moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return {**moments, "mu_product": torch.ones((), dtype=p.dtype)}

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """See the class."""

        def mu(i: int) -> float:
            return group["betas"][0] * (1 - 0.5 * 0.96**i)

        m, v = _moments(g, state, group)
        for i in range(int(state["step"]) + 1, t + 1):  # more than one after steps without a gradient
            state["mu_product"].mul_(mu(i))
        product = float(state["mu_product"])
        n = m * (mu(t + 1) / (1 - product * mu(t + 1))) + g * ((1 - mu(t)) / (1 - product))
        return n * group["lr"] / ((v / grown(group["betas"][1], t, g)).sqrt() + group["eps"])


def _moments(g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Update the running means of the gradient and of its square in place."""
    m = state["exp_avg"].add_((g - state["exp_avg"]) * (1 - group["betas"][0]))
    v = state["exp_avg_sq"].add_((g.square() - state["exp_avg_sq"]) * (1 - group["betas"][1]))
    return m, v
