"""The phases of one training step: records of both sides -> checks. No framework is asked anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...errors import BatchError
from ...matching import Match, MatchPlan, Piece
from ...numerics.compare import METRICS, Measure, masked, measurable, measure, rms
from ...numerics.judge import Frame, Item, compare_items, floor_among
from ...numerics.tolerance import KAPPA, epsilon
from ...records.result import Check, Verdict
from ...records.sides import other_side
from ...records.slots import ADDED_UP, AVERAGE
from ...records.trace import Array, Arrays, StepRecord
from ...stepping.lockstep import StepPair

Get = Callable[[StepRecord, str], Array | None]
"""(record, path) -> what is compared of it."""


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
        items = list(_output_items(plan, step, get, mode))
        items = [_turned(item) for item in items]
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


def _parameter_items(
    plan: MatchPlan,
    matches: Sequence[Match],
    step: StepPair,
    get: Get,
    suffix: str = "",
    values: bool = False,
) -> Iterator[Item]:
    """One item per match: what `get` finds under each side's paths, the other side's in the reference's layout.

    Args:
        plan, step: of the run.
        matches: whose pieces.
        get: (record, path) -> array.
        suffix: of the names.
        values: the arrays are values, not differences of values.
    """
    for match in matches:
        if not _idle_copy(plan, match, step, get):
            yield _parameter_item(plan, match, step, get, suffix, values)


def _parameter_item(plan: MatchPlan, match: Match, step: StepPair, get: Get, suffix: str, values: bool) -> Item:
    mine, theirs = match.piece(plan.reference), match.piece(plan.follower)
    found, *twins = (mine.total(partial(get, r)) for r in (step.reference.record, *step.reference.twins))
    to = match.value_to if values else match.to
    other, *others = (theirs.total(partial(get, r)) for r in (step.follower, *(r for _, r in step.moved)))
    problem = None
    lone = found is None or not found.ndim  # a number of the optimizer, or a parameter of no axes
    if other is not None and (other.ndim or not lone):
        if other.shape == theirs.shape:
            other, *others = (a if a is None else to(plan.reference, a) for a in (other, *others))
        else:
            problem = f"shape {other.shape} against {theirs.shape}"
    ours = (mine.total(partial(get, r)) for r, _ in step.moved)
    names = (match.name("torch"), match.name("keras"))
    moved = tuple(zip(ours, others, strict=True))
    return Item(mine.name + suffix, *names, found, other, tuple(twins), problem=problem, moved=moved)


def _floor(plan: MatchPlan, matches: Sequence[Match], step: StepPair, get: Get) -> float:
    """`floor_of` the items of these matches, of which not all are held at once."""
    compared = (m.piece(plan.reference) for m in matches if not _idle_copy(plan, m, step, get))
    return floor_among(piece.total(partial(get, step.reference.record)) for piece in compared)


def _idle_copy(plan: MatchPlan, match: Match, step: StepPair, get: Get) -> bool:
    """Whether a declared copy has nothing to compare because another one is trained for it."""
    record = step.reference.record if plan.reference == "keras" else step.follower
    having = [m.keras for m in plan.copies_of(match) if get(record, m.keras) is not None]
    return bool(having) and match.keras not in having


def gradient_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The gradient of the total loss with respect to each trainable parameter, before clipping."""
    frame = Frame("gradient", precision, step.number, plan.reference, *step.reference.sums)
    floor = _floor(plan, plan.trained, step, _gradient)
    return compare_items(frame, _parameter_items(plan, plan.trained, step, _gradient), floor)


def _gradient(record: StepRecord, path: str) -> Array | None:
    return record.gradients.get(path)


def update_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """What the step added to each parameter, and what the optimizer now remembers of it."""
    frame = Frame("update", precision, step.number, plan.reference, *step.reference.sums)
    before = step.reference.record.before
    # An update is read off as a difference of two weights, each known to eps of its own size.
    items = (
        replace(item, source=max(rms(before.value(path)) for path in match.piece(plan.reference).paths))
        for match, item in zip(
            plan.parameters, _parameter_items(plan, plan.parameters, step, StepRecord.update), strict=True
        )
    )
    gradients = _Gradients.of(plan, step)
    floor = _floor(plan, plan.parameters, step, StepRecord.update)
    checks = compare_items(frame, gradients.carried_to(items, floor, precision), floor)
    return checks + _slot_checks(plan, step, frame, gradients)


