"""What a layer computes, written out in NumPy with its settings named; and the search for the setting that differs.

A form reads what a side did as a problem: arrays in one neutral layout, and settings. It can compute the problem again.
A cause is confirmed only where the form gives each side's value from that side's inputs, and where the one side's
setting in the other's place gives the other's value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array, Arrays
from ..prove import Trial, prove
from .layout import permuted, reordered
from .masks import possible_masks, shown_mask
from .one_computation import Local, Seen
from .weights import Used, weight_causes

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One side's computation in neutral terms.

    Attributes:
        side: whose.
        arrays: inputs and weights by their neutral names, channels last.
        settings: by their neutral names.
        value: what the side computed, in the neutral layout.
        neutral: from the layout of this side's value to the neutral one.
        sources: name of a weight -> path -> the parameters that it may be made of, in its neutral layout.
        alone: both sides do this and nothing besides, so that numbers may be solved from what comes out.
    """

    side: SideName
    arrays: Arrays
    settings: Settings
    value: Array
    neutral: Callable[[Array], Array]
    sources: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    alone: bool = True

    def having(self, settings: Settings) -> Problem:
        """The same with other settings."""
        return replace(self, settings={**self.settings, **settings})


def _no_others(problem: Problem) -> Sequence[Any]:
    return ()


def one_of(*values: Any) -> Callable[[Problem], Sequence[Any]]:
    """The same values for every problem, as what else a setting may be."""

    def others(problem: Problem) -> Sequence[Any]:
        return values

    return others


either = one_of(False, True)
"""What else a setting may be that is on or off."""


def _as_usual(local: Local, problem: Problem) -> bool | None:
    return False


def _no_code(side: SideName, value: Any) -> str:
    return ""


def _no_fit(problem: Problem, value: Array) -> Any:
    return None


@dataclass(frozen=True)
class Setting:
    """Something about a layer that may differ between the sides.

    Attributes:
        name: neutral.
        cause: id of the cause that it is.
        words: what a report calls it.
        torch, keras: how it is written on each side, with `{}` for the value; "" where it cannot be set there.
        others: values worth trying besides what the sides say.
        fit: solves for the value that would give another result; None where there is none.
        shown: a value in words.
        code: (side, value) -> the code that sets it there, for a value that one template does not write; "" if unknown.
        deviates: of a setting that is only seen by how the sides differ, whether it is the side of the problem that
            does not do as usual; None where that cannot be told.
    """

    name: str
    cause: str
    words: str
    torch: str = ""
    keras: str = ""
    others: Callable[[Problem], Sequence[Any]] = _no_others
    fit: Callable[[Problem, Array], Any] = _no_fit
    shown: Callable[[Any], str] = repr
    code: Callable[[SideName, Any], str] = _no_code
    deviates: Callable[[Local, Problem], bool | None] = _as_usual


def _examples_come_later(local: Local, problem: Problem) -> bool | None:
    """Whether what goes in does not have the examples first; None where its axes cannot be told apart by their size."""
    first, steps = (problem.arrays["x"].shape[axis] for axis in (0, -2))
    return first != local.examples if first != steps else None


EXCHANGED = Setting(
    "exchanged",
    "exchanged_axes",
    "the axis of the steps",
    "batch_first=True, or transpose(0, 1) before and after it, so that it is {}",
    "keras.ops.swapaxes(..., 0, 1) before and after it, so that it is {}",
    either,
    shown=lambda exchanged: "that of the examples" if exchanged else "that of the steps",
    deviates=_examples_come_later,
)
"""The first two axes are taken for each other."""

MASKED = Setting(
    "mask",
    "mask_of_one_side",
    "what counts",
    "the same mask or lengths: pack_padded_sequence for a recurrent layer, otherwise mask the other positions by hand",
    "the same mask: mask_zero=True, a Masking layer or mask=...; or none",
    lambda problem: possible_masks(problem.arrays),
    shown=shown_mask,
)
"""A mask or lengths that one side alone has."""


def _as_read(torch: Problem, keras: Problem) -> tuple[Problem, Problem]:
    return torch, keras


