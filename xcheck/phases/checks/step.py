"""The phases of one training step: records of both sides -> checks. No framework is used."""

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
from ...records.trace import DROPOUT_NOISE, DROPOUT_RATES, Array, Arrays, StepRecord
from ...stepping.lockstep import StepPair
from ..trajectory_bounds import Envelope
from .matched import floor_of_matches, gradient_of, parameter_items


def forward_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The outputs, in inference mode before the step and in training mode during it.

    Raises:
        BatchError: a comparison mask names no output, or does not cover one.
    """
    frame = Frame("forward", precision, step.number, plan.reference, *step.reference.sums)
    checks: list[Check] = []
    step = _passes_alike(step)
    modes = (("inference", _inference), ("training", _outputs))
    _check_masks(step, [get(record) for _, get in modes for record in (step.reference.record, step.follower)])
    for mode, get in modes:
        items = [
            _with_axis_advice(item) for item in _output_items(plan, step, get, mode) if not _uncalled(step, get, item)
        ]
        # Each output is judged by its own size; the sizes of others matter only for values that are exactly zero.
        sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
        compared = compare_items(frame, items, floor=epsilon(precision) * max(sizes, default=0.0))
        checks += [_with_other_names(plan, check, step, get) for check in compared]
    if precision == "float64":  # a setting is the same in every precision
        checks += [_with_counts(plan, check, step) for check in compare_items(frame, _setting_items(step))]
    if not checks and not _without_forward(step):
        missing = Item("outputs", None, None, None, None)
        checks.append(frame.check(missing, Verdict.INCONCLUSIVE, "no output of either side was seen"))
    return checks


def _passes_alike(step: StepPair) -> StepPair:
    """The step; without the passes of a side that nothing is differentiated from, if the other side makes fewer.

    Such a pass may be for a log, or may feed the loss, which is compared all the same. Where both sides make as many,
    those of both sides stay: a dropout in one of them counts.
    """
    choices = [(False, False), (False, True), (True, False)]
    if _names(step.reference.record.outputs) != _names(step.follower.outputs):
        choices.append((True, True))
    pairs = [_engaged(step, *choice) for choice in choices]
    alike = [each for each in pairs if _names(each.reference.record.outputs) == _names(each.follower.outputs)]
    settled = (each for each in alike if _sizes(each.reference.record) == _sizes(each.follower))
    return next(settled, alike[0] if alike else step)


def _engaged(step: StepPair, reference: bool, follower: bool) -> StepPair:
    """The step with passes of one side or both left out."""
    if reference:
        record, *twins = (r.with_gradients_only() for r in (step.reference.record, *step.reference.twins))
        step = replace(step, reference=replace(step.reference, record=record, twins=tuple(twins)))
    moved = [
        (a.with_gradients_only() if reference else a, b.with_gradients_only() if follower else b) for a, b in step.moved
    ]
    other = step.follower.with_gradients_only() if follower else step.follower
    return replace(step, follower=other, moved=tuple(moved))


def _names(outputs: Arrays) -> list[str]:
    return ["the only one"] if len(outputs) == 1 else sorted(outputs)


def _sizes(record: StepRecord) -> dict[str, int]:
    return {name: values.size for name, values in record.settings.items()}


def _inference(record: StepRecord) -> Arrays:
    return record.inference


def _outputs(record: StepRecord) -> Arrays:
    return record.outputs


def _output_items(plan: MatchPlan, step: StepPair, get: Callable[[StepRecord], Arrays], mode: str) -> Iterator[Item]:
    reference, other = get(step.reference.record), get(step.follower)
    twins = [get(twin) for twin in step.reference.twins]
    if len(reference) == len(other) == 1:  # a single output on each side needs no name
        names = [(next(iter(reference)), next(iter(other)))]
    else:
        names = [(key, key) for key in dict.fromkeys([*reference, *other])]
    masks = step.reference.batch.compare or {}
    for name, other_name in names:
        mask = masks.get(name, masks.get(other_name))
        value, other_value = (
            _masked(values.get(key), mask, key) for values, key in ((reference, name), (other, other_name))
        )
        responses = tuple(_masked(twin.get(name), mask, name) for twin in twins)
        moved = tuple(
            (
                _masked(get(reference_run).get(name), mask, name),
                _masked(get(follower_run).get(other_name), mask, other_name),
            )
            for reference_run, follower_run in step.moved
        )
        sides = (name, other_name) if plan.reference == "torch" else (other_name, name)
        yield Item(f"{name} ({mode})", *sides, value, other_value, responses, moved=moved)


def _uncalled(step: StepPair, get: Callable[[StepRecord], Arrays], item: Item) -> bool:
    """Whether a training output is missing because the step of that side called only parts of its model.

    The gradients and losses of such a step are compared all the same. A model without a forward pass of its own makes
    no output in inference either.
    """
    values = (step.reference.record, item.reference), (step.follower, item.other)
    return any(
        value is None and record.passes == 0 and (get is _outputs or not record.inference) for record, value in values
    )


def _without_forward(step: StepPair) -> bool:
    """Whether neither model has a forward pass of its own."""
    return all(r.passes == 0 and not r.inference for r in (step.reference.record, step.follower))


def uncalled(plan: MatchPlan, step: StepPair) -> list[str]:
    """A line where training outputs could not be compared.

    Args:
        plan: of the run.
        step: of both sides.
    """
    reference, follower = step.reference.record, step.follower
    alike = _passes_alike(step)
    left_out = [
        f"not compared: passes of the {side} side without gradients, since the other side makes fewer"
        for side, record, kept in (
            (plan.reference, reference, alike.reference.record),
            (plan.follower, follower, alike.follower),
        )
        if kept is not record
    ]
    if _without_forward(step):
        return [
            "not compared: outputs, since neither model has a forward pass; the return values of the steps are compared"
        ]
    if left_out or bool(reference.outputs) == bool(follower.outputs):
        return left_out
    often = f"{plan.reference} {reference.passes} times, {plan.follower} {follower.passes} times"
    return [f"training outputs are compared as far as both sides make them: a step calls the whole model in {often}"]


def _with_other_names(plan: MatchPlan, check: Check, step: StepPair, get: Callable[[StepRecord], Arrays]) -> Check:
    """The check of an output that one side lacks, with the names of that side's unmatched outputs."""
    reference, follower = get(step.reference.record), get(step.follower)
    for side, outputs, other in ((plan.reference, reference, follower), (plan.follower, follower, reference)):
        unmatched = ", ".join(name for name in outputs if name not in other)
        if unmatched and check.detail == f"missing only on the {side} side":
            return replace(
                check, detail=f"{check.detail}, which has {unmatched}: give them the same names with `outputs`"
            )
    return check


