"""One side saved, loaded and trained on, against the same side that never stopped.

After every route three things are asked. Are the tie groups the same? Are all values, and the state of the optimizer,
the same bits? Is one more training step that of the run that never stopped? The last is the one that counts: it uses
all that the model is made of, also what no list of values shows.

What a route loses is one of three things.

- *By design, and said so by the framework.* The route is known for it (`Route.unties`, `Route.keeps_optimizer`): then
  the check is EQUIVALENT, its detail and a note of the run say what is lost. It must be exactly that and no more.
  Where the optimizer's state stays behind, both runs take the step with a fresh optimizer. Where a tie does, the
  values are set again, and loss and gradients of the step are compared: the gradients of the copies must add up to
  that of the weight they were.

  ==============  ===========================================================  ==================
  route           what it does to ties, by design                              optimizer's state
  ==============  ===========================================================  ==================
  state_dict      keeps them                                                   kept
  assign=True     a tied parameter becomes several, over one memory            made anew
  safetensors     keeps them; refuses views of one memory                      not in the format
  deepcopy        keeps them; views of one memory become separate              kept
  to(dtype)       keeps them; views of one memory become separate              kept
  .keras          keeps them                                                   kept
  .weights.h5     keeps them: `build` makes them                               kept
  clone_model     a variable in two distinct layers becomes two                not in the config
  from_config     likewise                                                     not in the config
  ==============  ===========================================================  ==================

- *By the model's own doing*: a config that leaves out an argument, a buffer that is not persistent, a tie made by a
  trick that nothing saves. That is DIFFERENT, with a cause.
- *The route does not run*: an unregistered class, a model without a config. That is INCONCLUSIVE, with the remedy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserCodeError
from ...numerics.compare import measure, rms, structure
from ...numerics.judge import Frame, Item, compare_items
from ...records.reload import Fault, Loss, Reloaded, Route, TieChange, carried, equal, tie_changes
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import Array, StepRecord, total_of
from ...stepping.lockstep import ReferenceStep
from ...stepping.saving import NEXT

BY_DESIGN: Mapping[Loss, str] = {
    "parameters": "one parameter comes back as several over one memory, and an optimizer steps each of them",
    "variables": "one variable in several layers comes back as several",
    "views": "parameters that are views of one memory come back with memories of their own",
    "joined": "",
}


@dataclass(frozen=True, slots=True)
class Persisted:
    """What is said about one route.

    Attributes:
        route: that was taken.
        checks: of ties, values, the optimizer and the next step.
        faults: what the route lost and should not have.
        untied: the first path of each tie that it lost by design.
        restarted: by design it lost a state that the optimizer had.
    """

    route: Route
    checks: Sequence[Check]
    faults: Sequence[Fault] = ()
    untied: Sequence[str] = ()
    restarted: bool = False


def persistence_notes(side: SideName, routes: Sequence[Persisted]) -> list[str]:
    """What the routes of a side lost by design."""
    notes = [
        f"{side}: after {found.route.name}, by design, {BY_DESIGN[found.route.unties]} "
        f"({', '.join(found.untied)}): tie again after loading"
        for found in routes
        if found.untied and found.route.unties is not None
    ]
    restarted = [found.route.name for found in routes if found.restarted]
    if restarted:
        notes.append(f"{side}: the optimizer's state does not come back, by design, after {', '.join(restarted)}")
    return notes


def stopped(side: SideName, route: Route, error: UserCodeError) -> Persisted:
    """A route that does not run."""
    told = [part for part in (error.what, error.parts["cause"], error.parts["next"]) if part]
    why = ". ".join(" ".join(part.split()).rstrip(".")[:300] for part in told)
    name = f"{side}: {route.name}"
    return Persisted(route, [_check(side, name, None, Verdict.INCONCLUSIVE, f"did not run: {why}")])


def persistence_checks(side: SideName, step: ReferenceStep, found: Reloaded, tied: Collection[str]) -> Persisted:
    """One side after one route.

    Args:
        side: that was saved.
        step: the next step of the run that never stopped, from the optimizer's state that the route keeps.
        found: what the route left.
        tied: paths of the side whose ties are reported even where the side has a single path for all uses.
    """
    changes = tie_changes(found.before, found.after)
    broken = [change for change in changes if change.loss != found.route.unties]
    ties = _tie_checks(side, found, changes, tied)
    values = _value_checks(side, found)
    optimizer = _optimizer_checks(side, found) if found.optimizer_kept and not changes else []
    next_step = _step_checks(side, step, found, untied=bool(changes))
    checks = [*ties, *values, *optimizer, *next_step]
    faults: list[Fault] = []
    if any(c.verdict is Verdict.DIFFERENT for c in checks):
        explained = _explained(side, step, found, untied=bool(changes))
        faults = list(_faults(side, found, broken, values, optimizer, explained))
    untied = [change.paths[0] for change in changes if change not in broken]
    return Persisted(found.route, checks, faults, untied, bool(found.saved.slots) and not found.optimizer_kept)


def _check(
    side: SideName, name: str, path: str | None, verdict: Verdict, detail: str = "", step: int | None = None
) -> Check:
    torch, keras = (path, None) if side == "torch" else (None, path)
    return Check("persistence", "float64", step, name, torch, keras, verdict, detail=detail)


def _exact(check: Check, error: float = 0.0) -> Check:
    return replace(check, error=error, allowed=0.0)


# Ties --------------------------------------------------------------------------------------------------------------


def _tie_checks(side: SideName, found: Reloaded, changes: list[TieChange], tied: Collection[str]) -> list[Check]:
    changed = {path: change for change in changes for path in change.paths}
    checks: list[Check] = []
    for group in found.before.tie_groups():
        if len(group) == 1 and group[0] not in tied and group[0] not in changed:
            continue
        name = f"{side}: tie of {group[0]} after {found.route.name}"
        change = next((changed[path] for path in group if path in changed), None)
        if change is None:
            checks.append(_check(side, name, " = ".join(group), Verdict.EQUIVALENT, "one storage, as before"))
            continue
        lost = change.loss == found.route.unties
        detail = (
            f"by design of this route {BY_DESIGN[change.loss]}: {_parts(change)}" if lost else _broken(found, change)
        )
        checks.append(_check(side, name, " = ".join(group), Verdict.EQUIVALENT if lost else Verdict.DIFFERENT, detail))
    return checks


def _parts(change: TieChange) -> str:
    return " | ".join(" = ".join(part) for part in change.parts)


def _broken(found: Reloaded, change: TieChange) -> str:
    if change.loss == "joined":
        return f"extra: separate before it was saved, one storage after it was loaded: {_parts(change)}"
    origin = found.origin
    saved = [found.saved.value(found.before.canonical_path(origin[part[0]])) for part in change.parts]
    loaded = [found.loaded.value(found.after.canonical_path(part[0])) for part in change.parts]
    same = all(equal(old, new) for old, new in zip(saved, loaded, strict=True))
    status = "equal but untied" if same else "missing, and the values differ"
    over = ", over one memory" if change.loss == "parameters" else ""
    return f"{status}: one before it was saved, {len(change.parts)} after it was loaded{over}: {_parts(change)}"


# Values ------------------------------------------------------------------------------------------------------------


def _value_checks(side: SideName, found: Reloaded) -> list[Check]:
    """Bit for bit; one check for all that agree."""
    route, origin = found.route.name, found.origin
    bad: list[Check] = []
    good = 0
    seen: set[str | None] = set()
    for entry in found.after.canonical():
        old = origin.get(entry.path)
        shown = entry.path if old is None or old in seen else old  # a copy goes by its own path
        seen.add(old)
        name = f"{side}: {shown} after {route}"
        if old is None:
            bad.append(_check(side, name, shown, Verdict.DIFFERENT, "was not there before it was saved"))
            continue
        before, now = found.saved.value(found.before.canonical_path(old)), found.loaded.value(entry.path)
        if equal(before, now):
            good += 1
            continue
        check = _check(side, name, shown, Verdict.DIFFERENT, _other(found, old, before, now))
        bad.append(check if structure(before, now) else _exact(check, measure(before, now).element))
    gone = {e.path for e in found.before.canonical()} - {found.before.canonical_path(old) for old in origin.values()}
    bad += [
        _check(side, f"{side}: {path} after {route}", path, Verdict.DIFFERENT, "is gone after loading")
        for path in sorted(gone)
    ]
    if bad:
        return bad
    said = "; ".join([f"{good} values, bit for bit", *([found.route.says] if found.route.says else []), *found.remarks])
    return [_exact(_check(side, f"{side}: {route}", None, Verdict.EQUIVALENT, said[:600]))] if good else []


def _other(found: Reloaded, path: str, before: Array, now: Array) -> str:
    problem = structure(before, now)
    said = problem or "not the value that was saved"
    unsaved = " and is not in the file: persistent=False" if path in found.unsaved else ""
    return "; ".join([said + unsaved, *found.remarks])[:600]


def _optimizer_checks(side: SideName, found: Reloaded) -> list[Check]:
    name = f"{side}: optimizer after {found.route.name}"
    expected = carried(found.saved, found.before, found.after, slots=True)
    if not expected.slots and found.loaded.updates == expected.updates:
        return []
    wrong: list[str] = []
    if found.loaded.updates != expected.updates:
        wrong.append(f"{expected.updates} updates were saved, {found.loaded.updates} came back")
    for path, roles in expected.slots.items():
        now = found.loaded.slots.get(path, {})
        wrong += [
            f"{role} of {path}" for role, value in roles.items() if role not in now or not equal(value, now[role])
        ]
    if not wrong:
        count = sum(len(roles) for roles in expected.slots.values())
        return [_exact(_check(side, name, None, Verdict.EQUIVALENT, f"{count} slots, bit for bit"))]
    said = f"not as saved: {', '.join(wrong[:4])}" + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return [_check(side, name, None, Verdict.DIFFERENT, "; ".join([said, *found.remarks])[:600])]


# The next step -----------------------------------------------------------------------------------------------------


def _step_checks(side: SideName, step: ReferenceStep, found: Reloaded, *, untied: bool) -> list[Check]:
    record = found.mended if untied and found.mended is not None else found.record
    checks = _compared(side, step, found, record, untied=untied)
    name = f"{side}: step after {found.route.name}"
    bad = [c for c in checks if c.verdict is not Verdict.EQUIVALENT]
    if bad and not step.repeatable:
        detail = "made again from one state, this step gives other numbers, saved or not: it draws at random"
        return [_check(side, name, None, Verdict.INCONCLUSIVE, detail, NEXT)]
    if bad:
        return [replace(c, name=f"{name}: {c.name}") for c in bad]
    worst = max(checks, key=lambda c: c.severity)
    with_ = "the optimizer's state kept" if found.optimizer_kept else "a fresh optimizer in both"
    what = "loss and gradients, those of the copies added up" if untied else "loss and updates"
    said = f"{what}: {len(checks)} quantities, {with_}" + (f"; furthest {worst.name}" if worst.error else "")
    return [replace(worst, name=name, torch=None, keras=None, detail=said)]


def _explained(side: SideName, step: ReferenceStep, found: Reloaded, *, untied: bool) -> bool:
    if found.mended is None:
        return False
    return all(c.verdict is Verdict.EQUIVALENT for c in _compared(side, step, found, found.mended, untied=untied))


def _compared(side: SideName, step: ReferenceStep, found: Reloaded, record: StepRecord, *, untied: bool) -> list[Check]:
    """The next step, quantity by quantity, in the paths that the side had before it was saved."""
    eager = step.record
    frame = Frame("persistence", "float64", NEXT, side, *step.sums)

    def of_side(path: str) -> tuple[str | None, str | None]:
        return (path, None) if side == "torch" else (None, path)

    loss = Item(
        "total loss",
        *of_side("total"),
        total_of(eager.losses),
        total_of(record.losses),
        tuple(total_of(twin.losses) for twin in step.twins),
    )
    now = _gradients(found, record) if untied else _updates(found, record)
    items: list[Item] = []
    for path, weight in eager.before.values().items():
        if untied:
            values = eager.gradients.get(path)
            twins = tuple(twin.gradients.get(path) for twin in step.twins)
        else:
            values, twins = eager.update(path), tuple(twin.update(path) for twin in step.twins)
        if values is None and path not in now:
            continue  # frozen, or a buffer
        source = 0.0 if untied else rms(weight)
        items.append(Item(path, *of_side(path), values, now.get(path), twins, source=source))
    return compare_items(frame, [loss]) + compare_items(frame, items)


def _updates(found: Reloaded, record: StepRecord) -> dict[str, Array]:
    """What the step added, by the paths before; of a value that did not come back it is the way from the saved one."""
    origin = found.origin
    first = {found.before.canonical_path(origin[e.path]): e.path for e in found.after.canonical() if e.path in origin}
    updates = {old: record.update(new) for old, new in first.items()}
    return {old: update for old, update in updates.items() if update is not None}


def _gradients(found: Reloaded, record: StepRecord) -> dict[str, Array]:
    """Gradients by the paths before, those of several copies added up."""
    origin = found.origin
    total: dict[str, Array] = {}
    for path, gradient in record.gradients.items():
        if gradient is not None and path in origin:
            old = found.before.canonical_path(origin[path])
            total[old] = np.add(total[old], gradient) if old in total else gradient
    return total


# What was lost -----------------------------------------------------------------------------------------------------


def _faults(
    side: SideName,
    found: Reloaded,
    broken: list[TieChange],
    values: list[Check],
    optimizer: list[Check],
    explained: bool,
) -> list[Fault]:
    """What explains the difference, nearest to the file first."""
    route = found.route.name
    faults: list[Fault] = []
    for change in broken:
        id_ = "tie_lost_by_assign" if change.loss == "parameters" else "tie_lost_on_save"
        id_ = "tie_made_on_save" if change.loss == "joined" else id_
        faults.append(Fault(id_, route, change.paths, _parts(change), explained))
    if broken:
        return faults
    if found.orphans:
        said = f"{found.orphans} parameters that the model does not have"
        return [Fault("optimizer_left_behind", route, (), said, explained)]
    wrong = [c for c in values if c.verdict is Verdict.DIFFERENT]
    for check in wrong:
        path = check.torch or check.keras or check.name
        id_ = "buffer_not_persistent" if path in found.unsaved else "value_not_saved"
        faults.append(Fault(id_, route, (path,), check.detail, explained))
    if not wrong:
        lost = [c for c in optimizer if c.verdict is Verdict.DIFFERENT]
        faults += [Fault("optimizer_state_not_saved", route, (), c.detail, explained) for c in lost]
    for name, (old, new) in found.attributes.items():
        id_ = "state_not_saved" if name in found.hidden else "setting_not_saved"
        said = "holds other values" if name in found.hidden else f"{old} before, {new} after"
        faults.append(Fault(id_, route, (name,), said, explained))
    return faults
