"""Causes in the update: another formula, or another setting of the same one.

Both sides' updates are recomputed in NumPy from the gradient and the slots they started from, each by the formula and
the settings its optimizer says it has. Where both come out as they were observed, what differs between the two
recomputations is the cause, and it is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..compare import measure
from ..matching import Match, MatchPlan, SideName
from ..result import Cause
from ..trace import Array, Arrays, StepRecord

Style = Literal["torch", "keras"]
Settings = Mapping[str, float]
Formula = Callable[[Style, Array, Arrays, int, Settings], Array]

REPRODUCED = 1e-9
"""Largest relative difference of a recomputed update from the observed one: below what a setting off by 1e-8 makes,
and far above the rounding of reading an update off as a difference of two weights."""


def _adam(style: Style, g: Array, slots: Arrays, t: int, s: Settings) -> Array:
    m = s["beta_1"] * slots.get("first_moment", np.zeros_like(g)) + (1 - s["beta_1"]) * g
    v = s["beta_2"] * slots.get("second_moment", np.zeros_like(g)) + (1 - s["beta_2"]) * g**2
    first, second = 1 - s["beta_1"] ** t, 1 - s["beta_2"] ** t
    if style == "torch":
        return -s["learning_rate"] * (m / first) / (np.sqrt(v / second) + s["epsilon"])
    return -s["learning_rate"] * np.sqrt(second) / first * m / (np.sqrt(v) + s["epsilon"])


def _rmsprop(style: Style, g: Array, slots: Arrays, t: int, s: Settings) -> Array:
    v = s["rho"] * slots.get("second_moment", np.zeros_like(g)) + (1 - s["rho"]) * g**2
    inside = np.sqrt(v) + s["epsilon"] if style == "torch" else np.sqrt(v + s["epsilon"])
    return -s["learning_rate"] * g / inside


def _adagrad(style: Style, g: Array, slots: Arrays, t: int, s: Settings) -> Array:
    total = slots.get("accumulator", np.full_like(g, s["initial_accumulator_value"])) + g**2
    inside = np.sqrt(total) + s["epsilon"] if style == "torch" else np.sqrt(total + s["epsilon"])
    return -s["learning_rate"] * g / inside


def _sgd(style: Style, g: Array, slots: Arrays, t: int, s: Settings) -> Array:
    return s["momentum"] * slots.get("momentum", np.zeros_like(g)) - s["learning_rate"] * g


@dataclass(frozen=True, slots=True)
class Family:
    """One optimizer of both frameworks.

    Attributes:
        formula: (style, gradient, slots before, step from 1, settings) -> update.
        settings: our name of each setting -> its names in the two frameworks.
        places: where the formulas differ; "" if they do not.
    """

    formula: Formula
    settings: Mapping[str, tuple[str, ...]]
    places: str = ""


_LR = {"learning_rate": ("lr", "learning_rate")}
_EPS = {"epsilon": ("eps", "epsilon")}
_BETAS = {"beta_1": ("beta_1",), "beta_2": ("beta_2",)}
_WHERE_ADAM = "Keras adds epsilon before the bias correction of the second moment, PyTorch after it"
_WHERE_ROOT = "Keras adds epsilon inside the root, PyTorch outside of it"
FAMILIES: dict[str, Family] = {
    "SGD": Family(_sgd, {**_LR, "momentum": ("momentum",)}),
    "Adam": Family(_adam, {**_LR, **_BETAS, **_EPS}, _WHERE_ADAM),
    "RMSprop": Family(_rmsprop, {**_LR, "rho": ("alpha", "rho"), **_EPS}, _WHERE_ROOT),
    "Adagrad": Family(
        _adagrad, {**_LR, **_EPS, "initial_accumulator_value": ("initial_accumulator_value",)}, _WHERE_ROOT
    ),
}
"""By the name of the class, without the "Keras" or "Torch" of the followers in `xcheck.optim`."""


def update_causes(
    plan: MatchPlan, record: StepRecord, other: StepRecord, torch: Mapping[str, Any], keras: Mapping[str, Any]
) -> list[Cause]:
    """What makes the updates differ, where the gradients agree.

    Args:
        plan: of the run.
        record: step of the reference.
        other: the same step of the other side.
        torch, keras: environments of the sides, with "optimizer" and "optimizer_settings".
    """
    sides = {"torch": torch, "keras": keras}
    named = {side: _family(str(facts.get("optimizer", ""))) for side, facts in sides.items()}
    (torch_name, torch_style), (keras_name, keras_style) = named["torch"], named["keras"]
    family = FAMILIES.get(torch_name)
    if family is None or torch_name != keras_name:
        return []
    settings = {side: _settings(family, facts.get("optimizer_settings", {})) for side, facts in sides.items()}
    if any(len(found) < len(family.settings) for found in settings.values()):
        return []
    styles: dict[str, Style] = {
        "torch": "keras" if torch_style == "keras" else "torch",
        "keras": "torch" if keras_style == "torch" else "keras",
    }
    proven = _reproduced(plan, family, record, other, styles, settings)
    causes: list[Cause] = []
    if styles["torch"] != styles["keras"] and family.places:
        causes.append(_formula_cause(torch_name, family, plan, record, other, sides, proven))
    for name in family.settings:
        values = settings["torch"][name], settings["keras"][name]
        if values[0] != values[1]:
            causes.append(_setting_cause(torch_name, family, name, values, proven))
    return causes


def _family(optimizer: str) -> tuple[str, str]:
    """("Adam", "keras") for KerasAdam, ("Adam", "") for Adam."""
    for style in ("Keras", "Torch"):
        if optimizer.startswith(style):
            return optimizer.removeprefix(style), style.lower()
    return optimizer, ""


def _settings(family: Family, given: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, spellings in family.settings.items():
        value = next((given[s] for s in spellings if s in given), None)
        if isinstance(value, int | float):
            found[name] = float(value)
    return found


def _reproduced(
    plan: MatchPlan,
    family: Family,
    record: StepRecord,
    other: StepRecord,
    styles: Mapping[str, Style],
    settings: Mapping[str, Settings],
) -> bool:
    compared = 0
    both: tuple[tuple[SideName, StepRecord], ...] = ((plan.reference, record), (plan.follower, other))
    for side, made in both:
        for path in dict.fromkeys(path for match in plan.parameters for path in match.piece(side).paths):
            gradient, update = made.gradients.get(path), made.update(path)
            if gradient is None or update is None or not update.any():
                continue
            slots, t = made.before.slots.get(path, {}), made.before.updates + 1
            again = family.formula(styles[side], gradient, slots, t, settings[side])
            scale = float(np.abs(made.before.value(path)).max()) * np.finfo(np.float64).eps * 1e6
            if measure(update, again, floor=scale).element > REPRODUCED:
                return False
            compared += 1
    return compared > 0


def _formula_cause(
    name: str,
    family: Family,
    plan: MatchPlan,
    record: StepRecord,
    other: StepRecord,
    sides: Mapping[str, Mapping[str, Any]],
    proven: bool,
) -> Cause:
    effects = [_effect(plan, match, record, other) for match in plan.parameters]
    return Cause(
        id="optimizer_formula",
        phase="update",
        torch=str(sides["torch"]["optimizer"]),
        keras=str(sides["keras"]["optimizer"]),
        summary=f"the two {name} follow different formulas: {family.places}",
        evidence={
            "largest_difference_of_an_update": max((e for e, _ in effects), default=0.0),
            "relative_to_the_largest_update": max((r for _, r in effects), default=0.0),
            "both_updates_recomputed": proven,
        },
        confirmed=proven,
        fix=f"torch: xcheck.optim.like_keras.Keras{name}(...), or keras: xcheck.optim.like_torch.Torch{name}(...)",
    )


def _effect(plan: MatchPlan, match: Match, record: StepRecord, other: StepRecord) -> tuple[float, float]:
    mine = match.piece(plan.reference).total(record.update)
    theirs = match.piece(plan.follower).total(other.update)
    if mine is None or theirs is None or theirs.shape != match.shape(plan.follower):
        return 0.0, 0.0
    gap = float(np.abs(match.to(plan.reference, theirs) - mine).max())
    largest = float(np.abs(mine).max())
    return gap, gap / largest if largest else 0.0


def _setting_cause(name: str, family: Family, setting: str, values: tuple[float, float], proven: bool) -> Cause:
    torch_word, keras_word = family.settings[setting][0], family.settings[setting][-1]
    return Cause(
        id="optimizer_setting",
        phase="update",
        torch=f"{torch_word}={values[0]!r}",
        keras=f"{keras_word}={values[1]!r}",
        summary=f"the two {name} have another {setting}: {values[0]!r} in torch, {values[1]!r} in keras",
        evidence={"torch": values[0], "keras": values[1], "both_updates_recomputed": proven},
        confirmed=proven,
        fix=f"keras: {keras_word}={values[0]!r}, or torch: {torch_word}={values[1]!r}",
    )
