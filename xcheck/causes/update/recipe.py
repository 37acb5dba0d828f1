"""How one side makes its updates: formula, settings, clipping, decay and constraint, read off what it did.

A recipe is what a side says it does where that gives what it did; else the first of what it may do that does. It holds
for all parameters at once, and for the slots of the optimizer as well as for the update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...records.sides import SideName
from ...records.trace import Array, Arrays, StepRecord
from ..recomputed import REPRODUCED, reproduces
from .clipping import NO_CLIP, Clip, declared_clip, fitted_clips, possible_clips, rounded, told_clips
from .constraint import FREE, Projection, possible_projections
from .formulas import COUPLED, FAMILIES, Family, Start, Style

MOMENTUM = "momentum"
"""Role of the slot that is in units of the weight."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one side says of its optimizer.

    Attributes:
        side: whose.
        family: of the optimizer.
        style: whose formula it follows.
        settings: by our names.
        decay: the rate of weight decay; 0 for none.
        coupled: the decay is a part of the gradient.
        clip: of the gradients.
        schedule: learning rates of the first steps, where they follow one.
        name: of the family.
        own: name of the class where the user wrote it; "" for the framework's and those of `xcheck.optim`.
        initial: learning rate that a scheduler beside the optimizer started from.
        average: how much of their averages of the weights Keras's optimizers keep; None where they have none.
    """

    side: SideName
    family: Family
    style: Style
    settings: Mapping[str, float]
    decay: float
    coupled: bool
    clip: Clip
    schedule: tuple[float, ...] = ()
    name: str = ""
    own: str = ""
    initial: float | None = None
    average: float | None = None


def said(
    side: SideName,
    name: str,
    style: Style,
    given: Mapping[str, Any],
    schedule: tuple[float, ...] = (),
    own: str = "",
    other: Mapping[str, Any] | None = None,
) -> Said | None:
    """What a side says, from the numbers of its optimizer; None where they are not enough.

    Args:
        side: whose.
        name: of the family.
        style: whose formula it follows.
        given: the numbers by the names of the side.
        schedule: learning rates of the first steps, where they follow one.
        own: name of the class where the user wrote it.
        other: the other side's numbers, tried for those that this one does not give.
    """
    family = FAMILIES[name]
    settings = family.read(given, other or {})
    if settings is None:
        return None
    decay = given.get("weight_decay")
    coupled = style == "torch" and name in COUPLED and not given.get("decoupled_weight_decay")
    rate = float(decay) if isinstance(decay, int | float) else 0.0
    clip, initial = declared_clip(given), given.get("initial_lr")
    average = given.get("ema_momentum") if given.get("use_ema") else None
    return Said(side, family, style, settings, rate, coupled, clip, schedule, name, own, initial, average)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one side does.

    Attributes:
        said: what it says; its settings are those that hold, `said.clip` and `said.decay` are not.
        clip: of the gradients.
        coupled: the decay is a part of the gradient.
        decay: path -> rates that give what was observed; several where the weight is zero.
        projections: path -> constraint; those that have one.
        lookups: paths whose gradient is squared lookup by lookup.
        carried: what the momentum from before is worth, times what it was: another learning rate may scale it anew.
        starts: role -> what all of a slot is before the first step; zero where it is not named.
        solved: the learning rate is none that a schedule has or that people write: any factor of the step may be in it.
        said_rate: learning rate that the side says, where it is not the one that holds and no schedule has that.
    """

    said: Said
    clip: Clip = NO_CLIP
    coupled: bool = False
    decay: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    projections: Mapping[str, Projection] = field(default_factory=dict[str, Projection])
    lookups: frozenset[str] = frozenset()
    carried: float = 1.0
    starts: Mapping[str, float] = field(default_factory=dict[str, float])
    solved: bool = False
    said_rate: float | None = None

    @property
    def settings(self) -> Mapping[str, float]:
        """By our names."""
        return self.said.settings

    def rate(self, path: str) -> float:
        """Of the decay of one parameter."""
        return next(iter(self.decay.get(path, ())), 0.0)

    def made(self, seen: Observed, path: str, clipped: Arrays) -> tuple[Array, Arrays]:
        """The update of one parameter, and its slots.

        Args:
            seen: the step whose gradients and state are used.
            path: of the parameter.
            clipped: gradients after clipping.
        """
        weight, rate, s = seen.record.before.value(path), self.rate(path), self.settings
        g = clipped[path]
        squares = seen.squares[path] if path in self.lookups else None
        if self.coupled and rate:
            g = g + rate * weight
        if squares is None:
            squares = g**2
        elif seen.gradients[path].any():  # what clipping does to the whole, it does to each part
            squares = squares * (np.abs(g).max() / np.abs(seen.gradients[path]).max()) ** 2
        slots = {**seen.record.before.slots.get(path, {})}
        if MOMENTUM in slots:
            slots[MOMENTUM] = self.carried * slots[MOMENTUM]
        if not seen.record.before.updates:
            slots |= {role: np.full_like(g, value) for role, value in self.starts.items()}
        start = Start(g, squares, slots, seen.record.before.updates + 1)
        update, after = self.said.family.formula(self.said.style, start, s)
        if not self.coupled and rate:
            update = update - s["learning_rate"] * rate * weight
        projection = self.projections.get(path, FREE)
        return (update if projection == FREE else projection.of(weight + update) - weight), after

    def results(self, seen: Observed) -> dict[str, Arrays]:
        """Path -> "" and the update, role and slot."""
        clipped = self.clip.of(seen.gradients, seen.counts, seen.squares)
        made = {path: self.made(seen, path, clipped) for path in seen.gradients}
        return {path: {"": update, **slots} for path, (update, slots) in made.items()}


