"""Whole calls of optimizers, with the numbers of a run, for the fix of a cause.

A call is made from what a side says, or shall say, of its optimizer. Where no class does that, there is none, and the
fix says which part of the formula to change.
"""

from __future__ import annotations

from dataclasses import replace

from ...records.sides import SideName
from .clipping import Clip
from .formulas import FOLLOWED, SWITCHES, TORCH_ALONE
from .recipe import Said

TRUTH_VALUES = frozenset({"amsgrad", "centered", "nesterov"})
IN_TORCH = {"Nadam": "NAdam"}
"""What PyTorch calls otherwise than Keras."""

DECOUPLED = frozenset({"Adam", "AdamW", "Nadam"})
"""Those that PyTorch has with a decay outside of the gradient."""


def call(side: SideName, wanted: Said) -> str | None:
    """The call that makes an optimizer; None where no class of PyTorch, Keras or `xcheck.optim` does that.

    Args:
        side: where it is to be used.
        wanted: what it shall do.
    """
    name, style, decay = wanted.name, wanted.style, wanted.decay
    if style != side and name not in FOLLOWED and not wanted.family.places:
        style = side  # one formula in both
    if name in ("Adam", "AdamW") and style == "torch" and decay:
        name = "Adam" if wanted.coupled else "AdamW"
    arguments = _settings(side, replace(wanted, name=name, style=style))
    clipping = _clipping(side, wanted.clip, max_norm=(side, style) == ("keras", "torch"))
    if style == side:
        exists = (side, name) != ("torch", "Lion")
        path = f"torch.optim.{IN_TORCH.get(name, name)}" if side == "torch" else f"keras.optimizers.{name}"
    else:
        exists, path = name in FOLLOWED, f"xcheck.optim.{style.capitalize()}{name}"
    inside = style == "torch" and name not in ("AdamW", "Lion")
    if decay and inside and not wanted.coupled:
        exists &= name in DECOUPLED
        arguments = arguments and arguments | {"decoupled_weight_decay": "True"}
    elif decay and wanted.coupled != inside:
        exists = False
    if side == style == "torch" and clipping:
        exists = False
    if not exists or arguments is None or clipping is None:
        return None
    averages = side == "keras" and wanted.average is not None
    averaging = {"use_ema": "True", "ema_momentum": repr(wanted.average)} if averages else {}
    shown = ", ".join(f"{argument}={value}" for argument, value in (arguments | clipping | averaging).items())
    return f"{path}(parameters, {shown})" if side == "torch" else f"{path}({shown})"


def _settings(side: SideName, wanted: Said) -> dict[str, str] | None:
    """Arguments for the settings and the decay; None where a class of that style lacks one."""
    usual, found = wanted.family.optional, dict[str, str]()
    for name, spellings in wanted.family.settings.items():
        value = wanted.settings[name]
        if side == "torch" and name in ("beta_1", "beta_2"):
            found["betas"] = f"({wanted.settings['beta_1']!r}, {wanted.settings['beta_2']!r})"
        elif name in SWITCHES or (wanted.style == "keras" and name in TORCH_ALONE):
            if value != usual[name]:
                return None
        elif value or usual.get(name) != 0.0:
            shown = repr(bool(value)) if name in TRUTH_VALUES else repr(value)
            found[spellings[0] if side == "torch" else spellings[-1]] = shown
    rate = next(iter(found))
    if wanted.schedule:
        found[rate] = "schedule"
    elif wanted.initial is not None:
        found[rate] = repr(wanted.initial)
    if wanted.decay or wanted.name == "AdamW":
        found["weight_decay"] = repr(wanted.decay)
    return found


def _clipping(side: SideName, clip: Clip, max_norm: bool) -> dict[str, str] | None:
    """Arguments for the clipping; None where none of them asks for it."""
    arguments = {"value": "clipvalue", "each": "clipnorm", "together": "global_clipnorm"}
    if clip.kind == "none":
        return {}
    if clip.tied or (clip.added and not (clip.kind == "together" and max_norm)):
        return None
    return {"max_norm" if clip.added else arguments[clip.kind]: repr(clip.limit)}


def like_the_other(mine: Said, other: Said) -> Said:
    """What a side shall say to do as the other does; its clipping, schedule and averages stay: differences apart.

    Args:
        mine: what the side says.
        other: what the other side says.
    """
    apart = mine.schedule or other.schedule or mine.initial is not None or other.initial is not None
    rate = mine.settings["learning_rate"] if apart else other.settings["learning_rate"]
    settings = {**other.settings, "learning_rate": rate}
    kept = {"clip": mine.clip, "schedule": mine.schedule, "initial": mine.initial, "average": mine.average}
    return replace(other, settings=settings, **kept)


def either(torch: str | None, keras: str | None, otherwise: str = "") -> str:
    """A fix of either side.

    Args:
        torch, keras: the call that makes the side as the other one is, if there is one.
        otherwise: what to do where there is none for either.
    """
    calls = [f"{side}: {made}" for side, made in (("keras", keras), ("torch", torch)) if made]
    return ", or ".join(calls) or otherwise
