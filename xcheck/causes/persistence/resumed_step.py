"""What explains a step after loading where all that was saved came back: what no value and no setting tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...records.reload import Fault, Reloaded
from ...records.sides import SideName
from ...records.trace import StepRecord
from ..recomputed import FLOAT32, reproduces
from ..update.formulas import family_named
from ..update.recipe import Recipe, observed, read, said


def resumed_faults(side: SideName, record: StepRecord, found: Reloaded, facts: Mapping[str, Any]) -> list[Fault]:
    """What a route lost, read off the next step with and without it.

    Args:
        side: that was saved.
        record: the next step of the run that never stopped.
        found: what the route left.
        facts: of the side's optimizer.
    """
    made = found.mended or found.record
    if made.before.ties != record.before.ties or len(made.gradients) != len(record.gradients):
        return _penalties(record, made, found)
    return _decay(side, record, made, found, facts)


def _decay(
    side: SideName, record: StepRecord, made: StepRecord, found: Reloaded, facts: Mapping[str, Any]
) -> list[Fault]:
    """Parameters that decay at another rate after loading, where nothing else in the update differs."""
    name, family, style = family_named(str(facts.get("optimizer_kind", "")))
    told = said(side, name, style or side, facts.get("optimizer_settings", {})) if family else None
    if told is None:
        return []
    before, after = (read(told, told, observed(r)) for r in (record, made))
    if before is None or after is None or _besides(before) != _besides(after):
        return []
    origin = found.origin
    changed = {path: (before.decay.get(origin.get(path, ""), ()), after.decay[path]) for path in after.decay}
    names = [path for path, (one, two) in changed.items() if not {*one} & {*two}]
    if not names:
        return []
    one, two = changed[names[0]]
    text = f"decays by {one[0]!r} before it was saved, by {two[0]!r} after it was loaded"
    return [Fault("decay_exclusion_not_saved", found.route.name, tuple(names), text, explained=True)]


def _besides(recipe: Recipe) -> tuple[Any, ...]:
    """All of a recipe but the decay."""
    return recipe.settings, recipe.clip, recipe.coupled, recipe.projections, recipe.lookups


def _penalties(record: StepRecord, made: StepRecord, found: Reloaded) -> list[Fault]:
    """Penalties that are counted once for each copy that a route made of a weight."""
    origin = {new: found.before.canonical_path(old) for new, old in found.origin.items()}
    losses = record.losses.get("data"), made.losses.get("data")
    if losses[0] is None or losses[1] is None or not reproduces(losses[0], losses[1]):
        return []
    terms = _terms(record, {path: path for path in origin.values()})
    copies = _terms(made, origin)
    several = [path for path in terms if len(copies.get(path, ())) > 1 and any(terms[path])]
    for path in several:
        once, weight, whole = terms[path][0], record.before.value(path), record.gradients.get(path)
        more = sum(copies[path]) - once
        if any(abs(copy - once) > FLOAT32 * abs(once) for copy in copies[path]) or whole is None:
            return []  # not the same penalty: a factor that loading has rounded to float32 is
        summed = [g for new, g in made.gradients.items() if g is not None and origin.get(new) == path]
        extra = sum(summed, np.zeros_like(whole)) - whole
        forms = np.sign(weight) / np.abs(weight).sum(), 2 * weight / (weight**2).sum()  # of L1 and L2
        if not any(reproduces(extra, more * form, float(np.abs(whole).max(initial=0))) for form in forms):
            return []
    others = [path for path, g in record.gradients.items() if g is not None and path not in several]
    if not several or not all(_same_gradient(record, made, origin, path) for path in others):
        return []
    text = f"penalty {sum(terms[p][0] for p in several):.6g} before it was saved, "
    text += f"{sum(sum(copies[p]) for p in several):.6g} after it was loaded"
    return [Fault("penalty_per_copy", found.route.name, tuple(several), text, explained=True)]


def _same_gradient(record: StepRecord, made: StepRecord, origin: Mapping[str, str], path: str) -> bool:
    whole = record.gradients[path]
    summed = [g for new, g in made.gradients.items() if g is not None and origin.get(new) == path]
    return whole is not None and bool(summed) and reproduces(whole, sum(summed[1:], summed[0]))


def _terms(record: StepRecord, origin: Mapping[str, str]) -> dict[str, list[float]]:
    """Path before saving -> the penalties of a weight and its copies."""
    terms: dict[str, list[float]] = {}
    for path, old in origin.items():
        if f"penalty/{path}" in record.losses:
            terms.setdefault(old, []).append(float(record.losses[f"penalty/{path}"]))
    return terms