@dataclass(frozen=True, slots=True)
class Observed:
    """What one side did in one step.

    Attributes:
        record: of the step.
        gradients: of the parameters that have one and an update.
        counts: path -> how many names a tied weight has.
        squares: path -> sum of the squares of what its gradient is a sum of, lookup by lookup.
    """

    record: StepRecord
    gradients: Arrays
    counts: Mapping[str, int]
    squares: Arrays

    def is_made_by(self, recipe: Recipe, path: str, clipped: Arrays) -> bool:
        """Whether a recipe gives the update and the slots of one parameter."""
        update, slots = recipe.made(self, path, clipped)
        return self.is_update(path, update) and self.are_slots(path, slots)

    def is_update(self, path: str, update: Array) -> bool:
        """Whether this is the observed update of a parameter."""
        observed, weight = self.record.update(path), self.record.before.value(path)
        assert observed is not None
        return reproduces(observed, update, float(np.abs(weight).max(initial=0)))

    def are_slots(self, path: str, slots: Arrays) -> bool:
        """Whether these are the observed slots of a parameter."""
        after = self.record.after.slots.get(path, {})
        return all(reproduces(after[role], slots[role]) for role in slots if role in after and after[role].any())


def observed(record: StepRecord, squares: Arrays | None = None) -> Observed:
    """What one side did in one step.

    Args:
        record: of the step.
        squares: path -> sum of the squares of what its gradient is a sum of.
    """
    gradients = {
        path: g
        for path, g in record.gradients.items()
        if g is not None and path in record.before.parameters and g.shape == record.before.parameters[path].shape
    }
    counts = {path: len(group) for group in record.before.ties for path in group if path in gradients}
    return Observed(record, gradients, counts, squares or {})


