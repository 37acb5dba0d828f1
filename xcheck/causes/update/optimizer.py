"""Causes in the update: another formula, or another setting, clipping, decay or constraint of the same one.

What each side did is read as a recipe (`recipe.py`): recomputed in NumPy from its gradient and the state it started
from, until update and slots come out as they were observed. What differs between two recipes is the cause. It is proven
where the follower's update, made again by the reference's recipe, is the reference's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...matching import MatchPlan
from ...records.accepted import Deltas, Exchange
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Arrays, StepRecord
from ..prove import Trial, prove, read_off
from ..recomputed import REPRODUCED, gap
from .averages import moved_averages
from .both import Both, Difference
from .calls import call, like_the_other
from .clipping import NO_CLIP
from .differences import SIDES, differences
from .formulas import SWITCHES, Style, family_named
from .recipe import Observed, Recipe, Said, observed, read, said

BASE = "Optimizer"
"""The class that both frameworks derive all others from: what else somebody's own class is, its name alone tells."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one side's optimizer besides its steps.

    Attributes:
        name: of its class, of the framework or of `xcheck.optim`.
        shown: name of the class itself.
        numbers: its settings by the side's names.
        schedule: learning rates of the first steps, where they follow one.
        lone: it derives from no optimizer of a framework but the base of all: only its name says what it does.
    """

    name: str
    shown: str
    numbers: Mapping[str, Any]
    schedule: tuple[float, ...] = ()
    lone: bool = False

    @staticmethod
    def of(environment: Mapping[str, Any]) -> Facts:
        """From the environment of a side."""
        shown = str(environment.get("optimizer", ""))
        kind = str(environment.get("optimizer_kind", shown))
        numbers = environment.get("optimizer_settings", {})
        schedule = tuple(environment.get("schedule") or ())
        return Facts(shown if kind == BASE else kind, shown, numbers, schedule, kind == BASE)

    def said(
        self, side: SideName, name: str, style: Style | None, other: Mapping[str, Any] | None = None
    ) -> Said | None:
        """What the side says of an optimizer of a family.

        Args:
            side: whose.
            name: of the family.
            style: whose formula it follows; None for that of the side.
            other: the other side's numbers, tried for those that a class of a user's own does not give.
        """
        own = "" if self.shown == self.name and not self.lone else self.shown
        given = other if self.lone else None
        return said(side, name, style or side, self.numbers, self.schedule, own, given)


@isolated(list[Cause])
def update_causes(
    plan: MatchPlan,
    record: StepRecord,
    other: StepRecord,
    torch: Mapping[str, Any],
    keras: Mapping[str, Any],
    squares: Arrays | None = None,
) -> list[Cause]:
    """What makes the updates differ, where the gradients agree.

    Args:
        plan: of the run.
        record: step of the reference.
        other: the same step of the other side.
        torch, keras: environments of the sides, with "optimizer" and "optimizer_settings".
        squares: of the Keras side, path -> sum of the squares of what its gradient is a sum of, lookup by lookup.
    """
    facts = {"torch": Facts.of(torch), "keras": Facts.of(keras)}
    (torch_name, family, torch_style), (keras_name, other_family, keras_style) = (
        family_named(facts[side].name) for side in ("torch", "keras")
    )
    if any("," in facts[side].name for side in SIDES):
        return []  # several optimizers on a side: no one formula makes the updates
    name = keras_name if other_family is not None else torch_name
    own = {"torch": family is None and facts["torch"].lone, "keras": other_family is None and facts["keras"].lone}
    common = family or other_family
    if family is not other_family and torch_name.casefold() != keras_name.casefold() and not any(own.values()):
        return _another(plan, record, other, facts)
    if common is None or (family is not other_family and not any(own.values())):
        return []
    told = _told("torch", name, torch_style, facts), _told("keras", name, keras_style, facts)
    if not told[0] or not told[1]:
        return _another(plan, record, other, facts) if family is not other_family else []
    records = (record, other) if plan.reference == "torch" else (other, record)
    seen = (observed(records[0]), observed(records[1], squares))
    in_torch, in_keras = _read(told[0], told[1][0], seen[0]), _read(told[1], told[0][0], seen[1])
    if in_torch is None or in_keras is None:
        if family is not other_family:
            return _another(plan, record, other, facts)
        return _unproven(name, told[0][0], told[1][0], facts)
    names = {**seen[0].counts, **seen[1].counts}
    both = Both(plan, name, in_torch, in_keras, seen[0].record.before.updates + 1, names).settled()
    found = differences(both)
    mine, follower = seen if plan.reference == "torch" else seen[::-1]
    gradients, follower = follower.gradients, _given(plan, mine, follower)
    own = both.of(plan.follower)
    made = own.results(follower)
    matter = [d for d in found if _moves(d.swapped(own).results(follower), made)] or found
    whole = own
    for difference in matter:
        whole = difference.swapped(whole)
    as_the_other = whole.results(follower)
    roles = {role for results in (made, as_the_other) for by_role in results.values() for role in by_role}
    kept = roles & {role for one in seen for by_role in one.record.after.slots.values() for role in by_role}
    before, after = (_apart(plan, mine, results, kept) for results in (made, as_the_other))
    elements = sum(g.size for g in gradients.values())

    def deltas(parts: Collection[str]) -> Deltas:
        tried = own
        for number, difference in enumerate(matter):
            tried = difference.swapped(tried) if str(number) in parts else tried
        seen = replace(follower, gradients=gradients)  # its own, which the step was made with
        new, old = tried.results(seen), own.results(seen)
        moved = {(path, role): new[path][role] - old[path][role] for path in old for role in old[path]}
        return moved | moved_averages(seen.record, moved)

    trials = [Trial(before, after, REPRODUCED, 1 if d.solved else elements) for d in matter]
    causes = [prove(_cause(d, facts, recomputed=True), [trial]) for d, trial in zip(matter, trials, strict=True)]
    return [replace(c, exchanges=(Exchange(c.torch, c.keras, str(n), deltas),)) for n, c in enumerate(causes)]


def _told(side: SideName, name: str, style: Style | None, facts: Mapping[str, Facts]) -> list[Said]:
    """What a side may say of its optimizer: of a class of somebody's own either framework's formula is tried."""
    mine, other = facts[side], facts[other_side(side)].numbers
    styles: tuple[Style, ...] = ("torch", "keras") if mine.lone and style is None else (style or side,)
    told = [one for style in styles if (one := mine.said(side, name, style, other)) is not None]
    without = {switch: 0.0 for one in told[:1] for switch in SWITCHES if mine.lone and switch in one.settings}
    return told + [replace(one, settings={**one.settings, **without}) for one in told if without]


def _read(mine: Sequence[Said], other: Said, seen: Observed) -> Recipe | None:
    """The recipe that leaves most as it is said; a formula that needs a learning rate of its own is chance."""
    found = [(recipe.settings != one.settings, recipe) for one in mine if (recipe := read(one, other, seen))]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _another(plan: MatchPlan, record: StepRecord, other: StepRecord, facts: Mapping[str, Facts]) -> list[Cause]:
    """Two optimizers of other names; proven where each side's updates come out by its own formula."""
    records = {plan.reference: record, plan.follower: other}
    told: dict[SideName, Said | None] = {side: _by_itself(side, facts[side]) for side in SIDES}
    made = {side: _makes(told[side], observed(records[side])) for side in SIDES}
    shown: dict[SideName, str] = {side: facts[side].shown for side in SIDES}
    return [
        read_off(
            Cause(
                id="another_optimizer",
                phase="update",
                torch=shown["torch"],
                keras=shown["keras"],
                summary=f"the torch side trains with {shown['torch']}, the keras side with {shown['keras']}",
                evidence={f"{side}_update_recomputed": made[side] for side in SIDES},
                fix=f"keras: {_as('keras', told, shown)}, or torch: {_as('torch', told, shown)}",
            ),
            shown=all(made.values()),
        )
    ]


