"""What an optimizer remembers about a parameter, in words both frameworks share.

Each framework names and scales these slots its own way. A role is the name, and canonical units are those of
PyTorch: momentum is an average of gradients, where Keras keeps it multiplied by the learning rate and negated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROLES = {
    "first_moment": "decaying mean of the gradients",
    "second_moment": "decaying mean of their squares",
    "second_moment_max": "largest second moment so far (AMSGrad)",
    "gradient_mean": "decaying mean of the gradients, used to centre the second moment (RMSprop)",
    "momentum": "decaying sum of gradients, in units of the gradient",
    "accumulator": "sum of squared gradients (Adagrad)",
    "delta_accumulator": "decaying mean of squared updates (Adadelta)",
    "infinity_norm": "decaying maximum of the gradients (Adamax)",
    "average": "decaying mean of the weights (EMA)",
    "momentum_product": "product of the momentum schedule (Nadam), one number",
}
"""Every role and its meaning."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a framework keeps a role.

    Attributes:
        role: one of `ROLES`.
        times_lr: the stored value is the canonical one times this sign times the learning rate it was written
            with; 0 where it is stored as is.
    """

    role: str
    times_lr: int = 0


TORCH: dict[tuple[str, str], Slot] = {
    ("*", "exp_avg"): Slot("first_moment"),
    ("*", "exp_avg_sq"): Slot("second_moment"),
    ("*", "square_avg"): Slot("second_moment"),
    ("*", "max_exp_avg_sq"): Slot("second_moment_max"),
    ("*", "grad_avg"): Slot("gradient_mean"),
    ("*", "momentum_buffer"): Slot("momentum"),
    ("KerasSGD", "velocity"): Slot("momentum", -1),
    ("KerasRMSprop", "velocity"): Slot("momentum", +1),
    ("*", "sum"): Slot("accumulator"),
    ("*", "acc_delta"): Slot("delta_accumulator"),
    ("*", "exp_inf"): Slot("infinity_norm"),
    ("*", "mu_product"): Slot("momentum_product"),
}
"""(PyTorch optimizer class, key of its `state[parameter]`), "*" for any class."""

KERAS: dict[tuple[str, str], Slot] = {
    ("SGD", "momentums"): Slot("momentum", -1),
    ("RMSprop", "_momentums"): Slot("momentum", +1),
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
    ("*", "_momentum_buffers"): Slot("momentum"),
    ("*", "_mu_products"): Slot("momentum_product"),
}
"""(Keras optimizer class, attribute that lists one variable per trainable one), "*" for any class."""


def find(table: Mapping[tuple[str, str], Slot], classes: Sequence[str], name: str) -> Slot | None:
    """The slot that an optimizer keeps under a name, looked up by its class and then its bases.

    Args:
        table: `TORCH` or `KERAS`.
        classes: names of the optimizer's class and its bases, nearest first.
        name: such as "exp_avg" or "_velocities".
    """
    for owner in (*classes, "*"):
        if slot := table.get((owner, name)):
            return slot
    return None
