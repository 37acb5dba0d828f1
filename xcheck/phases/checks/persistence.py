"""One side saved, loaded and trained on, against the same side that never stopped.

Every route is checked by three questions. Are the tie groups the same? Are all values and the optimizer's state the
same bits? Does one more training step equal that of the run that never stopped? The last question decides: the step
uses everything in the model, including state that no list of values shows.

A route loses something in one of three ways.

- *By design, as the framework documents.* The loss is known (`Route.unties`, `Route.keeps_optimizer`): then the check
  is EQUIVALENT, and its detail and a note of the run state the loss. Exactly this may be lost and nothing else.
  If the optimizer's state is lost, both runs take the step with a fresh optimizer. If a tie is lost, the values are
  set again, and loss and gradients of the step are compared: the gradients of the copies must add up to the gradient
  of the original weight.

  ==============  ===========================================================  ==================
  route           what it does to ties, by design                              optimizer's state
  ==============  ===========================================================  ==================
  state_dict      keeps them                                                   kept
  assign=True     a tied parameter becomes several, over one memory            reset
  safetensors     keeps them; refuses views of one memory                      not in the format
  deepcopy        keeps them; views of one memory become separate              kept
  to(dtype)       keeps them; views of one memory become separate              kept
  .keras          keeps them                                                   kept
  .weights.h5     keeps them: `build` makes them                               kept
  clone_model     a variable in two distinct layers becomes two                not in the config
  from_config     a variable in two distinct layers becomes two                not in the config
  ==============  ===========================================================  ==================

- *Because of the model*: a config that leaves out an argument, a buffer that is not persistent, a tie that no file
  stores. That is DIFFERENT, with a cause.
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
    "views": "parameters that are views of one memory come back with separate memory",
    "joined": "",
}


@dataclass(frozen=True, slots=True)
class Persisted:
    """The result of one route.

    Attributes:
        route: the route.
        checks: of ties, values, the optimizer and the next step.
        faults: losses that the route should not have.
        untied: the first path of each tie that it lost by design.
        restarted: by design it lost an existing optimizer state.
    """

    route: Route
    checks: Sequence[Check]
    faults: Sequence[Fault] = ()
    untied: Sequence[str] = ()
    restarted: bool = False


def persistence_notes(side: SideName, routes: Sequence[Persisted]) -> list[str]:
    """Notes on the losses by design of the routes of a side."""
    notes = [
        f"{side}: after {result.route.name}, by design, {BY_DESIGN[result.route.unties]} "
        f"({', '.join(result.untied)}): tie again after loading"
        for result in routes
        if result.untied and result.route.unties is not None
    ]
    restarted = [result.route.name for result in routes if result.restarted]
    if restarted:
        notes.append(f"{side}: the optimizer's state does not come back, by design, after {', '.join(restarted)}")
    return notes


def stopped(side: SideName, route: Route, error: UserCodeError) -> Persisted:
    """A route that does not run."""
    texts = [part for part in (error.what, error.parts["cause"], error.parts["next"]) if part]
    reason = ". ".join(" ".join(part.split()).rstrip(".")[:300] for part in texts)
    name = f"{side}: {route.name}"
    return Persisted(route, [_check(side, name, None, Verdict.INCONCLUSIVE, f"did not run: {reason}")])


def persistence_checks(side: SideName, step: ReferenceStep, reloaded: Reloaded, tied: Collection[str]) -> Persisted:
    """One side after one route.

    Args:
        side: the saved side.
        step: the next step of the run that never stopped, with an optimizer state as the route keeps it.
        reloaded: the side after the route.
        tied: paths of the side whose ties are reported even where the side has a single path for all uses.
    """
    changes = tie_changes(reloaded.before, reloaded.after)
    broken = [change for change in changes if change.loss != reloaded.route.unties]
    ties = _tie_checks(side, reloaded, changes, tied)
    values = _value_checks(side, reloaded)
    optimizer = _optimizer_checks(side, reloaded) if reloaded.optimizer_kept and not changes else []
    next_step = _step_checks(side, step, reloaded, untied=bool(changes))
    checks = [*ties, *values, *optimizer, *next_step]
    faults: list[Fault] = []
    if any(c.verdict is Verdict.DIFFERENT for c in checks):
        explained = _is_explained(side, step, reloaded, untied=bool(changes))
        faults = list(_faults(side, reloaded, broken, values, optimizer, explained))
    untied = [change.paths[0] for change in changes if change not in broken]
    return Persisted(reloaded.route, checks, faults, untied, bool(reloaded.saved.slots) and not reloaded.optimizer_kept)


def _check(
    side: SideName, name: str, path: str | None, verdict: Verdict, detail: str = "", step: int | None = None
) -> Check:
    torch, keras = (path, None) if side == "torch" else (None, path)
    return Check("persistence", "float64", step, name, torch, keras, verdict, detail=detail)


def _exact(check: Check, error: float = 0.0) -> Check:
    return replace(check, error=error, allowed=0.0)


# Ties --------------------------------------------------------------------------------------------------------------


def _tie_checks(side: SideName, reloaded: Reloaded, changes: list[TieChange], tied: Collection[str]) -> list[Check]:
    changed = {path: change for change in changes for path in change.paths}
    checks: list[Check] = []
    for group in reloaded.before.tie_groups():
        if len(group) == 1 and group[0] not in tied and group[0] not in changed:
            continue
        name = f"{side}: tie of {group[0]} after {reloaded.route.name}"
        change = next((changed[path] for path in group if path in changed), None)
        if change is None:
            checks.append(_check(side, name, " = ".join(group), Verdict.EQUIVALENT, "one storage, as before"))
            continue
        by_design = change.loss == reloaded.route.unties
        detail = (
            f"by design of this route {BY_DESIGN[change.loss]}: {_parts(change)}"
            if by_design
            else _broken_detail(reloaded, change)
        )
        checks.append(
            _check(side, name, " = ".join(group), Verdict.EQUIVALENT if by_design else Verdict.DIFFERENT, detail)
        )
    return checks


def _parts(change: TieChange) -> str:
    return " | ".join(" = ".join(part) for part in change.parts)


def _broken_detail(reloaded: Reloaded, change: TieChange) -> str:
    if change.loss == "joined":
        return f"extra: separate before it was saved, one storage after it was loaded: {_parts(change)}"
    origin = reloaded.origin
    saved = [reloaded.saved.value(reloaded.before.canonical_path(origin[part[0]])) for part in change.parts]
    loaded = [reloaded.loaded.value(reloaded.after.canonical_path(part[0])) for part in change.parts]
    same = all(equal(old, new) for old, new in zip(saved, loaded, strict=True))
    status = "equal but untied" if same else "missing, and the values differ"
    over = ", over one memory" if change.loss == "parameters" else ""
    return f"{status}: one before it was saved, {len(change.parts)} after it was loaded{over}: {_parts(change)}"


# Values ------------------------------------------------------------------------------------------------------------


def _value_checks(side: SideName, reloaded: Reloaded) -> list[Check]:
    """Values, bit for bit; one check for all that agree."""
    route, origin = reloaded.route.name, reloaded.origin
    differences: list[Check] = []
    equal_count = 0
    seen_paths: set[str | None] = set()
    for entry in reloaded.after.canonical():
        old = origin.get(entry.path)
        shown = entry.path if old is None or old in seen_paths else old  # a copy is named by its own path
        seen_paths.add(old)
        name = f"{side}: {shown} after {route}"
        if old is None:
            differences.append(_check(side, name, shown, Verdict.DIFFERENT, "did not exist before it was saved"))
            continue
        before, after = reloaded.saved.value(reloaded.before.canonical_path(old)), reloaded.loaded.value(entry.path)
        if equal(before, after):
            equal_count += 1
            continue
        check = _check(side, name, shown, Verdict.DIFFERENT, _value_detail(reloaded, old, before, after))
        differences.append(check if structure(before, after) else _exact(check, measure(before, after).element))
    missing = {e.path for e in reloaded.before.canonical()} - {
        reloaded.before.canonical_path(old) for old in origin.values()
    }
    differences += [
        _check(side, f"{side}: {path} after {route}", path, Verdict.DIFFERENT, "is gone after loading")
        for path in sorted(missing)
    ]
    if differences:
        return differences
    detail = "; ".join(
        [
            f"{equal_count} values, bit for bit",
            *([reloaded.route.says] if reloaded.route.says else []),
            *reloaded.remarks,
        ]
    )
    return [_exact(_check(side, f"{side}: {route}", None, Verdict.EQUIVALENT, detail[:600]))] if equal_count else []


def _value_detail(reloaded: Reloaded, path: str, before: Array, after: Array) -> str:
    problem = structure(before, after)
    difference = problem or "not the value that was saved"
    unsaved = " and is not in the file: persistent=False" if path in reloaded.unsaved else ""
    return "; ".join([difference + unsaved, *reloaded.remarks])[:600]


def _optimizer_checks(side: SideName, reloaded: Reloaded) -> list[Check]:
    name = f"{side}: optimizer after {reloaded.route.name}"
    expected = carried(reloaded.saved, reloaded.before, reloaded.after, slots=True)
    if not expected.slots and reloaded.loaded.updates == expected.updates:
        return []
    wrong: list[str] = []
    if reloaded.loaded.updates != expected.updates:
        wrong.append(f"{expected.updates} updates were saved, {reloaded.loaded.updates} came back")
    for path, roles in expected.slots.items():
        loaded = reloaded.loaded.slots.get(path, {})
        wrong += [
            f"{role} of {path}" for role, value in roles.items() if role not in loaded or not equal(value, loaded[role])
        ]
    if not wrong:
        count = sum(len(roles) for roles in expected.slots.values())
        return [_exact(_check(side, name, None, Verdict.EQUIVALENT, f"{count} slots, bit for bit"))]
    detail = f"not as saved: {', '.join(wrong[:4])}" + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return [_check(side, name, None, Verdict.DIFFERENT, "; ".join([detail, *reloaded.remarks])[:600])]


# The next step -----------------------------------------------------------------------------------------------------


def _step_checks(side: SideName, step: ReferenceStep, reloaded: Reloaded, *, untied: bool) -> list[Check]:
    record = reloaded.mended if untied and reloaded.mended is not None else reloaded.record
    checks = _compare_step(side, step, reloaded, record, untied=untied)
    name = f"{side}: step after {reloaded.route.name}"
    differences = [c for c in checks if c.verdict is not Verdict.EQUIVALENT]
    if differences and not step.repeatable:
        detail = "run twice from the same state, this step gives different numbers: it draws random numbers"
        return [_check(side, name, None, Verdict.INCONCLUSIVE, detail, NEXT)]
    if differences:
        return [replace(c, name=f"{name}: {c.name}") for c in differences]
    worst = max(checks, key=lambda c: c.severity)
    optimizer = "the optimizer's state kept" if reloaded.optimizer_kept else "a fresh optimizer in both"
    quantities = "loss and gradients, those of the copies added up" if untied else "loss and updates"
    detail = f"{quantities}: {len(checks)} quantities, {optimizer}" + (
        f"; furthest {worst.name}" if worst.error else ""
    )
    return [replace(worst, name=name, torch=None, keras=None, detail=detail)]


def _is_explained(side: SideName, step: ReferenceStep, reloaded: Reloaded, *, untied: bool) -> bool:
    if reloaded.mended is None:
        return False
    return all(
        c.verdict is Verdict.EQUIVALENT for c in _compare_step(side, step, reloaded, reloaded.mended, untied=untied)
    )


def _compare_step(
    side: SideName, step: ReferenceStep, reloaded: Reloaded, record: StepRecord, *, untied: bool
) -> list[Check]:
    """The next step, quantity by quantity, by the paths before saving."""
    expected = step.record
    frame = Frame("persistence", "float64", NEXT, side, *step.sums)

    def of_side(path: str) -> tuple[str | None, str | None]:
        return (path, None) if side == "torch" else (None, path)

    loss = Item(
        "total loss",
        *of_side("total"),
        total_of(expected.losses),
        total_of(record.losses),
        tuple(total_of(twin.losses) for twin in step.twins),
    )
    after_reload = _gradients(reloaded, record) if untied else _updates(reloaded, record)
    items: list[Item] = []
    for path, weight in expected.before.values().items():
        if untied:
            values = expected.gradients.get(path)
            twins = tuple(twin.gradients.get(path) for twin in step.twins)
        else:
            values, twins = expected.update(path), tuple(twin.update(path) for twin in step.twins)
        if values is None and path not in after_reload:
            continue  # frozen, or a buffer
        source = 0.0 if untied else rms(weight)
        items.append(Item(path, *of_side(path), values, after_reload.get(path), twins, source=source))
    return compare_items(frame, [loss]) + compare_items(frame, items)


def _updates(reloaded: Reloaded, record: StepRecord) -> dict[str, Array]:
    """Update per path before saving; for a value that was not restored, measured from the saved value."""
    origin = reloaded.origin
    new_paths = {
        reloaded.before.canonical_path(origin[e.path]): e.path for e in reloaded.after.canonical() if e.path in origin
    }
    updates = {old: record.update(new) for old, new in new_paths.items()}
    return {old: update for old, update in updates.items() if update is not None}


def _gradients(reloaded: Reloaded, record: StepRecord) -> dict[str, Array]:
    """Gradients per path before saving; those of several copies are added up."""
    origin = reloaded.origin
    total: dict[str, Array] = {}
    for path, gradient in record.gradients.items():
        if gradient is not None and path in origin:
            old = reloaded.before.canonical_path(origin[path])
            total[old] = np.add(total[old], gradient) if old in total else gradient
    return total


# What was lost -----------------------------------------------------------------------------------------------------


def _faults(
    side: SideName,
    reloaded: Reloaded,
    broken: list[TieChange],
    values: list[Check],
    optimizer: list[Check],
    explained: bool,
) -> list[Fault]:
    """Explanations of the difference, those nearest to the file first."""
    route = reloaded.route.name
    faults: list[Fault] = []
    for change in broken:
        id_ = "tie_lost_by_assign" if change.loss == "parameters" else "tie_lost_on_save"
        id_ = "tie_made_on_save" if change.loss == "joined" else id_
        faults.append(Fault(id_, route, change.paths, _parts(change), explained))
    if broken:
        return faults
    if reloaded.orphans:
        detail = f"{reloaded.orphans} parameters that the model does not have"
        return [Fault("optimizer_left_behind", route, (), detail, explained)]
    wrong = [c for c in values if c.verdict is Verdict.DIFFERENT]
    for check in wrong:
        path = check.torch or check.keras or check.name
        id_ = "buffer_not_persistent" if path in reloaded.unsaved else "value_not_saved"
        faults.append(Fault(id_, route, (path,), check.detail, explained))
    if not wrong:
        lost = [c for c in optimizer if c.verdict is Verdict.DIFFERENT]
        faults += [Fault("optimizer_state_not_saved", route, (), c.detail, explained) for c in lost]
    for name, (old, new) in reloaded.attributes.items():
        id_ = "state_not_saved" if name in reloaded.hidden else "setting_not_saved"
        detail = "holds other values" if name in reloaded.hidden else f"{old} before, {new} after"
        faults.append(Fault(id_, route, (name,), detail, explained))
    return faults