def _by_itself(side: SideName, facts: Facts) -> Said | None:
    """What a side says of its optimizer; None where its formula is not known."""
    name, family, style = family_named(facts.name)
    return facts.said(side, name, style) if family is not None else None


def _makes(told: Said | None, seen: Observed) -> bool:
    """Whether a side's updates are those of the optimizer that it names, by its framework's formula."""
    return told is not None and read(told, told, seen) is not None


def _as(side: SideName, told: Mapping[SideName, Said | None], shown: Mapping[SideName, str]) -> str:
    """How a side comes to train with the optimizer of the other one."""
    mine, other = told[side], told[other_side(side)]
    wanted = other if mine is None or other is None else like_the_other(mine, other)
    if wanted is not None and other is not None and other.clip != NO_CLIP:
        wanted = replace(wanted, clip=other.clip)
    whole = None if wanted is None else call(side, wanted)
    return whole or f"what {other_side(side)} calls {shown[other_side(side)]}"


def _cause(found: Difference, facts: Mapping[str, Facts], *, recomputed: bool) -> Cause:
    return Cause(
        id=found.id,
        phase="update",
        torch=found.torch or facts["torch"].shown,
        keras=found.keras or facts["keras"].shown,
        summary=found.summary,
        evidence={**found.evidence, "both_updates_recomputed": recomputed},
        fix=found.fix,
    )


