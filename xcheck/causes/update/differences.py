"""What differs between the recipes of two sides, each with its words, its fix, and the swap that takes it away."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...matching import Match
from ...records.sides import SIDES, SideName, other_side
from ...records.slots import ROLES
from ..recomputed import REPRODUCED, gap
from ..text import listed
from .both import Both, Difference, same
from .calls import call, like_the_other
from .clipping import NO_CLIP
from .constraint import FREE, Projection
from .recipe import Recipe

DENSE = (
    "keras: make the gradient of the table dense: keras.ops.take(keras.ops.reshape(table, table.shape), "
    "indexes, axis=0)"
)


def differences(both: Both) -> list[Difference]:
    """Everything in which the recipes differ.

    Args:
        both: the recipes.
    """
    return [
        *_formula(both),
        *_settings(both),
        *_carried(both),
        *_starts(both),
        *_lookups(both),
        *_clipping(both),
        *_decay(both),
        *_constraints(both),
    ]


def _formula(both: Both) -> Iterator[Difference]:
    family, reference = both.torch.said.family, both.of(both.plan.reference)
    if both.torch.said.style != both.keras.said.style and family.places:
        yield Difference(
            "optimizer_formula",
            f"the two {both.name} follow different formulas: {family.places}",
            both.alike() or f"a formula of your own, on either side: {family.places}",
            lambda recipe: replace(recipe, said=replace(recipe.said, style=reference.said.style)),
        )


def _settings(both: Both) -> Iterator[Difference]:
    reference = both.of(both.plan.reference)
    for name, words in both.torch.said.family.settings.items():
        values = both.torch.settings[name], both.keras.settings[name]
        if values[0] == values[1]:
            continue

        def swapped(recipe: Recipe, name: str = name) -> Recipe:
            settings = {**recipe.settings, name: reference.settings[name]}
            return replace(recipe, said=replace(recipe.said, settings=settings))

        torch_word, keras_word = words[0], words[-1]
        shown = f"{values[0]!r} in torch, {values[1]!r} in keras"
        fix = f"keras: {_set('keras', both, name)}, or torch: {_set('torch', both, name)}"
        summary, cause = f"the two {both.name} differ in {name}: {shown}", "optimizer_setting"
        schedules = both.torch.said.schedule, both.keras.said.schedule
        scaled: list[SideName] = [side for side in SIDES if name == "learning_rate" and both.of(side).said_rate]
        if scaled:
            cause, (summary, fix) = "scaled_step", _scaled(both, scaled)
        elif name == "learning_rate" and any(schedules):
            cause = "schedule"
            summary = f"the learning rate of step {both.t} is {values[0]!r} in torch and {values[1]!r} in keras"
            summary += _shift("keras", values[0], schedules[1], both.t)
            summary += _shift("torch", values[1], schedules[0], both.t)
        if not scaled and name == "learning_rate" and (any(schedules) or both.torch.said.initial is not None):
            taken = f"after {both.t - 1} step{'s' * (both.t != 2)}"
            fix = f"keras: a schedule that gives {values[0]!r} {taken}, or torch: one that gives {values[1]!r}"
        yield Difference(
            cause,
            summary,
            fix,
            swapped,
            f"{torch_word}={values[0]!r}",
            f"{keras_word}={values[1]!r}",
            {"torch": values[0], "keras": values[1]},
            any(both.of(side).solved for side in SIDES) and name == "learning_rate",
        )


def _scaled(both: Both, scaled: Sequence[SideName]) -> tuple[str, str]:
    """Summary and fix for sides whose steps are not those of the learning rate that they say."""
    told: list[str] = []
    for side in scaled:
        said, does = both.of(side).said_rate or 0.0, both.of(side).settings["learning_rate"]
        told.append(f"the {side} side has a learning rate of {said!r}, but its step is {does / said:.6g} times that")
    where = " and ".join(both.of(side).said.own or both.name for side in scaled)
    return "; ".join(told), f"{' and '.join(scaled)}: leave the factor out of the step of {where}, or set the rate so"


def _carried(both: Both) -> Iterator[Difference]:
    """Momentum that a change of the learning rate scales on one side."""
    torch, keras, reference = both.torch.carried, both.keras.carried, both.of(both.plan.reference)
    if same(torch, keras):
        return
    side: SideName = "torch" if not same(torch, 1.0) else "keras"
    worth = both.of(side).carried
    yield Difference(
        "carried_momentum",
        f"the learning rate has changed, and the momentum of the {side} side with it: it is scaled by {worth:.6g}; "
        f"that of the {other_side(side)} side keeps the rates of the steps it was built from",
        both.alike() or f"keras: divide the momentum by {worth:.6g} where the learning rate changes",
        lambda recipe: replace(recipe, carried=reference.carried),
        evidence={"torch": torch, "keras": keras},
    )


def _set(side: SideName, both: Both, name: str) -> str:
    """How one setting of a side is made as the other side has it."""
    mine, other = both.of(side).said, both.of(other_side(side)).said
    value, words = other.settings[name], mine.family.settings[name]
    word = words[0] if side == "torch" else words[-1]
    if mine.own:
        return f"{word}={value!r} in {mine.own}"
    wanted = like_the_other(mine, other)
    whole = call(side, replace(mine, settings=wanted.settings)) or call(side, wanted)
    return whole or f"{word}={value!r}, which no optimizer has as a setting: write the formula with it"


def _starts(both: Both) -> Iterator[Difference]:
    """Slots that do not begin at the same number."""
    reference = both.of(both.plan.reference)
    for role in sorted({*both.torch.starts, *both.keras.starts}):
        torch, keras = (both.of(side).starts.get(role, 0.0) for side in SIDES)
        if same(torch, keras):
            continue

        def swapped(recipe: Recipe, role: str = role) -> Recipe:
            return replace(recipe, starts={**recipe.starts, role: reference.starts.get(role, 0.0)})

        yield Difference(
            "slot_start",
            f"before the first step the {ROLES[role]} is {torch:.6g} in torch and {keras:.6g} in keras",
            f"torch: let it start at {keras:.6g}, or keras: assign {torch:.6g} to it once the optimizer is built",
            swapped,
            evidence={"role": role, "torch": torch, "keras": keras},
        )


def _shift(side: SideName, wanted: float, schedule: Sequence[float], t: int) -> str:
    """By how many steps a schedule is off, in words; "" where it nowhere has what the other side has."""
    steps = [i + 1 for i, rate in enumerate(schedule) if wanted and abs(rate - wanted) <= REPRODUCED * abs(wanted)]
    if not steps:
        return ""
    nearest = min(steps, key=lambda step: abs(step - t))
    n = abs(nearest - t)
    late = "late" if nearest > t else "early"
    return f"; the {side} side is {n} step{'s' * (n > 1)} {late}: its schedule has that rate in step {nearest}"


def _lookups(both: Both) -> Iterator[Difference]:
    whole = call("keras", like_the_other(both.keras.said, both.torch.said))
    for path in sorted(both.keras.lookups - both.torch.lookups):
        keeps = both.of(both.plan.reference).lookups
        yield Difference(
            "squares_of_lookups",
            f"keras squares the gradient of {path} lookup by lookup and adds the squares up: it comes as a list of "
            "rows, in which a row that is looked up several times stands as often; torch squares the sum",
            DENSE + (f", or {whole}" if whole and both.torch.said.style == "torch" else ""),
            lambda recipe, keeps=keeps: replace(recipe, lookups=keeps),
            keras=path,
        )


def _clipping(both: Both) -> Iterator[Difference]:
    one, two = both.torch.clip, both.keras.clip
    if one == two:
        return
    reference = both.of(both.plan.reference).clip
    alike = (one.kind, one.limit) == (two.kind, two.limit)
    if one == replace(two, lookups=one.lookups):
        cause, fix = "squares_of_lookups", DENSE
    elif alike and one.tied != two.tied:
        counted = "torch" if one.tied else "keras"
        cause = "clipping_counts_a_tie_twice"
        fix = f"{counted}: clip each parameter once, however many names it has: "
        fix += "model.parameters() names a tied one once" if counted == "torch" else _clipped("keras", both)
    else:
        cause = "clipping_formula" if alike else "clipping"
        fix = f"keras: {_clipped('keras', both)}, or torch: {_clipped('torch', both)}"
        fix += f"; and {DENSE}" if one.lookups != two.lookups else ""
    yield Difference(
        cause,
        f"torch {one.words}, keras {two.words}",
        fix,
        lambda recipe: replace(recipe, clip=reference),
        evidence={"torch": one.words, "keras": two.words},
    )


def _clipped(side: SideName, both: Both) -> str:
    """How a side comes to clip as the other does."""
    mine, other = both.of(side).said, both.of(other_side(side))
    wanted = replace(other.clip, tied=False, again=False, lookups=False)
    if side == "torch" and mine.clip == NO_CLIP and (wanted == NO_CLIP or wanted.in_torch):
        return wanted.in_torch or "no clipping between backward and step"
    as_the_other = like_the_other(mine, other.said)
    whole = call(side, replace(mine, clip=wanted)) or call(side, replace(as_the_other, clip=wanted))
    return whole or f"{wanted.formula}, before the optimizer has the gradients"


def _decay(both: Both) -> Iterator[Difference]:
    plan = both.plan
    reference = both.of(plan.reference)
    other: dict[str, tuple[float, ...]] = {}  # follower's path -> the rate of the reference
    uneven: dict[tuple[float, float], list[Match]] = {}
    for match in plan.parameters:
        torch, keras = (both.of(side).rate(match.path(side)) for side in SIDES)
        other |= dict.fromkeys(match.piece(plan.follower).paths, (torch if plan.reference == "torch" else keras,))
        if not same(torch, keras):
            uneven.setdefault((torch, keras), []).append(match)

    def swapped(recipe: Recipe) -> Recipe:
        idle = not any(rate for rates in recipe.decay.values() for rate in rates)  # where nothing decays, as it would
        return replace(recipe, decay={**recipe.decay, **other}, coupled=reference.coupled if idle else recipe.coupled)

    decaying = [m for m in plan.parameters if both.torch.rate(m.torch) and both.keras.rate(m.keras)]
    if both.torch.coupled != both.keras.coupled and decaying:
        inside, outside = ("torch", "keras") if both.torch.coupled else ("keras", "torch")
        yield Difference(
            "decay_in_the_gradient",
            f"the weight decay of the {inside} side is added to the gradient, which the {both.name} then scales; "
            f"that of the {outside} side is subtracted from the weight directly",
            f"keras: {_decaying('keras', both)}, or torch: {_decaying('torch', both)}",
            lambda recipe: replace(recipe, coupled=reference.coupled),
        )
    for (torch, keras), matches in uneven.items():
        names = [(match.name("torch"), match.name("keras")) for match in matches]
        cause, summary, fix = _told(both, torch, keras, names, _excluding(both, matches))
        yield Difference(
            cause,
            summary,
            fix,
            swapped,
            ", ".join(name for name, _ in names),
            ", ".join(name for _, name in names),
            {"torch": torch, "keras": keras},
        )


def _excluding(both: Both, matches: Sequence[Match]) -> str:
    """The call that excludes variables from Keras's weight decay: by their names, in which it searches, or by path."""

    def paths_of(held: Iterable[Match]) -> list[str]:
        return [path for match in held for path in match.keras_piece.paths]

    def names_of(held: Iterable[Match]) -> set[str]:
        return {path.rpartition("/")[2] for path in paths_of(held)}

    zero = [m for m in both.plan.parameters if both.keras.decay.get(m.keras) == ()]  # see `settled`
    decayed = names_of(m for m in both.plan.parameters if m not in matches and m not in zero)
    paths, words = paths_of(matches), sorted(names_of(matches))
    if any(word in name for word in words for name in decayed):
        chosen = f"var_list=[v for v in model.trainable_variables if v.path in {tuple(sorted(set(paths)))!r}]"
        written = "before the optimizer is built; its config forgets it"
    else:
        chosen, written = f"var_names={words!r}", "in the __init__ of a subclass, since its config forgets it"
    unknown = f"; not known for {listed([m.name('keras') for m in zero])}, zero so far" if zero else ""
    return f"optimizer.exclude_from_weight_decay({chosen}), {written}{unknown}"