@dataclass(frozen=True)
class Form:
    """What a kind of layer computes.

    Attributes:
        name: in words, such as "layer normalization".
        read: what a side did as a problem; None where it is something else.
        compute: the value of a problem; None or a ValueError where its settings do not go with its arrays.
        settings: what may differ.
        kinds: families of layers that a place is named after, where other calls are a part of it.
        paired: settings that show only where both sides are looked at, added to both problems.
    """

    name: str
    read: Callable[[Seen], Problem | None]
    compute: Callable[[Problem], Array | None]
    settings: tuple[Setting, ...]
    kinds: tuple[str, ...] = ()
    paired: Callable[[Problem, Problem], tuple[Problem, Problem]] = _as_read

    def place(self, seen: Seen) -> str:
        """Name of the layer that a side does it in."""
        call = seen.is_a(*self.kinds) if self.kinds else None
        return seen.call.name if call is None or not seen.call.function else call.path or call.name


def search(form: Form, local: Local) -> list[Cause]:
    """As `_search`; a form that raises explains nothing.

    Nor is a bias a cause that one side adds later: that is to be shown where both have added it.
    """
    causes = isolated(list[Cause], form.name)(_search)(form, local)
    return [] if local.bias_to_come and any(cause.id == "bias" for cause in causes) else causes


def _search(form: Form, local: Local) -> list[Cause]:
    """The settings of a form that explain why the two sides differ, each confirmed; none if they do not.

    Args:
        form: what both sides may be computing.
        local: what they did.
    """
    read = [form.read(seen) for seen in (local.torch, local.keras) if not seen.idle]
    alone = all(problem is not None and problem.alone for problem in read)
    both = [replace(problem, alone=alone) for problem in read if problem is not None]
    both = list(form.paired(*both)) if len(both) > 1 else both
    said = {s.name: [p.settings[s.name] for p in both if s.name in p.settings] for s in form.settings}
    found = {p.side: _solved(form, local, p, p.value, said) for p in both}
    torch, keras = found.get("torch"), found.get("keras")
    if torch is not None and keras is not None:
        differing = [s for s in form.settings if not _equal(torch.settings.get(s.name), keras.settings.get(s.name))]
        swapped = keras.having({s.name: torch.settings[s.name] for s in differing if s.name in torch.settings})
        target = keras.neutral(local.target("keras"))
        if differing and _gives(form, local, swapped, target):
            needed = _needed(form, local, keras, torch, differing, target)
            return _causes(form, local, _that_matter(form, local, keras, torch, needed), torch, keras)
        weights = {name: array for name, array in torch.arrays.items() if name != "x"}
        again = _computed(form, replace(swapped, arrays={**keras.arrays, **weights}))
        if again is not None and again.shape == target.shape and local.agree(target, again):
            after = local.gap(target, again)
            names = [n for n in weights if not _equal(weights[n], keras.arrays.get(n))]
            causes = [
                c for n in names for c in weight_causes(local, form.name, _used(torch, n), _used(keras, n), after)
            ]
            if causes:
                return causes
        if reordered(local, torch.arrays["x"], keras.arrays["x"]):
            again = _computed(form, replace(keras, arrays={**keras.arrays, "x": torch.arrays["x"]}))
            if again is not None and again.shape == target.shape and local.agree(target, again):
                after = local.gap(target, again)
                return [permuted(local, form.name, torch.arrays["x"], keras.arrays["x"], after)]
    for known in (keras, torch):
        if known is None:
            continue
        other = _solved(form, local, known, known.neutral(local.target(known.side)), said)
        if other is not None:
            differing = [s for s in form.settings if not _equal(known.settings.get(s.name), other.settings.get(s.name))]
            differing = _needed(form, local, other, known, differing, known.value)
            sides = (known, other) if known.side == "torch" else (other, known)
            return _causes(form, local, differing, *sides)  # both are the problem of the side that is known
    return []


def _solved(form: Form, local: Local, problem: Problem, value: Array, said: Mapping[str, list[Any]]) -> Problem | None:
    """The problem with as few settings changed as it takes to give a value; None where no change does."""
    for settings in _variations(form, problem, value, said):
        tried = problem.having(settings)
        if _gives(form, local, tried, value):
            return tried
    return None