def _with_axis_advice(item: Item) -> Item:
    """An output, with advice if its axes are in a different order."""
    a, b = item.reference, item.other
    if a is None or b is None or a.shape == b.shape or sorted(a.shape) != sorted(b.shape):
        return item
    advice = (
        f"shape {a.shape} against {b.shape}: if their axes are in a different order, transpose them with `outputs` "
        "of a side"
    )
    return replace(item, problem=item.problem or advice)


def _setting_items(step: StepPair) -> list[Item]:
    record, other = (_per_pass(of, step) for of in (step.reference.record, step.follower))
    items = [Item(name, name, name, record.get(name), other.get(name)) for name in dict.fromkeys([*record, *other])]
    return [item if item.name != DROPOUT_NOISE else noise for item in items if (noise := _noise_item(step, item))]


def _per_pass(record: StepRecord, step: StepPair) -> Arrays:
    """The settings of a step; of one pass, if a side makes more, as with a batch in parts, and all are alike."""
    settings, rates = record.settings, record.settings.get(DROPOUT_RATES)
    passes = [of.passes or 0 for of in (step.reference.record, step.follower)]
    if passes[0] == passes[1] or 0 in passes or rates is None:
        return settings
    once = rates[:: record.passes]
    alike = np.array_equal(np.repeat(once, record.passes or 1), rates)
    return {**settings, DROPOUT_RATES: once} if alike else settings


def _noise_item(step: StepPair, item: Item) -> Item | None:
    """Any other item; the numbers that dropout draws where they can be compared.

    Dropout in front of a slice draws more numbers than behind it, and a mask made by hand draws as many, but more for
    each of its elements: only where both are different are different parts of a tensor dropped.
    """
    if item.name != DROPOUT_NOISE:
        return item
    rates, others = (of.settings.get(DROPOUT_RATES) for of in (step.reference.record, step.follower))
    a, b = item.reference, item.other
    if a is None or b is None or rates is None or others is None or not np.array_equal(rates, others):
        return None  # known of one side only, or of different dropouts
    columns = [tuple(of[np.lexsort((of[:, k], rates)), k] for of in (a, b)) for k in (0, 1)]
    first, second = next(((c, d) for c, d in columns if np.array_equal(c, d)), columns[0])
    return replace(item, reference=first, other=second)