def read(mine: Said, other: Said, seen: Observed) -> Recipe | None:
    """The recipe that gives what a side did; None where none is found.

    Args:
        mine: what the side says.
        other: what the other side says.
        seen: what it did.
    """
    if not any(g.any() for g in seen.gradients.values()):
        return None
    effective = _effective(mine, seen)
    decays = (mine.coupled, not mine.coupled) if mine.decay or other.decay else (mine.coupled,)
    for parts in dict.fromkeys((frozenset(seen.squares), frozenset[str]())):  # what is clipped together may be dense
        starts = _starts(mine, seen)
        recipes = [
            Recipe(replace(mine, coupled=coupled), coupled=coupled, lookups=parts, starts=starts) for coupled in decays
        ]
        possible = list(possible_clips(mine.clip, other.clip, seen.gradients, effective, seen.counts, seen.squares))
        for clip in possible:
            for recipe in recipes:
                found = _complete(replace(recipe, clip=clip), other, seen)
                if found is not None:
                    return found
        # Slots tell of the clipping whatever the rate is; an update alone cannot tell the two apart.
        for clip in possible if mine.family.tells_of_gradient else told_clips(mine.clip, other.clip):
            for recipe in recipes:
                clipping = replace(recipe, clip=clip)
                for tried in (*_with_rates(clipping, other, seen), *_carrying(clipping, other, seen)):
                    found = _complete(tried, other, seen)
                    if found is not None:
                        return found
        if mine.family.tells_of_gradient:
            for clip in fitted_clips(seen.gradients, effective, seen.counts, seen.squares):
                for recipe in recipes:
                    found = _complete(replace(recipe, clip=clip), other, seen)
                    if found is not None:
                        return found
    return None


def _starts(mine: Said, seen: Observed) -> dict[str, float]:
    """What the slots are before the first step, where that is one number and not zero.

    A slot that is made in the first step is solved from what became of it: it is a share of its start, and the rest.
    """
    found: dict[str, float] = {}
    path = max(seen.gradients, key=lambda p: seen.gradients[p].size * bool(seen.gradients[p].any()))
    before, after = (state.slots.get(path, {}) for state in (seen.record.before, seen.record.after))
    for role in () if seen.record.before.updates or "initial_accumulator_value" in mine.settings else after:
        zero, one = (Recipe(mine, starts={role: value}).made(seen, path, seen.gradients)[1] for value in (0.0, 1.0))
        if role not in zero or after[role].shape != zero[role].shape or not (one[role] - zero[role]).all():
            continue
        solved = before.get(role, (after[role] - zero[role]) / (one[role] - zero[role]))
        start = float(np.median(solved))
        start = rounded(start) or start
        if abs(start) > REPRODUCED and reproduces(np.full_like(solved, start), solved):
            found[role] = start
    return found


def _effective(mine: Said, seen: Observed) -> dict[str, Array]:
    """The gradients after clipping, as the slots and updates tell of them."""
    found: dict[str, Array] = {}
    for path, g in seen.gradients.items():
        before, after = (state.slots.get(path, {}) for state in (seen.record.before, seen.record.after))
        update = seen.record.update(path)
        if update is None or (after == {} and mine.settings["learning_rate"] == 0):
            continue
        try:
            found[path] = mine.family.effective(mine.settings, before, after, update, g)
        except KeyError:  # the optimizer keeps no such slot
            continue
    return found


def _with_rates(recipe: Recipe, other: Said, seen: Observed) -> Iterator[Recipe]:
    """The recipe with the learning rates that the parameter with the most elements tells of.

    Where the update is all that does, a smaller rate and a tighter clip are one: then only rates that a schedule has
    or that people write.
    """
    mine, clipped = recipe.said, recipe.clip.of(seen.gradients, seen.counts, seen.squares)
    path = max(seen.gradients, key=lambda p: seen.gradients[p].size * bool(seen.gradients[p].any()))
    update = seen.record.update(path)
    for rate in dict.fromkeys((mine.decay, other.decay, 0.0)):
        tried = replace(recipe, decay={path: (rate,)})
        still, moving = (_at(tried, lr).made(seen, path, clipped)[0] for lr in (0.0, 1.0))
        way = moving - still
        if update is None or not way.any():
            continue
        exact = float(np.vdot(update - still, way) / np.vdot(way, way))
        known = [lr for lr in (*mine.schedule, *other.schedule) if abs(lr - exact) <= REPRODUCED * abs(exact)]
        short = rounded(exact)
        known += [short] if short is not None else []
        for lr in known[:1] or ([exact] if mine.family.tells_of_gradient else []):
            scheduled = mine.schedule or mine.initial is not None
            said_rate = None if scheduled else mine.settings["learning_rate"]
            yield replace(_at(recipe, lr), solved=lr not in known, said_rate=said_rate)


