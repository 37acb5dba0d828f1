"""Accepted differences are removed from a run: by formula where one is proven, otherwise they are not judged.

An accepted cause leaves the findings as soon as it is explained, separately in each step. The follower's step is then
judged with the reference's behaviour in its place, so that no other difference is hidden. Without a formula, the
quantities that the cause names are excluded from the comparison, and quantities that may follow from it stay undecided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from ..errors import PairError, UserCodeError
from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..records.accepted import (
    BY_FORMULA,
    NOT_CONFIRMED,
    NOT_JUDGED,
    Acceptance,
    Deltas,
    Exchange,
    split,
    suggestion,
)
from ..records.calls import everywhere
from ..records.cause_ids import CAUSES
from ..records.result import AT_ORDINARY, Cause, Check, Verdict
from ..records.sides import SIDES
from ..records.slots import AVERAGE
from ..records.trace import Array, StepRecord
from ..stepping.lockstep import Moved, StepPair
from . import NEEDS
from .findings import Findings
from .phase import Live, Phase
from .steps import compare_step

OF_AVERAGES = ("average_start", "average_momentum")
"""Causes of differences in averages of the weights only."""

Location = tuple[str | None, str | None]
"""(PyTorch name, Keras name)."""

AcceptedCauses = list[tuple[Acceptance, Cause]]


def validate_names(findings: Findings) -> None:
    """Refuse an accepted name that is neither a parameter nor a buffer of a matched side.

    Raises:
        PairError: a name matches nothing.
    """
    paths = {entry.path for inventory in findings.inventories.values() for entry in inventory.entries}
    known = paths | {
        "".join(parts[:n]) for path in paths for parts in [re.split(r"([./])", path)] for n in range(1, len(parts), 2)
    }
    findings.accepted = {replace(a, whole=a.name in known): outcome for a, outcome in findings.accepted.items()}
    for a in findings.accepted:
        of_parameters = a.cause is None and not {"forward", "loss"} & set(a.phases)
        if of_parameters and not any(a.fits(path) for path in paths):
            raise _unknown(a, known)


def leave_out(findings: Findings, start: int = 0) -> None:
    """Remove accepted quantities that do not pass from the checks.

    Args:
        findings: of the run.
        start: index of the first check to examine.
    """
    if findings.accepted:
        remaining = [
            c for c in findings.checks[start:] if c.verdict is Verdict.EQUIVALENT or not _is_excluded(findings, c)
        ]
        findings.checks[start:] = remaining


def _is_excluded(findings: Findings, check: Check) -> bool:
    key = check.phase, check.name
    a = next((a for a in findings.accepted if a.cause is None and _is_of(a, check)), None)
    if a is None and check.precision == "float32":
        a = findings.excluded.get(key)  # removed in float64 by a formula that holds there
    if a is None:
        return False
    findings.excluded.setdefault(key, a)
    _mark(findings, a, NOT_JUDGED, (check.torch, check.keras) if a.cause is None else None, check)
    return True


def _is_of(a: Acceptance, check: Check) -> bool:
    if check.phase not in a.phases:
        return False
    bare = re.sub(r"( \(\w+\)| \[\w+\]| via .*)$", "", check.name)
    paths = {check.name, bare, *(re.sub(r"\[[^\]]*\]$", "", p) for p in (check.torch, check.keras) if p)}
    return any(a.fits(path) for path in paths)


def accept_step(live: Live, step: StepPair, phases: Sequence[Phase]) -> bool:
    """Remove accepted differences from a step that has been explained.

    If a difference before the update is accepted and cannot be removed, the update checks stay as they are: each
    optimizer may still be read from its own gradients, and `leave_update_open` ends that.

    Args:
        live: both sides; their findings are judged again where a difference was removed.
        step: the last compared step.
        phases: the phases of each step.

    Returns:
        Whether the updates follow from an accepted difference.

    Raises:
        PairError: an accepted name matches nothing on either side.
    """
    findings = live.findings
    taken = _take_accepted(findings)
    for phase in phases:
        exchanges = [(a, e) for a, cause in taken if cause.phase == phase.name for e in cause.exchanges]
        if exchanges and phase.compare is not None:
            _exchange(findings, live.plan, step, phase, exchanges)
    without = [(a, cause) for a, cause in taken if not cause.exchanges]
    _exclude(findings, without, step.number)
    if findings.accepted and step.number == 1:
        _refuse_unknown(live, step)
    return any(_follows("update", cause.phase) for _, cause in without)


def leave_update_open(live: Live, step: StepPair, phases: Sequence[Phase]) -> None:
    """Remove accepted differences from the updates too; those without their own cause become undecided.

    Args:
        live, step, phases: as for `accept_step`.
    """
    accept_step(live, step, phases)
    findings = live.findings
    if any(c.confirmed and c.phase == "update" for c in findings.causes):
        return
    detail = "not judged: it may follow from an accepted difference before the update"
    for i, c in enumerate(findings.checks):
        if (c.phase, c.step, c.verdict) == ("update", step.number, Verdict.DIFFERENT):
            findings.checks[i] = replace(c, verdict=Verdict.INCONCLUSIVE, detail=detail)


def accept_causes(findings: Findings) -> None:
    """Remove what accepted causes explain, for causes found outside of the steps."""
    _exclude(findings, _take_accepted(findings), None)


def _take_accepted(findings: Findings) -> AcceptedCauses:
    """Remove the accepted causes from the findings; each is returned with the acceptance that covers it."""
    accepted: AcceptedCauses = []
    remaining: list[Cause] = []
    for cause in findings.causes:
        open_part: Cause | None = cause
        for a in findings.accepted:
            if open_part is None or a.cause != open_part.id:
                continue
            matching = [location for location in _locations(open_part) if a.fits_place(*location)]
            if matching and not open_part.confirmed:
                _mark(findings, a, NOT_CONFIRMED, matching[0])
            elif matching:
                accepted.append((a, _limited_to(open_part, matching)))
                others = [location for location in _locations(open_part) if location not in matching]
                open_part = _limited_to(open_part, others) if others else None
        if open_part is not None:
            remaining.append(replace(open_part, exchanges=()))  # exchanges keep a whole step in memory
    findings.causes = remaining
    return accepted


def _locations(cause: Cause) -> list[Location]:
    also = [text.partition(" and ") for text in cause.evidence.get("also", ())]
    return [(cause.torch, cause.keras), *((torch, keras) for torch, _, keras in also)]


def _limited_to(cause: Cause, locations: Sequence[Location]) -> Cause:
    """The cause, limited to some of its locations."""
    evidence = {key: value for key, value in cause.evidence.items() if key != "also"}
    if len(locations) > 1:
        evidence["also"] = [f"{torch} and {keras}" for torch, keras in locations[1:]]
    exchanges = tuple(e for e in cause.exchanges if (e.torch, e.keras) in locations)
    return replace(cause, torch=locations[0][0], keras=locations[0][1], evidence=evidence, exchanges=exchanges)


def _exchange(
    findings: Findings, plan: MatchPlan, step: StepPair, phase: Phase, exchanges: Sequence[tuple[Acceptance, Exchange]]
) -> None:
    """Judge a phase of a step again, with the reference's behaviour in the follower."""
    deltas: dict[tuple[str, str], Array] = {}
    by_function: dict[int, tuple[Callable[[Collection[str]], Deltas], list[str]]] = {}
    for _, exchange in exchanges:
        by_function.setdefault(id(exchange.deltas), (exchange.deltas, []))[1].append(exchange.part)
    for compute, parts in by_function.values():
        deltas |= compute(parts)
    rerun = step.rerun

    def rerun_with_deltas(buffers: Collection[str]) -> Moved:
        assert rerun is not None
        places, records = rerun(buffers)
        return places, tuple(_with_deltas(record, deltas) for record in records)

    exchanged = replace(
        step, follower=_with_deltas(step.follower, deltas), rerun=rerun_with_deltas if rerun else None, moved=()
    )
    fresh = {(c.name, c.torch, c.keras): c for c in compare_step(findings, phase, plan, exchanged, "float64")[1]}
    note = "; ".join(dict.fromkeys(f"without the accepted {a.cause}" for a, _ in exchanges))
    for i, c in enumerate(findings.checks):
        new = fresh.get((c.name, c.torch, c.keras))
        if new is None or (c.phase, c.precision, c.step) != (phase.name, "float64", step.number):
            continue
        if c.verdict is Verdict.DIFFERENT and c.error != new.error:
            findings.excluded.setdefault((c.phase, c.name), exchanges[0][0])
        if Verdict.DIFFERENT in (c.verdict, new.verdict) and c.error != new.error:
            prefix = AT_ORDINARY if c.at_ordinary else ""
            findings.checks[i] = replace(new, detail="; ".join(filter(None, (prefix, note, new.detail))))
    for a, exchange in exchanges:
        _mark(findings, a, BY_FORMULA, (exchange.torch, exchange.keras))


