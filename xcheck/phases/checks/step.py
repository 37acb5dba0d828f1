"""The phases of one training step: records of both sides -> checks. No framework is asked anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...errors import BatchError
from ...matching import MatchPlan
from ...numerics.compare import masked, measurable, rms
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import epsilon
from ...records.result import Check, Verdict
from ...records.sides import other_side
from ...records.trace import Array, Arrays, StepRecord
from ...stepping.lockstep import StepPair
from ..envelope import Envelope
from .matched import floor_of_matches, gradient_of, parameter_items


def forward_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The outputs, in inference mode before the step and in training mode during it.

    Raises:
        BatchError: a comparison mask names no output, or does not cover one.
    """
    frame = Frame("forward", precision, step.number, plan.reference, *step.reference.sums)
    checks: list[Check] = []
    modes = (("inference", _inference), ("training", _outputs))
    _check_masks(step, [get(record) for _, get in modes for record in (step.reference.record, step.follower)])
    for mode, get in modes:
        items = [_turned(item) for item in _output_items(plan, step, get, mode) if not _uncalled(step, get, item)]
        # Outputs are quantities of their own: another's size is no excuse, but for what is exactly zero.
        sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
        found = compare_items(frame, items, floor=epsilon(precision) * max(sizes, default=0.0))
        checks += [_named_otherwise(plan, check, step, get) for check in found]
    if precision == "float64":  # a setting is what it is in every precision
        checks += [_counted(plan, check, step) for check in compare_items(frame, _setting_items(step))]
    if not checks:
        nothing = Item("outputs", None, None, None, None)
        checks.append(frame.check(nothing, Verdict.INCONCLUSIVE, "no output of either side was seen"))
    return checks


def _inference(record: StepRecord) -> Arrays:
    return record.inference


def _outputs(record: StepRecord) -> Arrays:
    return record.outputs


def _output_items(plan: MatchPlan, step: StepPair, get: Callable[[StepRecord], Arrays], mode: str) -> Iterator[Item]:
    reference, other = get(step.reference.record), get(step.follower)
    twins = [get(twin) for twin in step.reference.twins]
    if len(reference) == len(other) == 1:  # one output each: no name is needed to tell them apart
        names = [(next(iter(reference)), next(iter(other)))]
    else:
        names = [(name, name) for name in dict.fromkeys([*reference, *other])]
    masks = step.reference.batch.compare or {}
    for mine, theirs in names:
        mask = masks.get(mine, masks.get(theirs))
        left, right = (_masked(values.get(name), mask, name) for values, name in ((reference, mine), (other, theirs)))
        responses = tuple(_masked(twin.get(mine), mask, mine) for twin in twins)
        moved = tuple(
            (_masked(get(ours).get(mine), mask, mine), _masked(get(others).get(theirs), mask, theirs))
            for ours, others in step.moved
        )
        sides = (mine, theirs) if plan.reference == "torch" else (theirs, mine)
        yield Item(f"{mine} ({mode})", *sides, left, right, responses, moved=moved)


def _uncalled(step: StepPair, get: Callable[[StepRecord], Arrays], item: Item) -> bool:
    """Whether an output is missing since a side made no call of its model: its step calls parts of it.

    How a step comes to its gradients is its own affair; these, and the losses, are compared.
    """
    if item.reference is not None and item.other is not None:
        return False
    return not (get(step.reference.record) and get(step.follower))


def uncalled(plan: MatchPlan, step: StepPair) -> list[str]:
    """A line where training outputs could not be compared.

    Args:
        plan: of the run.
        step: of both sides.
    """
    mine, theirs = step.reference.record, step.follower
    if bool(mine.outputs) == bool(theirs.outputs):
        return []
    often = f"{plan.reference} {mine.passes} times, {plan.follower} {theirs.passes} times"
    return [f"training outputs are compared as far as both sides make them: a step calls the whole model in {often}"]


def _named_otherwise(plan: MatchPlan, check: Check, step: StepPair, get: Callable[[StepRecord], Arrays]) -> Check:
    """The check of an output that one side lacks, with what that side has in its place."""
    mine, theirs = get(step.reference.record), get(step.follower)
    for side, own, other in ((plan.reference, mine, theirs), (plan.follower, theirs, mine)):
        instead = ", ".join(name for name in own if name not in other)
        if instead and check.detail == f"missing on the {side} side alone":
            return replace(check, detail=f"{check.detail}, which has {instead}: name them alike with `outputs`")
    return check


def _turned(item: Item) -> Item:
    """An output with what is to be done where its shape is turned."""
    a, b = item.reference, item.other
    if a is None or b is None or a.shape == b.shape or sorted(a.shape) != sorted(b.shape):
        return item
    told = f"shape {a.shape} against {b.shape}: if their axes are in another order, turn them with `outputs` of a side"
    return replace(item, problem=item.problem or told)


def _setting_items(step: StepPair) -> list[Item]:
    record, other = step.reference.record.settings, step.follower.settings
    names = dict.fromkeys([*record, *other])
    return [Item(name, name, name, record.get(name), other.get(name)) for name in names]