def _told(
    both: Both, torch: float, keras: float, names: Sequence[tuple[str, str]], excluding: str
) -> tuple[str, str, str]:
    """Id, summary and fix for parameters that decay at another rate; `excluding` is the call that excludes them."""
    rates: dict[SideName, float] = {"torch": torch, "keras": keras}
    told: dict[SideName, str] = {
        "torch": listed([name for name, _ in names]),
        "keras": listed([name for _, name in names]),
    }
    shown = told[both.plan.reference]
    idle: SideName = "torch" if not torch else "keras"
    busy = other_side(idle)
    spared = any(same(rate, rates[busy]) for held in both.of(idle).decay.values() for rate in held if rate)
    if not rates[idle] and spared:
        how = {
            "keras": f"keras: {excluding}",
            "torch": f"torch: put {told['torch']} into a parameter group with weight_decay=0",
        }
        summary = f"the {idle} side leaves {shown} out of weight decay, the {busy} side decays it by {rates[busy]!r}"
        return "decay_exclusion", summary, how[busy]
    for often in SIDES:
        once = other_side(often)
        usual = both.of(often).said.decay or rates[once]
        n = round(rates[often] / usual) if usual else 0
        counts = {both.names.get(name, 1) for pair in names for name in pair} - {1}
        if n in counts and same(rates[often], n * usual) and same(rates[once], usual):
            summary = f"the {often} side decays {shown} {n} times in a step, by {usual!r} each: it is tied, and counts "
            summary += "once for each of its names"
            return "decay_counts_a_tie_twice", summary, f"{often}: decay each parameter once, however many names it has"
    for side in SIDES:
        lr, mine = both.of(side).settings["learning_rate"], rates[side]
        declared = both.of(other_side(side)).said.decay
        if lr not in (0, 1) and declared and same(mine * lr, declared):
            summary = f"the {side} side takes {declared!r} of {shown} off in each step, whatever the learning rate is; "
            summary += f"the {other_side(side)} side takes that times its learning rate"
            return "decay_not_scaled", summary, f"{side}: multiply the decay by the learning rate, {lr!r}"
    summary = f"{shown} decays by {torch!r} in torch and by {keras!r} in keras, per unit of the learning rate"
    fix = f"keras: {_decaying('keras', both, torch)}, or torch: {_decaying('torch', both, keras)}"
    return "weight_decay", summary, fix