def _with_counts(plan: MatchPlan, check: Check, step: StepPair) -> Check:
    """The check of a setting; if the sides have it a different number of times, with the counts per value."""
    values = [record.settings.get(check.name) for record in (step.reference.record, step.follower)]
    if check.name == DROPOUT_NOISE and check.verdict is Verdict.DIFFERENT:
        return replace(check, detail=_noise(plan, step))
    if any(v is None for v in values) or len({v.size for v in values if v is not None}) == 1:
        return check
    counts: list[str] = []
    for side, v in zip((plan.reference, plan.follower), values, strict=True):
        rates, occurrences = np.unique(np.asarray(v), return_counts=True)
        shown = ", ".join(f"{n} times at {rate:g}" for rate, n in zip(rates, occurrences, strict=True))
        counts.append(f"{side} drops out {shown}")
    return replace(check, detail="; ".join(counts))


def _noise(plan: MatchPlan, step: StepPair) -> str:
    """The rates at which the two sides draw different numbers of random numbers, in words."""
    sides = plan.reference, plan.follower
    records = step.reference.record.settings, step.follower.settings
    drawn: dict[str, dict[float, list[str]]] = {side: {} for side in sides}
    for side, settings in zip(sides, records, strict=True):
        for rate, numbers in zip(settings[DROPOUT_RATES], settings[DROPOUT_NOISE], strict=True):
            drawn[side].setdefault(float(rate), []).append(f"{numbers[0]:.0f}")
    first, second = (drawn[side] for side in sides)
    return "; ".join(
        f"at a rate of {rate:g} {sides[0]} draws {', '.join(first[rate])} numbers, {sides[1]} {', '.join(second[rate])}"
        for rate in first
        if first[rate] != second[rate]
    )


def _check_masks(step: StepPair, outputs: Sequence[Arrays]) -> None:
    known = {name for named in outputs for name in named}
    unknown = set(step.reference.batch.compare or {}) - known
    if unknown and known:
        raise BatchError(
            "A key of Batch.compare is not an output.",
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
            "A mask in Batch.compare does not fit its output.", where=f"Batch.compare[{name!r}]", numbers=str(error)
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
    detail = f"no gradient of the {unseen[0]} side was seen: the step must pass them to an optimizer, or use a tape"
    return [replace(c, verdict=Verdict.INCONCLUSIVE, detail=detail) for c in checks]


def trajectory_checks(plan: MatchPlan, step: StepPair, precision: str, envelope: Envelope) -> list[Check] | None:
    """The drift of a run that is never re-synced: its total loss, and the parameter with the largest difference.

    The allowance is the drift of reference twins with one rounding error per operation; see `Envelope`, which
    follows the steps of one run.

    Returns:
        The checks; None where the twins themselves have diverged, so that the other side cannot be judged.
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
    totals_known = "total" in record.losses and "total" in other.losses  # a step may return only terms
    return [*([first] if totals_known or not drifted else []), *furthest]


def _after(record: StepRecord, path: str) -> Array | None:
    return record.after.values().get(path)


def state_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The buffers after the step, including those without a counterpart that the step changed."""
    frame = Frame("state", precision, step.number, plan.reference, *step.reference.sums)

    checks = compare_items(frame, list(parameter_items(plan, plan.buffers, step, _after, values=True)))
    for side, path in plan.unmatched_buffers:
        record = step.reference.record if side == plan.reference else step.follower
        if _is_counter(record, path):
            continue
        if not np.array_equal(record.before.buffers[path], record.after.buffers[path], equal_nan=True):
            sides = (path, None) if side == "torch" else (None, path)
            unmatched = Item(path, *sides, None, None)
            checks.append(
                frame.check(
                    unmatched,
                    Verdict.INCONCLUSIVE,
                    f"training changes it, but the {other_side(side)} side has no counterpart: add it to weight_map",
                )
            )
    return checks


def _is_counter(record: StepRecord, path: str) -> bool:
    """PyTorch's BatchNorm counts its batches; nothing but a cumulative average reads the count."""
    return path.rpartition(".")[2] == "num_batches_tracked" and record.before.buffers[path].dtype.kind == "i"