def _counted(plan: MatchPlan, check: Check, step: StepPair) -> Check:
    """The check of a setting; where one side has it more often than the other, how often each has which."""
    values = [of.settings.get(check.name) for of in (step.reference.record, step.follower)]
    if any(v is None for v in values) or len({v.size for v in values if v is not None}) == 1:
        return check
    told: list[str] = []
    for side, v in zip((plan.reference, plan.follower), values, strict=True):
        found, often = np.unique(np.asarray(v), return_counts=True)
        rates = ", ".join(f"{n} times at {rate:g}" for rate, n in zip(found, often, strict=True))
        told.append(f"{side} drops out {rates}")
    return replace(check, detail="; ".join(told))


def _check_masks(step: StepPair, outputs: Sequence[Arrays]) -> None:
    known = {name for named in outputs for name in named}
    unknown = set(step.reference.batch.compare or {}) - known
    if unknown and known:
        raise BatchError(
            "A comparison mask names no output.",
            where=f"Batch.compare[{sorted(unknown)[0]!r}]",
            numbers=f"outputs: {', '.join(sorted(known))}",
        )


def _masked(array: Array | None, mask: Array | None, name: str) -> Array | None:
    if array is None:
        return None
    try:
        return masked(array, mask)
    except ValueError as error:
        raise BatchError(
            "A comparison mask does not fit its output.", where=f"Batch.compare[{name!r}]", numbers=str(error)
        ) from error


def gradient_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The gradient of the total loss with respect to each trainable parameter, before clipping."""
    frame = Frame("gradient", precision, step.number, plan.reference, *step.reference.sums)
    floor = floor_of_matches(plan, plan.trained, step, gradient_of)
    checks = compare_items(frame, parameter_items(plan, plan.trained, step, gradient_of), floor)
    records = {plan.reference: step.reference.record, plan.follower: step.follower}
    unseen = [side for side, record in records.items() if all(g is None for g in record.gradients.values())]
    if len(unseen) != 1:
        return checks
    told = f"no gradient of the {unseen[0]} side was seen: let its step hand them to an optimizer, or use a tape"
    return [replace(c, verdict=Verdict.INCONCLUSIVE, detail=told) for c in checks]


def trajectory_checks(plan: MatchPlan, step: StepPair, precision: str, envelope: Envelope) -> list[Check] | None:
    """How far a run that is never re-synced has drifted: its total loss, and the parameter that is furthest off.

    The allowance is how far reference twins that take one rounding error per operation have drifted; see `Envelope`,
    which goes through the steps of one run.

    Returns:
        The checks; None where the twins themselves have diverged, so that nothing can be said of the other side.
    """
    frame = Frame("trajectory", precision, step.number, plan.reference, *step.reference.sums)
    record, other = step.reference.record, step.follower
    twins = step.reference.twins
    total = Item(
        "total loss",
        "total",
        "total",
        record.losses.get("total"),
        other.losses.get("total"),
        tuple(twin.losses.get("total") for twin in twins),
    )
    items = parameter_items(plan, plan.parameters, step, _after, values=True)
    drifted = compare_items(frame, items, floor_of_matches(plan, plan.parameters, step, _after))
    first, *drifted = envelope.widened([*compare_items(frame, [total]), *drifted])
    finite = all(np.isfinite(run.losses.get("total", 0.0)).all() for run in (record, *twins))
    if not finite or any(c.allowed is not None and c.allowed >= 1.0 for c in (first, *drifted)):
        return None
    order = list(Verdict)
    furthest = [min(drifted, key=lambda c: (order.index(c.verdict), -c.severity))] if drifted else []
    told = "total" in record.losses and "total" in other.losses  # a step may return terms alone
    return [*([first] if told or not drifted else []), *furthest]


def _after(record: StepRecord, path: str) -> Array | None:
    return record.after.values().get(path)


def state_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The buffers after the step, and those without a counterpart that the step changed."""
    frame = Frame("state", precision, step.number, plan.reference, *step.reference.sums)

    checks = compare_items(frame, list(parameter_items(plan, plan.buffers, step, _after, values=True)))
    for side, path in plan.unmatched_buffers:
        record = step.reference.record if side == plan.reference else step.follower
        if _is_counter(record, path):
            continue
        if not np.array_equal(record.before.buffers[path], record.after.buffers[path], equal_nan=True):
            sides = (path, None) if side == "torch" else (None, path)
            lost = Item(path, *sides, None, None)
            checks.append(
                frame.check(
                    lost,
                    Verdict.INCONCLUSIVE,
                    f"training changes it, and the {other_side(side)} side has no counterpart: name it in weight_map",
                )
            )
    return checks


def _is_counter(record: StepRecord, path: str) -> bool:
    """PyTorch's BatchNorm counts its batches; nothing but a cumulative average reads the count."""
    return path.rpartition(".")[2] == "num_batches_tracked" and record.before.buffers[path].dtype.kind == "i"
