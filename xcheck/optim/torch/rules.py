"""The common base of the PyTorch optimizers with Keras's formulas: schedule, clipping, decay, step count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from ...errors import BadInput
from ..names import either_name, translated

LearningRate = float | Callable[[int], float]


class Shared(TypedDict, total=False):
    """Arguments that every class takes by keyword; `KerasRules` explains them."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None


def grown(share: float, t: int, like: Tensor) -> Tensor:
    """1 - share^t, the total weight of a decaying mean after t steps.

    Keras computes it in the dtype of the variable, which in float32 costs the second moment two digits in the first
    steps: 1 - 0.999 is known to 6e-5 of itself.

    Args:
        share: that is kept per step.
        t: step from 1.
        like: a tensor of the dtype and device to compute in.
    """
    return 1 - torch.tensor(share, dtype=like.dtype, device=like.device) ** t


class KerasRules(Optimizer):
    """Common rules of Keras's optimizers; a subclass adds its slots and its update.

    ```
    here:     clip g;   p -= p * weight_decay * lr;   update
    PyTorch:  g += weight_decay * p (only AdamW: p -= p * weight_decay * lr);   update
    ```
    Clipping to norm `c` multiplies by `min(1, c/norm)`, PyTorch's `clip_grad_norm_` by
    `min(1, c/(norm + 1e-6))`. All parameters share one step count, which goes on for a parameter without a
    gradient; PyTorch counts for each parameter the steps that it had a gradient in.

    Args:
        params: tensors, or groups as dicts; a group may set `lr`, `weight_decay` and the formula's constants,
            each by its name in either framework.
            A group with `"weight_decay": None` is what `exclude_from_weight_decay` is in Keras.
        lr: a number, kept as `group["lr"]` where PyTorch's schedulers find it; or a function of
            the number of steps already taken (0 in the first), called before every step for all groups.
        formula: the constants of the subclass, by PyTorch's names; they go into each group.
        weight_decay: per unit of `lr`, decoupled from the gradient in every optimizer; None for none.
        clipnorm: largest Euclidean norm of one parameter's gradient.
        clipvalue: largest absolute value of an element of a gradient.
        global_clipnorm: largest Euclidean norm of all gradients taken together.

    The three kinds of clipping and a function given as `lr` belong to the optimizer: copies and
    pickles keep them, `state_dict()` holds the slots and the groups only.

    Slots: `step` (shape (), the step count after the parameter's last update), and those of the subclass.

    Raises:
        BadInput: more than one kind of clipping, or a negative learning rate.

    Source of Keras's rules: `keras/src/optimizers/base_optimizer.py` of Keras 3.15.1.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate,
        formula: dict[str, Any],
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        """Set up the optimizer; see the class."""
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        self._clipping = {kind: limit for kind, limit in clips.items() if limit is not None}
        if len(self._clipping) > 1:
            raise BadInput(
                "Give only one of clipnorm, clipvalue and global_clipnorm.",
                where=type(self).__name__,
                numbers=f"{self._clipping}",
            )
        self._schedule = lr if callable(lr) else None
        rate = float(lr(0) if callable(lr) else lr)
        if rate < 0:
            raise BadInput("The learning rate is negative.", where=type(self).__name__, numbers=f"{rate}")
        super().__init__(params, {"lr": rate, "weight_decay": weight_decay, **formula})

    def __init_subclass__(cls) -> None:
        """Let the subclass also accept Keras's argument names."""
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = either_name(cls.__init__)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As PyTorch does; the constants may have the names of either framework.

        Args:
            param_group: with `params`.

        Raises:
            BadInput: a constant is given under both of its names.
        """
        super().add_param_group(translated(param_group, self.defaults, type(self).__name__))

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles: PyTorch's own selection, and the settings of this class."""
        return super().__getstate__() | {"_clipping": self._clipping, "_schedule": self._schedule}

    @property
    def iterations(self) -> int:
        """Steps taken so far: the largest `step` of any parameter, since each step updates at least one."""
        return max((int(state["step"]) for state in self.state.values() if "step" in state), default=0)

    def slots(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Names and start values of the slots of one parameter, without `step`."""
        raise NotImplementedError

    def decrement(self, g: Tensor, state: dict[str, Any], group: dict[str, Any], t: int) -> Tensor:
        """Amount to subtract from the parameter in step `t`; also updates the slots."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: recomputes the loss and its gradients, as for any PyTorch optimizer.

        Returns:
            What the closure returned, else None.

        Raises:
            BadInput: a gradient is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        t = self.iterations + 1
        if self._schedule is not None:
            for group in self.param_groups:
                group["lr"] = float(self._schedule(t - 1))
        found = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, _ in found:
            if p.grad.is_sparse or p.grad.is_complex():
                raise BadInput("Gradients must be dense and real.", numbers=f"shape {tuple(p.shape)}")
        gradients = self._clip([p.grad for p, _ in found])
        for (p, group), g in zip(found, gradients, strict=True):
            if group["weight_decay"] is not None:
                p.sub_(p * group["weight_decay"] * group["lr"])
            state = self.state[p]
            if "step" not in state:
                state.update({"step": torch.zeros((), dtype=torch.int64), **self.slots(p, group)})
            p.sub_(self.decrement(g, state, group, t))
            state["step"].fill_(t)
        return loss

    def _clip(self, gradients: list[Tensor]) -> list[Tensor]:
        for kind, limit in self._clipping.items():
            if limit <= 0 or not gradients:  # Keras takes 0 and below as no clipping
                break
            if kind == "clipvalue":
                return [g.clamp(-limit, limit) for g in gradients]
            squares = torch.stack([g.square().sum() for g in gradients])
            if kind == "clipnorm":
                norms = squares.sqrt().clamp(min=limit)
                return [g * limit / norm for g, norm in zip(gradients, norms, strict=True)]
            norm = squares.sum().sqrt()
            scale = limit * (1 / norm).clamp(max=1 / limit)
            return [g * (scale + (norm - norm)) for g in gradients]  # NaN for a norm that is not finite
        return gradients
