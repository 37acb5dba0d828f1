"""Fix lines of optimizer causes: whole calls that can be made, with this run's numbers, and that end the difference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import pytest
import torch
from ports import keras_sgd, mlp
from setups import clip_by_value, step_with

import xcheck
import xcheck.optim
from xcheck.causes.update.calls import call, like_the_other
from xcheck.causes.update.clipping import NO_CLIP, Clip
from xcheck.causes.update.formulas import FAMILIES, FOLLOWED, family_named
from xcheck.causes.update.recipe import Said, said
from xcheck.frameworks.keras import optimizer as of_keras
from xcheck.frameworks.torch import optimizer as of_torch

FACTS: dict[Any, Any] = {"torch": of_torch.facts, "keras": of_keras.facts}
CALL = re.compile(r"\b(?:xcheck\.optim|torch\.optim|torch\.nn\.utils|keras\.(?:optimizers|ops|constraints))\.\w+\(")


def calls_in(fix: str) -> list[str]:
    """The whole calls of a fix line."""
    found = []
    for start in CALL.finditer(fix):
        ends = [i + 1 for i in range(start.start(), len(fix)) if fix[i] == ")"]
        parsed = [fix[start.start() : end] for end in ends if parses(fix[start.start() : end])]
        assert parsed, f"no whole call at {fix[start.start() :]!r}"
        found.append(parsed[0])
    return found


def parses(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def made(text: str, parameters: Any = None, schedule: Any = 0.1) -> Any:
    """What a call makes; raises where it names a class or an argument that is not there."""
    names = {"xcheck": xcheck, "torch": torch, "keras": keras, "schedule": schedule}
    return eval(text, {**names, "parameters": parameters or [torch.nn.Parameter(torch.ones(2))]})


def on(side: str, fix: str) -> list[str]:
    """The optimizers that a fix line has for one side."""
    return [c for c in calls_in(fix) if ("(parameters" in c) == (side == "torch") and "optim" in c]


def test_what_a_fix_line_must_not_say_is_seen() -> None:
    with pytest.raises(AssertionError, match="no whole call"):
        calls_in("keras: xcheck.optim.TorchAdam(learning_rate=...")
    with pytest.raises(AttributeError, match="TorchAdadelta"):
        made(*calls_in("keras: xcheck.optim.TorchAdadelta(rho=0.9), or torch: nothing"))
    with pytest.raises(TypeError, match="epsilon"):
        made(*calls_in("torch: torch.optim.Adam(parameters, epsilon=1e-07)"))


# Every call there can be -----------------------------------------------------------------------------------------

NUMBERS = {
    "learning_rate": 0.5,
    "beta_1": 0.75,
    "beta_2": 0.875,
    "epsilon": 0.125,
    "rho": 0.625,
    "momentum": 0.25,
    "initial_accumulator_value": 0.0625,
}
CLIPS = (NO_CLIP, Clip("value", 2.0), Clip("each", 2.0), Clip("together", 2.0), Clip("together", 2.0, 1e-6))


def everything(side: Any, name: str) -> Iterator[Said]:
    """What may be said of an optimizer of a family, with numbers that float32 holds."""
    family = FAMILIES[name]
    lots = [
        {n: NUMBERS.get(n, family.optional.get(n, 0.0)) for n in family.settings},
        {n: NUMBERS.get(n, 1.0) for n in family.settings} | ({"dampening": 0.0} if name == "SGD" else {}),
        {n: family.optional.get(n, NUMBERS.get(n, 0.0)) for n in family.settings},
    ]
    for settings in lots:
        for style in ("torch", "keras"):
            for decay, coupled in ((0.0, False), (0.5, False), (0.5, True)):
                for clip in CLIPS:
                    yield Said(side, family, style, settings, decay, coupled, clip, name=name)


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_call_makes_the_optimizer_that_is_asked_for(side: Any, name: str) -> None:
    """Read off what it makes, it says what was asked for: formula, numbers, decay and its place, clipping."""
    calls = 0
    for wanted in everything(side, name):
        text = call(side, wanted)
        if text is None:
            continue
        calls += 1
        facts = FACTS[side](made(text))
        found, _, style = family_named(facts["optimizer"])
        again = said(side, found, style or side, facts["optimizer_settings"])
        assert again is not None, text
        assert again.settings == wanted.settings, text
        assert (again.decay, again.clip) == (wanted.decay, wanted.clip), text
        assert not wanted.decay or again.coupled == wanted.coupled, text
        assert again.style == wanted.style or not wanted.family.places, text
    assert calls or (side, name) == ("torch", "Lion")  # which PyTorch does not have


def test_each_family_but_two_has_a_call_for_the_formula_of_the_other_framework() -> None:
    for side, style in (("torch", "keras"), ("keras", "torch")):
        for name, family in FAMILIES.items():
            settings = {n: family.optional.get(n, NUMBERS.get(n, 0.0)) for n in family.settings}
            text = call(side, Said(side, family, style, settings, 0.0, False, NO_CLIP, name=name)) or ""  # pyright: ignore
            assert text.startswith("xcheck.optim.") == (name in FOLLOWED), text


def test_advice_names_the_followers_that_there_are() -> None:
    for prefix in ("Keras", "Torch"):
        names = {name.removeprefix(prefix) for name in xcheck.optim.__all__ if name.startswith(prefix)}
        assert names == FOLLOWED


def test_a_schedule_of_its_own_stays() -> None:
    family = FAMILIES["Adam"]
    numbers = {n: NUMBERS.get(n, family.optional.get(n, 0.0)) for n in family.settings}
    mine = Said("keras", family, "keras", numbers, 0.0, False, NO_CLIP, (0.5, 0.25), "Adam")
    other = replace(mine, side="torch", style="torch", schedule=(), settings=numbers | {"learning_rate": 0.25})
    text = call("keras", like_the_other(mine, other))
    assert text == "xcheck.optim.TorchAdam(learning_rate=schedule, beta_1=0.75, beta_2=0.875, epsilon=0.125)"
    assert made(text, schedule=keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)).beta_1 == 0.75
    started = replace(other, initial=0.5)  # by a scheduler beside the optimizer, which lowers the rate
    text = call("torch", like_the_other(started, mine))
    assert text == "xcheck.optim.KerasAdam(parameters, lr=0.5, betas=(0.75, 0.875), eps=0.125)"
    assert made(text).defaults["lr"] == 0.5


# In a run --------------------------------------------------------------------------------------------------------


def run(torch_optimizer: Any, keras_optimizer: Any, expected: str, steps: int = 1, **torch_parts: Any) -> xcheck.Result:
    pair = mlp(torch={"optimizer": torch_optimizer, **torch_parts}, keras={"optimizer": keras_optimizer})
    phases = ("inventory", "sync", "forward", "loss", "gradient", "update")
    result = xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0, phases=phases)
    assert result.verdict == expected, result.report()
    return result


ROWS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "AdamW": ("AdamW", {"amsgrad": True}, "AdamW", {}),
    "Adamax": ("Adamax", {"weight_decay": 0.1}, "Adamax", {"weight_decay": 0.2}),
    "RMSprop": ("RMSprop", {"momentum": 0.5, "centered": True}, "RMSprop", {"momentum": 0.5}),
    "Adagrad": ("Adagrad", {"lr_decay": 0.1}, "Adagrad", {}),
    "Nadam": ("NAdam", {}, "Nadam", {}),
    "Adadelta": ("Adadelta", {}, "Adadelta", {}),
    "two families": ("RMSprop", {}, "Adamax", {}),
}
"""What each side trains with: each pair of calls of the first fix line ends every difference."""


@pytest.mark.parametrize("name", ROWS)
def test_a_fix_line_ends_the_difference_on_either_side(name: str) -> None:
    in_torch, torch_options, in_keras, keras_options = ROWS[name]

    def torch_optimizer(parameters: Any) -> Any:
        return getattr(torch.optim, in_torch)(parameters, **torch_options)

    def keras_optimizer() -> Any:
        return getattr(keras.optimizers, in_keras)(**keras_options)

    steps = 1 + (name == "Adagrad")  # the first has no lr_decay
    found = run(torch_optimizer, keras_optimizer, "DIFFERENT", steps).causes
    assert found
    assert all(cause.confirmed for cause in found)
    for cause in found:
        assert [made(text) for text in calls_in(cause.fix)]
    (for_keras,), (for_torch,) = (on(side, found[0].fix) for side in ("keras", "torch"))
    run(torch_optimizer, lambda: made(for_keras), "EQUIVALENT", steps)
    run(lambda p: made(for_torch, p), keras_optimizer, "EQUIVALENT", steps)


def adadelta(parameters: Any) -> Any:
    return torch.optim.Adadelta(parameters, lr=0.001, rho=0.95, eps=1e-7, weight_decay=0.1)


class Mine(keras.optimizers.Adam):
    pass


def test_where_no_class_does_it_the_fix_says_what_to_change() -> None:
    (cause,) = run(adadelta, lambda: keras.optimizers.Adadelta(0.001), "DIFFERENT").causes
    assert "keras: weight_decay=0, and 0.1 * variable added to each gradient" in cause.fix
    (text,) = calls_in(cause.fix)
    assert text == "torch.optim.Adadelta(parameters, lr=0.001, rho=0.95, eps=1e-07)"
    run(lambda p: made(text, p), lambda: keras.optimizers.Adadelta(0.001), "EQUIVALENT")


def test_a_class_of_the_user_is_named_with_its_setting() -> None:
    (cause,) = run(lambda p: xcheck.optim.KerasAdam(p, 0.001, eps=1e-6), lambda: Mine(0.001), "DIFFERENT").causes
    assert cause.fix.startswith("keras: epsilon=1e-06 in Mine, or torch: xcheck.optim.KerasAdam(parameters, lr=0.001")


CLIPPED = {
    "value": (clip_by_value, {}, "keras.optimizers.SGD(learning_rate=0.1, clipvalue="),
    "by pytorch": (
        lambda model: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1),
        {"global_clipnorm": 0.1},
        "xcheck.optim.TorchSGD(learning_rate=0.1, max_norm=0.1)",
    ),
    "none": (lambda model: None, {"clipnorm": 0.1}, "keras.optimizers.SGD(learning_rate=0.1)"),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_clipping_keeps_the_other_numbers(name: str) -> None:
    between, options, expected = CLIPPED[name]
    step = step_with(between)
    sgd = lambda p: torch.optim.SGD(p, lr=0.1)  # noqa: E731
    (cause,) = run(sgd, lambda: keras_sgd(**options), "DIFFERENT", step=step).causes
    (text,) = on("keras", cause.fix)
    assert text.startswith(expected)
    run(sgd, lambda: made(text), "EQUIVALENT", step=step)
