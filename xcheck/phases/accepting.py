"""A run goes on as if what is accepted were not there: taken out by its formula where one is proven, else not judged.

A cause is taken out of the findings as soon as it has been explained, in each step anew. What the follower's step
would be with the reference's way in its place is then judged as any step is, so that nothing else is hidden. Where no
formula is at hand, what the cause names is left out of the comparison, and what may follow from it stays undecided.
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
from ..records.trace import Array, StepRecord
from ..stepping.lockstep import Moved, StepPair
from . import NEEDS
from .findings import Findings
from .phase import Live, Phase
from .steps import compare_step

Place = tuple[str | None, str | None]
Taken = list[tuple[Acceptance, Cause]]


def known_names(findings: Findings) -> None:
    """Refuse an accepted parameter or buffer that neither side has; both sides are matched.

    Raises:
        PairError: a name fits nothing.
    """
    paths = {entry.path for inventory in findings.inventories.values() for entry in inventory.entries}
    known = paths | {
        "".join(parts[:n]) for path in paths for parts in [re.split(r"([./])", path)] for n in range(1, len(parts), 2)
    }
    findings.accepted = {replace(a, whole=a.name in known): found for a, found in findings.accepted.items()}
    for a in findings.accepted:
        of_parameters = a.cause is None and not {"forward", "loss"} & set(a.phases)
        if of_parameters and not any(a.fits(path) for path in paths):
            raise _unknown(a, known)


def leave_out(findings: Findings, start: int = 0) -> None:
    """Leave accepted quantities out of the checks, where they do not pass.

    Args:
        findings: of the run.
        start: number of the first check that is looked at.
    """
    if findings.accepted:
        kept = [c for c in findings.checks[start:] if c.verdict is Verdict.EQUIVALENT or not _left_out(findings, c)]
        findings.checks[start:] = kept


def _left_out(findings: Findings, check: Check) -> bool:
    key = check.phase, check.name
    a = next((a for a in findings.accepted if a.cause is None and _is_of(a, check)), None)
    if a is None and check.precision == "float32":
        a = findings.taken.get(key)  # what was taken out in float64 by a formula that holds there
    if a is None:
        return False
    findings.taken.setdefault(key, a)
    _mark(findings, a, NOT_JUDGED, (check.torch, check.keras) if a.cause is None else None, check)
    return True


def _is_of(a: Acceptance, check: Check) -> bool:
    if check.phase not in a.phases:
        return False
    bare = re.sub(r"( \(\w+\)| \[\w+\]| via .*)$", "", check.name)
    paths = {check.name, bare, *(re.sub(r"\[[^\]]*\]$", "", p) for p in (check.torch, check.keras) if p)}
    return any(a.fits(path) for path in paths)


def accept_step(live: Live, step: StepPair, phases: Sequence[Phase]) -> bool:
    """Take what is accepted out of a step that has been explained.

    Where something before the update is accepted and cannot be taken out, the checks of the update are left as they
    are: each optimizer may still be read from its own gradients, and `leave_update_open` ends that.

    Args:
        live: both sides; their findings are judged anew where something was taken out.
        step: the last one that was compared.
        phases: that are asked of each step.

    Returns:
        Whether the updates follow from something that is accepted.

    Raises:
        PairError: what is accepted fits nothing on either side.
    """
    findings = live.findings
    taken = _taken(findings)
    for phase in phases:
        parts = [(a, e) for a, cause in taken if cause.phase == phase.name for e in cause.exchanges]
        if parts and phase.compare is not None:
            _exchange(findings, live.plan, step, phase, parts)
    without = [(a, cause) for a, cause in taken if not cause.exchanges]
    _not_judged(findings, without, step.number)
    if findings.accepted and step.number == 1:
        _known_at_all(live, step)
    return any(_follows("update", cause.phase) for _, cause in without)


def leave_update_open(live: Live, step: StepPair, phases: Sequence[Phase]) -> None:
    """Take what is accepted out of the updates too; what nothing of its own explains then follows from the rest.

    Args:
        live, step, phases: as for `accept_step`.
    """
    accept_step(live, step, phases)
    findings = live.findings
    if any(c.confirmed and c.phase == "update" for c in findings.causes):
        return
    told = "not judged: it may follow from what is accepted before the update"
    for i, c in enumerate(findings.checks):
        if (c.phase, c.step, c.verdict) == ("update", step.number, Verdict.DIFFERENT):
            findings.checks[i] = replace(c, verdict=Verdict.INCONCLUSIVE, detail=told)


def accept_causes(findings: Findings) -> None:
    """Leave out what accepted causes explain that were found outside of the steps."""
    _not_judged(findings, _taken(findings), None)


def _taken(findings: Findings) -> Taken:
    """The accepted causes, each with what accepts it; they are no longer among those of the findings."""
    taken: Taken = []
    left: list[Cause] = []
    for cause in findings.causes:
        rest: Cause | None = cause
        for a in findings.accepted:
            if rest is None or a.cause != rest.id:
                continue
            mine = [place for place in _places(rest) if a.fits_place(*place)]
            if mine and not rest.confirmed:
                _mark(findings, a, NOT_CONFIRMED, mine[0])
            elif mine:
                taken.append((a, _at(rest, mine)))
                others = [place for place in _places(rest) if place not in mine]
                rest = _at(rest, others) if others else None
        left += [replace(rest, exchanges=())] if rest is not None else []  # they hold on to a whole step
    findings.causes = left
    return taken


def _places(cause: Cause) -> list[Place]:
    also = [text.partition(" and ") for text in cause.evidence.get("also", ())]
    return [(cause.torch, cause.keras), *((torch, keras) for torch, _, keras in also)]


def _at(cause: Cause, places: Sequence[Place]) -> Cause:
    """The cause at some of its places."""
    evidence = {key: value for key, value in cause.evidence.items() if key != "also"}
    if len(places) > 1:
        evidence["also"] = [f"{torch} and {keras}" for torch, keras in places[1:]]
    exchanges = tuple(e for e in cause.exchanges if (e.torch, e.keras) in places)
    return replace(cause, torch=places[0][0], keras=places[0][1], evidence=evidence, exchanges=exchanges)


def _exchange(
    findings: Findings, plan: MatchPlan, step: StepPair, phase: Phase, parts: Sequence[tuple[Acceptance, Exchange]]
) -> None:
    """Judge a phase of a step anew, with the reference's way in the follower's place."""
    deltas: dict[tuple[str, str], Array] = {}
    by_maker: dict[int, tuple[Callable[[Collection[str]], Deltas], list[str]]] = {}
    for _, exchange in parts:
        by_maker.setdefault(id(exchange.deltas), (exchange.deltas, []))[1].append(exchange.part)
    for make, of in by_maker.values():
        deltas |= make(of)
    again = step.again

    def moved(buffers: Collection[str]) -> Moved:
        assert again is not None
        places, records = again(buffers)
        return places, tuple(_plus(record, deltas) for record in records)

    other = replace(step, follower=_plus(step.follower, deltas), again=moved if again else None, moved=())
    fresh = {(c.name, c.torch, c.keras): c for c in compare_step(findings, phase, plan, other, "float64")[1]}
    told = "; ".join(dict.fromkeys(f"{a.cause} taken out, which is accepted" for a, _ in parts))
    for i, c in enumerate(findings.checks):
        new = fresh.get((c.name, c.torch, c.keras))
        if new is None or (c.phase, c.precision, c.step) != (phase.name, "float64", step.number):
            continue
        if c.verdict is Verdict.DIFFERENT and c.error != new.error:
            findings.taken.setdefault((c.phase, c.name), parts[0][0])
        if Verdict.DIFFERENT in (c.verdict, new.verdict) and c.error != new.error:
            where = AT_ORDINARY if c.at_ordinary else ""
            findings.checks[i] = replace(new, detail="; ".join(filter(None, (where, told, new.detail))))
    for a, exchange in parts:
        _mark(findings, a, BY_FORMULA, (exchange.torch, exchange.keras))


def _plus(record: StepRecord, deltas: Deltas) -> StepRecord:
    after = record.after
    parameters, buffers = (
        {path: array + deltas[path, ""] if (path, "") in deltas else array for path, array in of.items()}
        for of in (after.parameters, after.buffers)
    )
    slots = {
        path: {role: a + deltas[path, role] if (path, role) in deltas else a for role, a in by_role.items()}
        for path, by_role in after.slots.items()
    }
    return replace(record, after=replace(after, parameters=parameters, buffers=buffers, slots=slots))


def _not_judged(findings: Findings, taken: Taken, number: int | None) -> None:
    """Leave out what accepted causes name that no formula takes out, and leave open what may follow from them."""
    for a, cause in taken:
        _relocate(findings, cause)
        rivals = [c for c in findings.causes if c.confirmed and _follows(c.phase, cause.phase)]
        whole = all(
            cause.evidence.get(f"{side}_update_recomputed") for side in SIDES
        )  # each is what its optimizer does
        kept: list[Check] = []
        for c in findings.checks:
            concerns = c.verdict is Verdict.DIFFERENT and number in (None, c.step) and _follows(c.phase, cause.phase)
            later = number is not None and c.phase == "update" != cause.phase and not _named(cause, c)
            if not concerns or later or (rivals and not _named(cause, c)):
                kept.append(c)
            elif whole or _named(cause, c):
                findings.taken.setdefault((c.phase, c.name), a)
                _mark(findings, a, NOT_JUDGED, None, c)
            else:
                told = f"not judged: it may follow from {cause.id} at {_shown((cause.torch, cause.keras))}, which is "
                told += "accepted, and which no formula takes out of a step"
                kept.append(replace(c, verdict=Verdict.INCONCLUSIVE, detail="; ".join(filter(None, (told, c.detail)))))
                _mark(findings, a, NOT_JUDGED, None, c)
        findings.checks = kept
        for place in _places(cause):
            _mark(findings, a, NOT_JUDGED, place)


def _follows(phase: str, cause: str) -> bool:
    return phase == cause or cause in NEEDS.get(phase, ())


def _named(cause: Cause, check: Check) -> bool:
    """Whether a cause names what a check is of, or a module around it."""
    for torch, keras in _places(cause):
        for names, path in ((torch, check.torch), (keras, check.keras)):
            bare = [name.partition(" via ")[0] for name in (names or "").split(", ")]
            if any(name and Acceptance("", None, name, whole=True).fits(path) for name in bare):
                return True
    return False


def _relocate(findings: Findings, cause: Cause) -> None:
    """Where the first difference is at an accepted cause, it is at the next one that is not."""
    at = findings.located
    if at is None or at.phase != cause.phase or (at.torch, at.keras) not in _places(cause):
        return
    left = next((c for c in findings.causes if c.phase == cause.phase), None)
    findings.located = left and replace(
        at,
        torch=left.torch,
        keras=left.keras,
        local_error=left.evidence.get("before"),
        allowed=left.evidence.get("allowed"),
        agreed="",
    )


def _mark(findings: Findings, a: Acceptance, how: str, place: Place | None, check: Check | None = None) -> None:
    found = findings.accepted[a]
    keeps = found.seen and (how == NOT_CONFIRMED or found.how == BY_FORMULA)
    where = (*found.where, *([_shown(place)] if place else []))
    lost = (*found.not_judged, *([_lost(check)] if check else []))
    how = found.how if keeps else how
    findings.accepted[a] = replace(
        found, how=how, where=tuple(dict.fromkeys(where)), not_judged=tuple(dict.fromkeys(lost))
    )


def _shown(place: Place) -> str:
    torch, keras = place
    if torch is None or keras is None or torch == keras:
        return str(torch or keras or "the model")
    return f"{torch} (keras {keras})"


def _lost(check: Check) -> str:
    return f"{check.phase} {check.name}" + (" in float32" if check.precision == "float32" else "")


def _known_at_all(live: Live, step: StepPair) -> None:
    """Refuse a name that fits no path, no call, and nothing that was compared in the first step."""
    findings = live.findings
    open_ = [a for a, found in findings.accepted.items() if a.name and not (found.seen or found.where)]
    paths = {entry.path for inventory in findings.inventories.values() for entry in inventory.entries}
    modules = {".".join(split(path)[:n]) for path in paths for n in range(1, len(split(path)) + 1)}
    open_ = [a for a in open_ if not (a.whole or any(a.fits(path) for path in (*paths, *modules)))]
    names = {c.name for c in findings.checks}
    open_ = [a for a in open_ if a.cause or not any(_is_of(a, c) for c in findings.checks)]
    if any(a.cause for a in open_):
        calls = _calls(step, (live.reference.runner, live.follower))
        open_ = [a for a in open_ if a.cause is None or (calls is not None and not any(map(a.fits, calls)))]
        names |= calls or set()
    for a in open_:
        raise _unknown(a, names | paths | modules)


def _calls(step: StepPair, runners: Iterable[Runner | None]) -> set[str] | None:
    """Names and paths of the calls of both sides; None where a side cannot be asked."""
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
    what = f"neither side has the place {a.name!r}" if a.cause else f"{a.name!r} is no cause, and neither side has it"
    return PairError(
        f"An accepted difference names nothing: {what}.",
        where=f"accept {a.text!r}",
        numbers="parameters and buffers are named as in the report, causes as in docs/causes.md",
        todo=suggestion(a.name, [*known, *(() if a.cause else CAUSES)]) or "xcheck match PAIR shows the parameters",
    )
