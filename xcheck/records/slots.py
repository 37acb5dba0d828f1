"""Optimizer slots: the state per parameter, under names common to both frameworks.

Each framework names and scales its slots differently. A role is the common name. The canonical momentum is the amount
added to the weight, as in Keras's SGD; PyTorch stores a sum of gradients, which the learning rate converts to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .trace import Array

ROLES = {
    "first_moment": "decaying mean of the gradients",
    "second_moment": "decaying mean of their squares",
    "second_moment_max": "largest second moment so far (AMSGrad)",
    "gradient_mean": "decaying mean of the gradients, used to centre the second moment (RMSprop)",
    "momentum": "decaying sum of steps, in units of the weight and added to it",
    "accumulator": "sum of squared gradients (Adagrad)",
    "delta_accumulator": "decaying mean of squared updates (Adadelta)",
    "infinity_norm": "decaying maximum of the gradients (Adamax)",
    "average": "decaying mean of the weights (EMA)",
    "momentum_product": "product of the momentum schedule (Nadam), one number",
}
"""Every role and its meaning."""

AVERAGE = "average"
"""Role of the decaying mean of a weight; a number follows for each further mean of the same weight."""

ADDED_UP = ("momentum", AVERAGE)
"""Roles in units of the weight: summed where two parameters are summed; all other roles are in units of gradients."""


@dataclass(frozen=True, slots=True)
class Slot:
    """How a framework stores a role.

    Attributes:
        role: one of `ROLES`.
        sign: of the canonical value relative to the stored one.
        times_lr: the canonical value is also multiplied by the learning rate of the last update.
    """

    role: str
    sign: int = 1
    times_lr: bool = False

    def canonical(self, stored: Array, learning_rate: float) -> Array:
        """The value in the units of the role.

        Args:
            stored: the framework's value.
            learning_rate: of the update that produced it.
        """
        if not self.times_lr:
            return stored if self.sign > 0 else -stored
        return stored * (self.sign * learning_rate)

    def stored(self, canonical: Array, learning_rate: float) -> Array | None:
        """The inverse; None where it would divide by a learning rate of zero."""
        if not self.times_lr:
            return canonical if self.sign > 0 else -canonical
        return canonical / (self.sign * learning_rate) if learning_rate else None


TORCH: dict[tuple[str, str], Slot] = {
    ("*", "exp_avg"): Slot("first_moment"),
    ("*", "exp_avg_sq"): Slot("second_moment"),
    ("*", "square_avg"): Slot("second_moment"),
    ("*", "max_exp_avg_sq"): Slot("second_moment_max"),
    ("*", "grad_avg"): Slot("gradient_mean"),
    ("*", "momentum_buffer"): Slot("momentum", -1, times_lr=True),
    ("KerasSGD", "velocity"): Slot("momentum"),
    ("KerasRMSprop", "velocity"): Slot("momentum", -1),
    ("*", "sum"): Slot("accumulator"),
    ("*", "acc_delta"): Slot("delta_accumulator"),
    ("*", "exp_inf"): Slot("infinity_norm"),
    ("*", "mu_product"): Slot("momentum_product"),
    ("*", "average"): Slot("average"),
}
"""(PyTorch optimizer class, key of its `state[parameter]`), "*" for any class."""

KERAS: dict[tuple[str, str], Slot] = {
    ("SGD", "momentums"): Slot("momentum"),
    ("RMSprop", "_momentums"): Slot("momentum", -1),
    ("*", "_momentums"): Slot("first_moment"),
    ("*", "_velocities"): Slot("second_moment"),
    ("*", "_velocity_hats"): Slot("second_moment_max"),
    ("*", "_average_gradients"): Slot("gradient_mean"),
    ("*", "_accumulators"): Slot("accumulator"),
    ("Adadelta", "_accumulated_grads"): Slot("second_moment"),
    ("*", "_accumulated_delta_vars"): Slot("delta_accumulator"),
    ("*", "_m"): Slot("first_moment"),
    ("*", "_u"): Slot("infinity_norm"),
    ("*", "_model_variables_moving_average"): Slot("average"),
    ("*", "_momentum_buffers"): Slot("momentum", -1, times_lr=True),
    ("*", "_mu_products"): Slot("momentum_product"),
}
"""(Keras optimizer class, attribute that lists one variable per trainable one), "*" for any class."""


def find(table: Mapping[tuple[str, str], Slot], classes: Sequence[str], name: str) -> Slot | None:
    """The slot of an optimizer with this name, looked up by its class and then its bases.

    Args:
        table: `TORCH` or `KERAS`.
        classes: names of the optimizer's class and its bases, nearest first.
        name: such as "exp_avg" or "_velocities".
    """
    for owner in (*classes, "*"):
        if slot := table.get((owner, name)):
            return slot
    return None
