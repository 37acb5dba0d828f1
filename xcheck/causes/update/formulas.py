"""What each optimizer does with a gradient, by both frameworks' formulas, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...records.trace import Array, Arrays

Style = Literal["torch", "keras"]
Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Start:
    """What the update of one parameter is made from.

    Attributes:
        gradient: after clipping, and with a decay that is a part of it.
        squares: its square; or the sum of the squares of what it is a sum of.
        slots: role -> value before the step.
        t: step from 1.
    """

    gradient: Array
    squares: Array
    slots: Arrays
    t: int

    def slot(self, role: str) -> Array:
        """The slot of a role; it starts from zero."""
        return self.slots.get(role, np.zeros_like(self.gradient))


Formula = Callable[[Style, Start, Settings], tuple[Array, Arrays]]
"""(style, start, settings) -> what is added to the parameter, and the slots afterwards."""

Effective = Callable[[Settings, Arrays, Arrays, Array, Array], Array]
"""(settings, slots before, slots after, update, gradient) -> the gradient that the slots tell of."""


def _adam(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    m = s["beta_1"] * at.slot("first_moment") + (1 - s["beta_1"]) * at.gradient
    v = s["beta_2"] * at.slot("second_moment") + (1 - s["beta_2"]) * at.squares
    slots = {"first_moment": m, "second_moment": v}
    if s["amsgrad"]:
        v = slots["second_moment_max"] = np.maximum(at.slot("second_moment_max"), v)
    first, second = (1 - s["bias_correction"] * s[beta] ** at.t for beta in ("beta_1", "beta_2"))
    if style == "torch":
        return -s["learning_rate"] * (m / first) / (np.sqrt(v / second) + s["epsilon"]), slots
    return -s["learning_rate"] * np.sqrt(second) / first * m / (np.sqrt(v) + s["epsilon"]), slots


def _nadam(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    def mu(i: int) -> float:
        return s["beta_1"] * (1 - 0.5 * 0.96 ** (i * s["momentum_decay"]))

    m = s["beta_1"] * at.slot("first_moment") + (1 - s["beta_1"]) * at.gradient
    v = s["beta_2"] * at.slot("second_moment") + (1 - s["beta_2"]) * at.squares
    product = at.slots.get("momentum_product", np.ones(())) * mu(at.t)
    n = mu(at.t + 1) * m / (1 - product * mu(at.t + 1)) + (1 - mu(at.t)) * at.gradient / (1 - product)
    root = np.sqrt(v / (1 - s["beta_2"] ** at.t)) + s["epsilon"]
    return -s["learning_rate"] * n / root, {"first_moment": m, "second_moment": v, "momentum_product": product}


def _adamax(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    m = s["beta_1"] * at.slot("first_moment") + (1 - s["beta_1"]) * at.gradient
    size = np.abs(at.gradient) + (s["epsilon"] if style == "torch" else 0.0)
    u = np.maximum(s["beta_2"] * at.slot("infinity_norm"), size)
    below = u if style == "torch" else u + s["epsilon"]
    return -s["learning_rate"] * m / ((1 - s["beta_1"] ** at.t) * below), {"first_moment": m, "infinity_norm": u}


def _rmsprop(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    v = s["rho"] * at.slot("second_moment") + (1 - s["rho"]) * at.squares
    slots, spread = {"second_moment": v}, v
    if s["centered"]:
        slots["gradient_mean"] = s["rho"] * at.slot("gradient_mean") + (1 - s["rho"]) * at.gradient
        spread = v - slots["gradient_mean"] ** 2
    root = np.sqrt(spread) + s["epsilon"] if style == "torch" else np.sqrt(spread + s["epsilon"])
    update = -s["learning_rate"] * at.gradient / root
    if s["momentum"]:
        update = slots["momentum"] = s["momentum"] * at.slot("momentum") + update
    return update, slots


def _adagrad(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    rate = s["learning_rate"] / (1 + (at.t - 1) * s["lr_decay"])
    start = np.full_like(at.gradient, s["initial_accumulator_value"])
    total = (at.slot("accumulator") if at.t > 1 else start) + at.squares
    root = np.sqrt(total) + s["epsilon"] if style == "torch" else np.sqrt(total + s["epsilon"])
    return -rate * at.gradient / root, {"accumulator": total}


def _adadelta(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    v = s["rho"] * at.slot("second_moment") + (1 - s["rho"]) * at.squares
    delta = np.sqrt(at.slot("delta_accumulator") + s["epsilon"]) / np.sqrt(v + s["epsilon"]) * at.gradient
    moved = s["rho"] * at.slot("delta_accumulator") + (1 - s["rho"]) * delta**2
    return -s["learning_rate"] * delta, {"second_moment": v, "delta_accumulator": moved}


def _sgd(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    step = -s["learning_rate"] * at.gradient
    if not s["momentum"]:
        return step, {}
    before = at.slot("momentum")
    share = 1.0 - s["dampening"] if before.any() else 1.0  # PyTorch's first step has none
    velocity = s["momentum"] * before + share * step
    return (s["momentum"] * velocity + step if s["nesterov"] else velocity), {"momentum": velocity}


def _lion(style: Style, at: Start, s: Settings) -> tuple[Array, Arrays]:
    m, g = at.slot("first_moment"), at.gradient
    way = np.sign(s["beta_1"] * m + (1 - s["beta_1"]) * g)
    return -s["learning_rate"] * way, {"first_moment": s["beta_2"] * m + (1 - s["beta_2"]) * g}


def _of_lion(s: Settings, before: Arrays, after: Arrays, update: Array, g: Array) -> Array:
    return _of_first_moment({"beta_1": s["beta_2"]}, before, after, update, g)


def _of_first_moment(s: Settings, before: Arrays, after: Arrays, update: Array, g: Array) -> Array:
    m = before.get("first_moment", np.zeros_like(g))
    return (after["first_moment"] - s["beta_1"] * m) / (1 - s["beta_1"])


def _of_squares(role: str, kept: str | None) -> Effective:
    def effective(s: Settings, before: Arrays, after: Arrays, update: Array, g: Array) -> Array:
        start = np.full_like(g, s.get("initial_accumulator_value", 0.0))
        share = s[kept] if kept else 1.0
        new = (after[role] - share * before.get(role, start)) / (1 - share if kept else 1.0)
        return np.sign(g) * np.sqrt(np.maximum(new, 0.0))

    return effective


def _of_update(s: Settings, before: Arrays, after: Arrays, update: Array, g: Array) -> Array:
    kept = s["momentum"] * before.get("momentum", np.zeros_like(g))
    return (kept - after.get("momentum", update)) / s["learning_rate"]


@dataclass(frozen=True, slots=True)
class Family:
    """One optimizer of both frameworks.

    Attributes:
        formula: of its update.
        settings: our name of each setting -> its names in the two frameworks.
        effective: reads the gradient that went in off what came out.
        places: where the formulas differ; "" if they do not.
        optional: settings that a framework may lack -> what that means.
    """

    formula: Formula
    settings: Mapping[str, tuple[str, ...]]
    effective: Effective
    places: str = ""
    optional: Settings = field(default_factory=dict[str, float])

    @property
    def tells_of_gradient(self) -> bool:
        """Whether the slots say what went in, whatever the learning rate is."""
        return self.effective is not _of_update

    def read(self, given: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float] | None:
        """The settings of a side by our names; None where one is unknown.

        Args:
            given: by the names of the side.
            other: the other side's, by its names, for those that the side does not give: they are tried.
        """
        found: dict[str, float] = {}
        for name, spellings in self.settings.items():
            usual = next((other[s] for s in spellings if s in other), None)
            value = next((given[s] for s in spellings if s in given), self.optional.get(name, usual))
            if not isinstance(value, int | float):
                return None
            found[name] = float(value)
        return found


_LR = {"learning_rate": ("lr", "learning_rate")}
_EPS = {"epsilon": ("eps", "epsilon")}
_BETAS = {"beta_1": ("beta_1",), "beta_2": ("beta_2",)}
_MOMENTUM = {"momentum": ("momentum",)}
_WHERE_ADAM = "Keras adds epsilon before the bias correction of the second moment, PyTorch after it"
_WHERE_ROOT = "Keras adds epsilon inside the root, PyTorch outside of it"
_WHERE_NORM = "Keras adds epsilon to the norm where it divides by it, PyTorch where it keeps it"
_ADAM = Family(
    _adam,
    {**_LR, **_BETAS, **_EPS, "amsgrad": ("amsgrad",), "bias_correction": ("bias_correction", "correct_bias")},
    _of_first_moment,
    _WHERE_ADAM,
    {"amsgrad": 0.0, "bias_correction": 1.0},
)
FAMILIES: dict[str, Family] = {
    "SGD": Family(
        _sgd,
        {**_LR, **_MOMENTUM, "nesterov": ("nesterov",), "dampening": ("dampening",)},
        _of_update,
        optional={"momentum": 0.0, "nesterov": 0.0, "dampening": 0.0},
    ),
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": Family(_adamax, {**_LR, **_BETAS, **_EPS}, _of_first_moment, _WHERE_NORM),
    "Nadam": Family(
        _nadam,
        {**_LR, **_BETAS, **_EPS, "momentum_decay": ("momentum_decay",)},
        _of_first_moment,
        optional={"momentum_decay": 1.0},
    ),
    "RMSprop": Family(
        _rmsprop,
        {**_LR, "rho": ("alpha", "rho"), **_EPS, **_MOMENTUM, "centered": ("centered",)},
        _of_squares("second_moment", "rho"),
        _WHERE_ROOT,
        {"momentum": 0.0, "centered": 0.0},
    ),
    "Adagrad": Family(
        _adagrad,
        {**_LR, **_EPS, "initial_accumulator_value": ("initial_accumulator_value",), "lr_decay": ("lr_decay",)},
        _of_squares("accumulator", None),
        _WHERE_ROOT,
        {"lr_decay": 0.0},
    ),
    "Lion": Family(_lion, {**_LR, **_BETAS}, _of_lion),
    "Adadelta": Family(_adadelta, {**_LR, "rho": ("rho",), **_EPS}, _of_squares("second_moment", "rho")),
}
"""By the name of the class in Keras, without the "Keras" or "Torch" of the followers in `xcheck.optim`."""

FOLLOWED = frozenset(FAMILIES) - {"Lion", "Adadelta"}
"""Those that `xcheck.optim` has for the other framework."""

SWITCHES = ("bias_correction",)
"""Settings by our names that an optimizer of a user's own may leave out, and no class of a framework has."""

TORCH_ALONE = frozenset({"dampening", "momentum_decay", "lr_decay"})
"""Settings by our names that no class with Keras's formulas has."""

COUPLED: frozenset[str] = frozenset(FAMILIES) - {"AdamW", "Lion"}
"""Those whose `weight_decay` in PyTorch is a part of the gradient; in Keras it never is."""


def family_named(optimizer: str) -> tuple[str, Family | None, Style | None]:
    """("Adam", its family, "keras") for KerasAdam, ("Adam", its family, None) for Adam.

    Args:
        optimizer: name of the class.
    """
    prefixes: dict[str, Style] = {"Keras": "keras", "Torch": "torch"}
    prefix = next((p for p in prefixes if optimizer.startswith(p)), "")
    optimizer, style = optimizer.removeprefix(prefix), prefixes.get(prefix)
    name = next((known for known in FAMILIES if known.casefold() == optimizer.casefold()), optimizer)
    return name, FAMILIES.get(name), style