def _with_deltas(record: StepRecord, deltas: Deltas) -> StepRecord:
    after = record.after
    parameters, buffers = (
        {path: array + deltas[path, ""] if (path, "") in deltas else array for path, array in values.items()}
        for values in (after.parameters, after.buffers)
    )
    slots = {
        path: {role: a + deltas[path, role] if (path, role) in deltas else a for role, a in by_role.items()}
        for path, by_role in after.slots.items()
    }
    return replace(record, after=replace(after, parameters=parameters, buffers=buffers, slots=slots))


def _exclude(findings: Findings, accepted: AcceptedCauses, number: int | None) -> None:
    """Exclude the quantities that accepted causes without a formula name; what may follow from them stays undecided."""
    for a, cause in accepted:
        _relocate(findings, cause)
        rivals = [c for c in findings.causes if c.confirmed and _follows(c.phase, cause.phase)]
        # Whether each update is exactly what its optimizer computes.
        recomputed = all(cause.evidence.get(f"{side}_update_recomputed") for side in SIDES)
        remaining: list[Check] = []
        for c in findings.checks:
            affected = c.verdict is Verdict.DIFFERENT and number in (None, c.step) and _may_follow(c, cause)
            judged_later = number is not None and c.phase == "update" != cause.phase and not _names(cause, c)
            if not affected or judged_later or (rivals and not _names(cause, c)):
                remaining.append(c)
            elif recomputed or _names(cause, c):
                findings.excluded.setdefault((c.phase, c.name), a)
                _mark(findings, a, NOT_JUDGED, None, c)
            else:
                detail = f"not judged: it may follow from {cause.id} at {_shown((cause.torch, cause.keras))}, which is "
                detail += "accepted, and no formula can remove it from a step"
                remaining.append(
                    replace(c, verdict=Verdict.INCONCLUSIVE, detail="; ".join(filter(None, (detail, c.detail))))
                )
                _mark(findings, a, NOT_JUDGED, None, c)
        findings.checks = remaining
        for location in _locations(cause):
            _mark(findings, a, NOT_JUDGED, location)


