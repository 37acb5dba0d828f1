"""Whole calls of `xcheck.optim`, with the numbers of a run, for the fix of a cause."""

from __future__ import annotations

from typing import Any

from .formulas import FOLLOWED, TORCH_ALONE
from .recipe import Recipe

SWITCHES = frozenset({"amsgrad", "centered", "nesterov"})


def in_torch(name: str, wanted: Recipe) -> str | None:
    """The call in PyTorch that steps as Keras does; None if there is no such class.

    Args:
        name: of the family.
        wanted: what the Keras side does, whose numbers the call has.
    """
    if name not in FOLLOWED:
        return None
    numbers = _numbers(wanted, {"learning_rate": "lr", "epsilon": "eps"}, TORCH_ALONE | {"momentum_decay"})
    if "beta_1" in numbers:
        betas = f"({numbers.pop('beta_1')}, {numbers.pop('beta_2')})"
        numbers = {"lr": numbers.pop("lr"), "betas": betas, **numbers}
    if wanted.said.decay:
        numbers["weight_decay"] = repr(wanted.said.decay)
    return f"xcheck.optim.Keras{name}(parameters, {_listed(numbers)})"


def in_keras(name: str, wanted: Recipe, decay: float | None = None) -> str | None:
    """The call in Keras that steps as PyTorch does; None if there is no such class.

    Args:
        name: of the family.
        wanted: what the PyTorch side does, whose numbers the call has.
        decay: rate of weight decay, where it is not the one that the optimizer says.
    """
    if name not in FOLLOWED:
        return None
    numbers = _numbers(wanted, {}, frozenset())
    rate = wanted.said.decay if decay is None else decay
    if rate:
        numbers["weight_decay"] = repr(rate)
        if not wanted.coupled and name != "AdamW":
            numbers["decoupled_weight_decay"] = "True"
    return f"xcheck.optim.Torch{name}({_listed(numbers)})"


def either(name: str, torch: Recipe, keras: Recipe) -> str:
    """One call or the other, for a cause that either ends; "" if there is none.

    Args:
        name: of the family.
        torch, keras: what the sides do.
    """
    calls = (("torch", in_torch(name, keras)), ("keras", in_keras(name, torch)))
    return ", or ".join(f"{side}: {call}" for side, call in calls if call)


def _numbers(wanted: Recipe, spelled: dict[str, str], left_out: frozenset[str]) -> dict[str, str]:
    usual: Any = wanted.said.family.optional
    found: dict[str, str] = {}
    for name, value in wanted.settings.items():
        if name not in left_out and usual.get(name) != value:
            shown = repr(bool(value)) if name in SWITCHES else repr(value)
            if name == "learning_rate" and wanted.said.schedule:
                shown = "schedule"
            found[spelled.get(name, name)] = shown
    return found


def _listed(numbers: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in numbers.items())