@dataclass(frozen=True)
class _Gradients:
    """Gradients by the names of their parameters on the reference, and the least scale among them."""

    step: StepPair
    by_name: Mapping[str, Piece]
    floor: float

    @classmethod
    def of(cls, plan: MatchPlan, step: StepPair) -> _Gradients:
        pieces = [m.piece(plan.reference) for m in plan.trained if not _idle_copy(plan, m, step, _gradient)]
        return cls(step, {piece.name: piece for piece in pieces}, _floor(plan, plan.trained, step, _gradient))

    def carried_to(self, items: Iterable[Item], floor: float, precision: str, suffix: str = "") -> Iterator[Item]:
        """Items that an optimizer made of gradients, each with how far it amplifies the noise of its own."""
        for item in items:
            piece = self.by_name.get(item.name.removesuffix(suffix))
            yield item if piece is None else replace(item, amplification=self._of(item, piece, floor, precision))
            del item  # before the next one is made

    def _of(self, item: Item, piece: Piece, floor: float, precision: str) -> dict[str, float]:
        records = (self.step.reference.record, *self.step.reference.twins)
        gradient, *twins = (piece.total(partial(_gradient, record)) for record in records)
        made = _runs(item.reference, item.twins, precision)
        given = _runs(gradient, twins, precision)
        if len(made) < 2 or len(made) != len(given) or made[0].shape != given[0].shape or item.reference is None:
            return {}
        assert gradient is not None
        scale, eps, unit = max(rms(gradient), self.floor), epsilon(precision), max(rms(item.reference), floor)
        if not scale:
            return {}
        measures: list[Measure] = []
        for moved, by in zip(made[1:], given[1:], strict=True):
            slope = _apart(made[0], moved)
            slope -= KAPPA * eps * item.source
            slope = np.maximum(slope, 0.0, out=slope)
            size = _apart(given[0], by)
            size /= scale
            slope /= np.maximum(size, eps, out=size)
            del size
            if np.isfinite(slope).all():
                measures.append(measure(np.zeros_like(slope), slope, unit))
        return {metric: max(m.get(metric) for m in measures) for metric in METRICS} if measures and unit else {}


def _runs(reference: Array | None, twins: Sequence[Array | None], precision: str) -> list[Array]:
    """The run whose elements the twins moved, and the twins; in float32 the run is the reference's own in float32."""
    runs = [reference, *twins] if precision == "float64" else list(twins)
    found = [run for run in runs if run is not None]
    return found if len(found) == len(runs) and len({run.shape for run in found}) == 1 else []


def _apart(base: Array, moved: Array) -> Array:
    gap = np.asarray(np.asarray(moved, np.float64) - base)
    return np.abs(gap, out=gap)


def _slot_checks(plan: MatchPlan, step: StepPair, frame: Frame, gradients: _Gradients) -> list[Check]:
    checks: list[Check] = []
    states = (step.reference.record.after.slots, step.follower.after.slots)
    roles = sorted({role for slots in states for by_role in slots.values() for role in by_role})
    for role in roles:

        def slot(record: StepRecord, path: str, role: str = role) -> Array | None:
            return record.after.slots.get(path, {}).get(role)

        summed = [m.trained_part() for m in plan.parameters if m.trainable]
        matches = summed if role in ADDED_UP else plan.trained
        suffix = f" [{role}]"
        items = _parameter_items(plan, matches, step, slot, suffix=suffix)
        needed = all if role.startswith(AVERAGE) else any  # of what one side alone averages: `averages.py`
        items = (i for i in items if needed(a is not None for a in (i.reference, i.other)))
        floor = _floor(plan, matches, step, slot)
        checks += compare_items(frame, gradients.carried_to(items, floor, frame.precision, suffix), floor)
    return checks


def trajectory_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """How far a run that is never re-synced has drifted: its total loss, and the parameter that is furthest off.

    The allowance is the envelope: how far reference twins that take one rounding error per step have drifted.
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

    items = _parameter_items(plan, plan.parameters, step, _after, values=True)
    drifted = compare_items(frame, items, _floor(plan, plan.parameters, step, _after))
    order = list(Verdict)
    furthest = [min(drifted, key=lambda c: (order.index(c.verdict), -c.severity))] if drifted else []
    return [*compare_items(frame, [total]), *furthest]


def _after(record: StepRecord, path: str) -> Array | None:
    return record.after.values().get(path)


def state_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The buffers after the step, and those without a counterpart that the step changed."""
    frame = Frame("state", precision, step.number, plan.reference, *step.reference.sums)

    checks = compare_items(frame, list(_parameter_items(plan, plan.buffers, step, _after, values=True)))
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


def silent_gradients(plan: MatchPlan, checks: Sequence[Check], zero: set[str], precision: str) -> list[Check]:
    """Parameters whose gradient was exactly zero on both sides in every step: nothing of them was compared.

    Args:
        plan: of the run.
        checks: of the run so far.
        zero: names, on the reference, of what had an all-zero gradient in every step.
        precision: of the run.
    """
    frame = Frame("gradient", precision, None, plan.reference)
    compared = {c.name for c in checks if c.phase == "gradient" and c.error is not None}
    return [
        frame.check(
            Item(m.name(plan.reference), m.name("torch"), m.name("keras"), None, None),
            Verdict.INCONCLUSIVE,
            "exactly zero on both sides in every step: nothing was compared; use batches that reach it, or waive it",
        )
        for m in plan.trained
        if m.name(plan.reference) in zero & compared
    ]


def zero_gradients(plan: MatchPlan, step: StepPair) -> set[str]:
    """Names, on the reference, of the matches whose gradient is exactly zero on both sides in this step."""
    record, other = step.reference.record.gradients, step.follower.gradients
    zero: set[str] = set()
    for m in plan.trained:
        both = (m.piece(plan.reference).total(record.get), m.piece(plan.follower).total(other.get))
        if all(g is not None and not g.any() for g in both):
            zero.add(m.name(plan.reference))
    return zero