def _follows(phase: str, cause: str) -> bool:
    return phase == cause or cause in NEEDS.get(phase, ())


def _may_follow(check: Check, cause: Cause) -> bool:
    """Whether a difference may follow from a cause; no update uses an average of the weights."""
    if cause.id in OF_AVERAGES:
        return _is_average(check)
    return _follows(check.phase, cause.phase)


def _is_average(check: Check) -> bool:
    return check.name.endswith(f"[{AVERAGE}]")


def _names(cause: Cause, check: Check) -> bool:
    """Whether a cause names the quantity of a check, or a module around it."""
    if cause.id in OF_AVERAGES:
        return _is_average(check)
    for torch, keras in _locations(cause):
        for names, path in ((torch, check.torch), (keras, check.keras)):
            bare = [name.partition(" via ")[0] for name in (names or "").split(", ")]
            if any(name and Acceptance("", None, name, whole=True).fits(path) for name in bare):
                return True
    return False


def _relocate(findings: Findings, cause: Cause) -> None:
    """If the first difference is located at an accepted cause, move it to the next cause that is not accepted."""
    located = findings.located
    if located is None or located.phase != cause.phase or (located.torch, located.keras) not in _locations(cause):
        return
    next_cause = next((c for c in findings.causes if c.phase == cause.phase), None)
    findings.located = next_cause and replace(
        located,
        torch=next_cause.torch,
        keras=next_cause.keras,
        local_error=next_cause.evidence.get("before"),
        allowed=next_cause.evidence.get("allowed"),
        agreed="",
    )