def _carrying(recipe: Recipe, other: Said, seen: Observed) -> Iterator[Recipe]:
    """The recipe with a momentum that is scaled as a schedule has just changed the learning rate."""
    t = seen.record.before.updates
    if not any(slots.get(MOMENTUM, np.zeros(())).any() for slots in seen.record.before.slots.values()):
        return
    for schedule in (recipe.said.schedule, other.schedule):
        before, now = (schedule[t - 1], schedule[t]) if 0 < t < len(schedule) else (0.0, 0.0)
        if before and now != before:
            yield replace(_at(recipe, now), carried=now / before)


def _at(recipe: Recipe, learning_rate: float) -> Recipe:
    settings = {**recipe.settings, "learning_rate": learning_rate}
    return replace(recipe, said=replace(recipe.said, settings=settings))


def _complete(recipe: Recipe, other: Said, seen: Observed) -> Recipe | None:
    """The recipe with a decay, and if need be a constraint, for each parameter; None where one does not come out."""
    clipped = recipe.clip.of(seen.gradients, seen.counts, seen.squares)
    decay: dict[str, tuple[float, ...]] = {}
    projections: dict[str, Projection] = {}
    usual = (recipe.said.decay, other.decay, 0.0)
    fitted: tuple[float, ...] = ()
    for path in sorted(seen.gradients, key=lambda p: -seen.gradients[p].size):
        n = seen.counts.get(path, 1)
        rates = dict.fromkeys((*usual, *fitted, *(n * rate for rate in usual)))
        fits = tuple(rate for rate in rates if seen.is_made_by(_decaying(recipe, path, rate), path, clipped))
        if not fits and not fitted:
            rate = _fitted_rate(recipe, seen, path, clipped)
            if rate is not None and seen.is_made_by(_decaying(recipe, path, rate), path, clipped):
                fits = fitted = (rate,)
        if not fits:
            projection = _projection(recipe, seen, path, clipped)
            if projection is None:
                return None
            projections[path], fits = projection, (recipe.said.decay,)
        decay[path] = fits
    return replace(recipe, decay=decay, projections=projections)


def _decaying(recipe: Recipe, path: str, rate: float) -> Recipe:
    return replace(recipe, decay={path: (rate,)})


def _fitted_rate(recipe: Recipe, seen: Observed, path: str, clipped: Arrays) -> float | None:
    """The decay, outside of the gradient, that the update of a parameter of several elements tells of."""
    weight, lr = seen.record.before.value(path), recipe.settings["learning_rate"]
    update, own = seen.record.update(path), recipe.made(seen, path, clipped)[0]
    if recipe.coupled or update is None or weight.size < 2 or not weight.any() or not lr:
        return None
    exact = float(np.vdot(own - update, weight) / np.vdot(weight, weight)) / lr
    return rounded(exact, 6) or exact


def _projection(recipe: Recipe, seen: Observed, path: str, clipped: Arrays) -> Projection | None:
    """The constraint that gives the update of a parameter, with the decay that the side says."""
    free, slots = _decaying(recipe, path, recipe.said.decay).made(seen, path, clipped)
    if not seen.are_slots(path, slots):
        return None
    weight, after = seen.record.before.value(path), seen.record.after.value(path)
    for projection in possible_projections(weight + free, after):
        if projection.of(weight + free).shape == after.shape and seen.is_update(
            path, projection.of(weight + free) - weight
        ):
            return projection
    return None