def _given(plan: MatchPlan, mine: Observed, follower: Observed) -> Observed:
    """The follower with the reference's gradients, which agree but for rounding that some formulas blow up, and its
    count of names, which may all be one variable here; and with its slots, where each side kept its own; and with its
    squares of lookups, which only one side may have."""
    gradients, counts, squares = dict(follower.gradients), dict(follower.counts), dict(follower.squares)
    for match in plan.trained:
        names = max(mine.counts.get(path, 1) for path in match.piece(plan.reference).paths)
        counts |= {path: max(names, counts.get(path, 1)) for path in match.piece(plan.follower).paths}
        found, piece = match.piece(plan.reference).total(mine.gradients.get), match.piece(plan.follower)
        if found is None or found.shape != match.shape(plan.reference):
            continue
        moved = match.to(plan.follower, found)
        for path in piece.paths:
            if path in gradients and piece.part.cuts:
                gradients[path] = gradients[path].copy()
                piece.part.fill(gradients[path], moved)
            elif path in gradients:
                gradients[path] = moved
        own = mine.squares.get(match.piece(plan.reference).paths[0])
        if own is not None and own.shape == found.shape and not piece.part.cuts:
            squares |= dict.fromkeys(piece.paths, match.to(plan.follower, own))
    record, start = follower.record, mine.record.before
    if (start.guessed or record.before.guessed) and start.slots:
        slots = plan.for_follower(start, slots=True).slots
        record = replace(record, before=replace(record.before, slots={**record.before.slots, **slots}))
    return replace(follower, record=record, gradients=gradients, counts=counts, squares=squares)


def _moves(one: Mapping[str, Arrays], other: Mapping[str, Arrays]) -> bool:
    """Whether an update or a slot is another one, or kept by one of the two alone."""
    if any(one[path].keys() != other[path].keys() for path in other):
        return True
    return any(gap(other[path][role], one[path][role]) > REPRODUCED for path in other for role in other[path])


def _apart(plan: MatchPlan, mine: Observed, made: Mapping[str, Arrays], kept: Collection[str]) -> float:
    """The largest difference of updates and slots made in NumPy from those of the reference, relative to each.

    A slot among `kept` that only one of the two has is as far apart as can be.
    """
    apart = [0.0]
    after = mine.record.after.slots
    for match in plan.trained:
        ours, theirs = match.piece(plan.reference), match.piece(plan.follower)
        weight = ours.total(mine.record.before.value)
        size = 0.0 if weight is None else float(np.abs(weight).max(initial=0))
        again_kept, observed_kept = made.get(theirs.paths[0], {}), after.get(ours.paths[0], {})
        apart += [1.0 for role in kept if (role in again_kept) != (role in observed_kept)]
        for role in again_kept:
            observed = ours.total(lambda p, r=role: after.get(p, {}).get(r) if r else mine.record.update(p))
            again = theirs.total(lambda p, r=role: made.get(p, {}).get(r))
            if observed is None or again is None or again.shape != theirs.shape:
                continue
            moved = match.to(plan.reference, again)
            if observed.any() or moved.any():
                apart.append(gap(observed, moved, 0.0 if role else size))
    return max(apart)


def _unproven(name: str, torch: Said, keras: Said, facts: Mapping[str, Facts]) -> list[Cause]:
    """What the sides say of their optimizers, where they do something else besides."""
    plan = MatchPlan("torch", ())
    both = Both(plan, name, Recipe(torch, torch.clip), Recipe(keras, keras.clip), 1)
    return [
        _cause(d, facts, recomputed=False)
        for d in differences(both)
        if d.id in ("optimizer_formula", "optimizer_setting", "schedule")
    ]