def _variations(form: Form, problem: Problem, value: Array, said: Mapping[str, list[Any]]) -> Iterator[Settings]:
    yield {}
    options = {s.name: _options(s, problem, value, said) for s in form.settings}
    for name, values in options.items():
        for other in values:
            yield {name: other}
    for (one, values), (two, others) in itertools.combinations(options.items(), 2):
        for pair in itertools.product(values, others):
            yield dict(zip((one, two), pair, strict=True))
    fitted = [s for s in form.settings if s.fit is not _no_fit]
    for name, values in options.items():
        for other in values:
            for setting in fitted:
                if setting.name != name:
                    solved = setting.fit(problem.having({name: other}), value)
                    if solved is not None:
                        yield {name: other, setting.name: solved}


def _options(setting: Setting, problem: Problem, value: Array, said: Mapping[str, list[Any]]) -> list[Any]:
    values = [*said.get(setting.name, ()), *setting.others(problem)]
    solved = setting.fit(problem, value)
    if solved is not None:
        values += solved if isinstance(solved, list) else [solved]
    kept: list[Any] = []
    for other in values:
        if not _equal(other, problem.settings.get(setting.name)) and not any(_equal(other, k) for k in kept):
            kept.append(other)
    return kept


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if type(a) is np.ndarray or type(b) is np.ndarray else a == b


def _gives(form: Form, local: Local, problem: Problem, value: Array) -> bool:
    computed = _computed(form, problem)
    return computed is not None and computed.shape == value.shape and local.agree(value, computed)


def _computed(form: Form, problem: Problem) -> Array | None:
    try:
        with np.errstate(all="ignore"):
            return form.compute(problem)
    except ValueError:  # these settings do not go with these arrays
        return None


def _needed(
    form: Form, local: Local, one: Problem, other: Problem, differing: Sequence[Setting], value: Array
) -> list[Setting]:
    """Those of several settings of another problem that one needs to come to a value, the most telling kept."""
    kept = list(differing)
    for setting in reversed(differing):
        rest = {s.name: other.settings[s.name] for s in kept if s is not setting and s.name in other.settings}
        if len(kept) > 1 and _gives(form, local, one.having(rest), value):
            kept.remove(setting)
    return kept


def _that_matter(
    form: Form, local: Local, keras: Problem, torch: Problem, differing: Sequence[Setting]
) -> list[Setting]:
    """Those of several settings that change what comes out by themselves; all of them if none does."""
    alone = [
        s
        for s in differing
        if s.name in torch.settings
        and not _gives(form, local, keras.having({s.name: torch.settings[s.name]}), keras.value)
    ]
    return alone or list(differing)


def _used(problem: Problem, name: str) -> Used:
    return Used(problem.arrays.get(name), problem.sources.get(name, {}))


def _causes(form: Form, local: Local, settings: Sequence[Setting], torch: Problem, keras: Problem) -> list[Cause]:
    causes: list[Cause] = []
    for setting in settings:
        values = torch.settings.get(setting.name), keras.settings.get(setting.name)
        deviates = setting.deviates(local, keras)
        values = values[::-1] if deviates else values
        told = [setting.shown(value) for value in values]
        if told[0] == told[1]:
            told = [repr(value) for value in values]
        measured = _after(form, local, torch, keras)
        trial = Trial(local.error, measured, local.allowed, local.torch.value.size)
        causes.append(
            prove(
                Cause(
                    id=setting.cause,
                    phase="forward",
                    torch=form.place(local.torch),
                    keras=form.place(local.keras),
                    summary=f"{form.name}: {setting.words} is {told[0]} in torch and {told[1]} in keras",
                    evidence={"torch": told[0], "keras": told[1]},
                    fix=_fix(form, setting, local, values, told),
                ),
                [] if deviates is None else [trial],
            )
        )
    return causes


def _after(form: Form, local: Local, torch: Problem, keras: Problem) -> float:
    """How far one side's value is from the other's once it is computed with the other's settings."""
    known, other = (torch, keras) if keras.side == "torch" else (keras, torch)
    computed = _computed(form, known.having(other.settings))
    target = known.neutral(local.target(known.side))
    return math.nan if computed is None else local.gap(target, computed)


def _fix(form: Form, setting: Setting, local: Local, values: Sequence[Any], told: Sequence[str]) -> str:
    lines: list[str] = []
    if setting.keras:
        code = setting.code("keras", values[0]) or setting.keras.format(told[0])
        lines.append(f"keras: {form.place(local.keras)}: {code}")
    if setting.torch:
        code = setting.code("torch", values[1]) or setting.torch.format(told[1])
        lines.append(f"torch: {form.place(local.torch)}: {code}")
    return ", or ".join(lines)