def _mark(findings: Findings, a: Acceptance, how: str, location: Location | None, check: Check | None = None) -> None:
    outcome = findings.accepted[a]
    keep_how = outcome.seen and (how == NOT_CONFIRMED or outcome.how == BY_FORMULA)
    where = (*outcome.where, *([_shown(location)] if location else []))
    not_judged = (*outcome.not_judged, *([_quantity(check)] if check else []))
    how = outcome.how if keep_how else how
    findings.accepted[a] = replace(
        outcome, how=how, where=tuple(dict.fromkeys(where)), not_judged=tuple(dict.fromkeys(not_judged))
    )


def _shown(location: Location) -> str:
    torch, keras = location
    if torch is None or keras is None or torch == keras:
        return str(torch or keras or "the model")
    return f"{torch} (keras {keras})"


def _quantity(check: Check) -> str:
    return f"{check.phase} {check.name}" + (" in float32" if check.precision == "float32" else "")


def _refuse_unknown(live: Live, step: StepPair) -> None:
    """Refuse a name that matches no path, no call and no check of the first step."""
    findings = live.findings
    unknown = [a for a, outcome in findings.accepted.items() if a.name and not (outcome.seen or outcome.where)]
    paths = {entry.path for inventory in findings.inventories.values() for entry in inventory.entries}
    modules = {".".join(split(path)[:n]) for path in paths for n in range(1, len(split(path)) + 1)}
    unknown = [a for a in unknown if not (a.whole or any(a.fits(path) for path in (*paths, *modules)))]
    names = {c.name for c in findings.checks}
    unknown = [a for a in unknown if a.cause or not any(_is_of(a, c) for c in findings.checks)]
    if any(a.cause for a in unknown):
        calls = _calls(step, (live.reference.runner, live.follower))
        unknown = [a for a in unknown if a.cause is None or (calls is not None and not any(map(a.fits, calls)))]
        names |= calls or set()
    for a in unknown:
        raise _unknown(a, names | paths | modules)


def _calls(step: StepPair, runners: Iterable[Runner | None]) -> set[str] | None:
    """Names and paths of the calls of both sides; None where the calls of a side are not available."""
    names: set[str] = set()
    for runner in runners:
        if runner is None:
            return None
        try:
            calls = runner.calls(step.reference.batch, training=True, inside=everywhere)
        except UserCodeError:
            return None
        names |= {name for call in calls for name in (call.name, call.path)}
    return names


def _unknown(a: Acceptance, known: Iterable[str]) -> PairError:
    what = (
        f"neither side has the place {a.name!r}"
        if a.cause
        else f"{a.name!r} is neither a cause nor a name on either side"
    )
    return PairError(
        f"An entry of `accept` matches nothing: {what}.",
        where=f"accept {a.text!r}",
        numbers="parameters and buffers are named as in the report, causes as in docs/causes.md",
        todo=suggestion(a.name, [*known, *(() if a.cause else CAUSES)]) or "xcheck match PAIR shows the parameters",
    )