def _decaying(side: SideName, both: Both, rate: float | None = None) -> str:
    """How a side comes to decay as the other does.

    Args:
        side: that is changed.
        both: the recipes.
        rate: of the decay; that of the side itself where this is None, and only its place is changed.
    """
    mine, other = both.of(side).said, both.of(other_side(side)).said
    rate = mine.decay if rate is None else rate
    coupled = both.of(other_side(side)).coupled
    wanted = replace(mine, decay=rate, coupled=coupled)
    whole = None if mine.own else call(side, wanted)
    whole = whole or call(side, replace(like_the_other(mine, other), decay=rate, coupled=coupled))
    if whole:
        return whole
    if not rate:
        return "no weight decay"
    weight = "parameter" if side == "torch" else "variable"
    if coupled:
        return f"weight_decay=0, and {rate!r} * {weight} added to each gradient before the update"
    return f"weight_decay=0, and each {weight} times 1 - {rate!r} * learning rate before the update"


def _constraints(both: Both) -> Iterator[Difference]:
    """Constraints that hold a weight to another set, one difference for each way in which they do."""
    plan = both.plan
    found: dict[tuple[Projection, Projection, Projection, Projection], list[Match]] = {}
    for match in plan.parameters:
        torch, keras = (both.of(side).projections.get(match.path(side), FREE) for side in SIDES)
        for_keras, for_torch = _translated(match, torch, "keras"), _translated(match, keras, "torch")
        if for_keras is not None and for_torch is not None and for_keras != keras:
            found.setdefault((torch, keras, for_keras, for_torch), []).append(match)
    for (torch, keras, for_keras, for_torch), matches in found.items():
        wanted = for_keras if plan.follower == "keras" else for_torch
        others = {path: wanted for m in matches for path in m.piece(plan.follower).paths}

        def swapped(recipe: Recipe, others: Mapping[str, Projection] = others) -> Recipe:
            return replace(recipe, projections={**recipe.projections, **others})

        names = [listed([m.name(side) for m in matches]) for side in SIDES]
        yield Difference(
            _constraint(keras, for_keras),
            f"after the step the torch side holds {names[0]} to {torch.words}, in keras to {for_keras.words}; and the "
            f"keras side to {keras.words}",
            f"keras: {for_keras.keras}, or torch: {for_torch.torch}",
            swapped,
            names[0],
            names[1],
            {"torch": torch.words, "keras": keras.words},
        )


def _constraint(one: Projection, two: Projection) -> str:
    """Id of what differs between two constraints in one layout."""
    if "shrunk" in (one.kind, two.kind):
        return "decay_after_the_step"
    if FREE in (one, two):
        return "constraint_missing"
    if replace(one, axes=two.axes) == two:
        return "constraint_axis"
    return "constraint_epsilon" if replace(one, added=two.added) == two else "constraint"


def _translated(match: Match, projection: Projection, side: SideName) -> Projection | None:
    """The constraint of the other side that is the same in the layout of this one; None where none is.

    Which axes are which is decided by trying, on numbers that are all different.
    """
    if projection == FREE or not match.plain:
        return FREE if projection == FREE else None
    piece = match.piece(other_side(side))
    numbers = np.random.default_rng(0).standard_normal(piece.shape)
    wanted, start = match.to(side, projection.of(numbers)), match.to(side, numbers)
    n = start.ndim
    every = [axes for size in range(n + 1) for axes in itertools.combinations(range(n), size)]
    tried = (replace(projection, axes=axes) for axes in every if axes or not projection.axes)
    return next((p for p in tried if gap(wanted, p.of(start)) <= REPRODUCED), None)
