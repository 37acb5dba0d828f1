"""What a report says about a result, before any markup: the answer, the phases, the failures in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records.accepted import BY_FORMULA, NOT_CONFIRMED, NOT_JUDGED, Accepted
from ..records.result import AT_ORDINARY, PHASES, Check, Divergence, ResultData, Verdict
from .words import count, cut, listed, number, one_line, severity

NOT_RUN = "not run"
FEW = 5
"""Names of one kind in a sentence."""
MATCH_OF = "match of "
"""How the name begins of a check that says that it is not known which parameter is which."""

STEPPED = ("forward", "loss", "gradient", "update")
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """All checks of one phase in one precision.

    Attributes:
        phase, precision: what is summed up; precision is None where nothing numeric was compared.
        verdict: the worst of the checks; None for a phase that something expected and that did not run.
        count: how many checks.
        worst: the check furthest above its allowance, or else the one closest to it; None where nothing
            failed and nothing was measured.
    """

    phase: str
    precision: str | None
    verdict: Verdict | None
    count: int
    worst: Check | None


def by_verdict(results: Sequence[ResultData]) -> list[ResultData]:
    """The results, worst verdict first, otherwise in the given order."""
    return sorted(results, key=lambda result: _RANK[result.verdict])


def precisions(result: ResultData) -> list[str]:
    """The precisions compared, the widest first."""
    return sorted({c.precision for c in result.checks if c.precision}, reverse=True)


def failing(result: ResultData) -> list[Check]:
    """Every check that is not EQUIVALENT, in the order of `worst_first`."""
    return worst_first([c for c in result.checks if c.verdict is not Verdict.EQUIVALENT])


def once_each(checks: Sequence[Check]) -> list[Check]:
    """The first of each quantity: one that fails in every step does not crowd out the others."""
    first: dict[tuple[str, str | None, str], Check] = {}
    for check in checks:
        first.setdefault((check.phase, check.precision, check.name), check)
    return list(first.values())


def passing(result: ResultData) -> list[Check]:
    """Every EQUIVALENT check, in the order of `worst_first`."""
    return worst_first([c for c in result.checks if c.verdict is Verdict.EQUIVALENT])


def worst_first(checks: Sequence[Check]) -> list[Check]:
    """Worst verdict first; of one verdict the earliest phase, and in a phase what is furthest off."""
    return sorted(checks, key=lambda c: (_RANK[c.verdict], phase_order(c.phase), -severity(c), c.step or 0))


def phase_order(phase: str) -> int:
    """The place of a phase in the flow of data; unknown ones come last."""
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def phase_rows(result: ResultData) -> list[PhaseRow]:
    """One row per phase and precision that ran, and per phase that was expected and did not."""
    groups: dict[tuple[str, str | None], list[Check]] = {}
    for check in result.checks:
        groups.setdefault((check.phase, check.precision), []).append(check)
    ran = {phase for phase, _ in groups}
    table = [_phase_row(*key, checks) for key, checks in groups.items()]
    table += [PhaseRow(phase, None, None, 0, None) for phase in _wanted(result) - ran]
    widest = [None, *precisions(result)]
    return sorted(table, key=lambda row: (phase_order(row.phase), row.phase, widest.index(row.precision)))


def _phase_row(phase: str, precision: str | None, checks: list[Check]) -> PhaseRow:
    verdict = Verdict.worst([c.verdict for c in checks])
    worst = max((c for c in checks if c.verdict is verdict), key=severity)
    shown = worst.verdict is not Verdict.EQUIVALENT or worst.error is not None
    return PhaseRow(phase, precision, verdict, len(checks), worst if shown else None)


def _wanted(result: ResultData) -> set[str]:
    named = {str((result.expectation or {}).get("phase") or "")} | {cause.phase for cause in result.causes}
    if result.first_divergence:
        named.add(result.first_divergence.phase)
    return named & set(PHASES)


def phase_label(of: Check | PhaseRow, several: bool) -> str:
    """`update`, or `update float32` where a table holds several precisions."""
    return f"{of.phase} {of.precision}" if several and of.precision else of.phase


def failing_title(result: ResultData) -> str:
    """`26 of 71 checks DIFFERENT, worst first`."""
    found = {c.verdict for c in result.checks} - {Verdict.EQUIVALENT}
    word = found.pop().value if len(found) == 1 else f"not {Verdict.EQUIVALENT.value}"
    return f"{len(failing(result))} of {count(len(result.checks), 'check')} {word}, worst first"


def place(of: Check | Divergence, result: ResultData) -> str:
    """`update at step 1 in float32`; the precision only where the result has more than one or no float64."""
    precision = of.precision if of.precision and precisions(result) != ["float64"] else None
    further = {(c.phase, c.precision, c.step): c.further for c in result.checks if c.further}
    when = further.get((of.phase, of.precision, of.step)) or (f"at step {of.step}" if of.step else "")
    parts = [of.phase, when, f"in {precision}" if precision else ""]
    return " ".join(part for part in parts if part)


def first_check(result: ResultData) -> Check | None:
    """The check behind the first divergence: its own, or else the worst failing one; None if none fails."""
    checks, first = failing(result), result.first_divergence
    if first is None:
        return checks[0] if checks else None
    same = [c for c in checks if (c.phase, c.precision, c.step) == (first.phase, first.precision, first.step)]
    same = [c for c in same if (c.torch, c.keras) == (first.torch, first.keras)]
    return next((c for c in same if c.name == first.name), same[0] if same else None)


def headline(result: ResultData, path_width: int = 10_000) -> str:
    """The answer in one sentence, without the verdict's word.

    Args:
        result: what to sum up.
        path_width: columns that one parameter path may take; longer ones lose their middle.
    """
    match result.verdict:
        case Verdict.EQUIVALENT:
            said = _same(result)
        case Verdict.NUMERIC:
            said = _numeric(result, path_width)
        case Verdict.DIFFERENT:
            said = _different(result, path_width)
        case Verdict.INCONCLUSIVE:
            said = _inconclusive(result, path_width)
    return f"{cut(one_line(result.pair), path_width)}: {said}"


def apart_from(result: ResultData) -> str:
    """`apart from what is accepted (biased_variance@norm)`; "" where nothing that is accepted was found."""
    seen = [one_line(a.what) for a in result.accepted if a.seen]
    return f"apart from what is accepted ({', '.join(seen)})" if seen else ""


def accepted(result: ResultData) -> list[tuple[str, str]]:
    """What the user accepts, each with what became of it in the run."""
    return [(one_line(a.what), _became(a)) for a in result.accepted]


def _became(a: Accepted) -> str:
    at = f" at {listed(_few([one_line(place) for place in a.where]))}" if a.where else ""
    lost = f"not judged: {', '.join(_few([one_line(name) for name in a.not_judged]))}" if a.not_judged else ""
    if a.how == BY_FORMULA:
        return f"taken out by its formula{at}, and the rest judged" + (f"; {lost}" if lost else "")
    if a.how == NOT_JUDGED:
        return lost or f"accepted{at}"
    if a.how == NOT_CONFIRMED:
        return f"found{at}, but not confirmed, and so not accepted: taking it out might hide something else"
    return "accepted, but not seen in this run"


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= FEW else [*names[: FEW - 1], f"{len(names) - FEW + 1} more (see result.json)"]


def because(result: ResultData) -> str | None:
    """Why the sides part, in one sentence; None where nothing was found."""
    first = result.first_divergence
    phase = [c for c in result.causes if first is not None and c.phase == first.phase]
    place = [c for c in phase if first is not None and (c.torch, c.keras) == (first.torch, first.keras)]
    there = sorted(place or phase, key=lambda c: not c.confirmed)
    if first is None or result.verdict is not Verdict.DIFFERENT:
        return None
    doubt = next((c for c in result.checks if c.name.startswith(MATCH_OF) and c.verdict is Verdict.INCONCLUSIVE), None)
    if doubt is not None and first.phase in STEPPED and not (there and there[0].confirmed):
        return f"perhaps: {doubt.torch} is not {doubt.keras}: {one_line(doubt.detail)}"
    if not there:
        return None
    return f"{'because' if there[0].confirmed else 'perhaps'}: {one_line(there[0].summary)}"


def _same(result: ResultData) -> str:
    ran = {c.phase for c in result.checks}
    steps = len({c.step for c in result.checks if c.step and c.phase in STEPPED and not c.at_ordinary})
    apart = f" {said}" if (said := apart_from(result)) else ""
    where = f" in {listed(precisions(result))}" if precisions(result) else ""
    if ran.issuperset(STEPPED):
        further = f" and one {AT_ORDINARY}" if any(c.at_ordinary for c in result.checks) else ""
        return f"the same computation{apart}, {count(steps, 're-synced step')}{where}{further}"
    return f"the same in all that was checked{apart}{where}: {', '.join(sorted(ran, key=phase_order)) or 'nothing'}"


def _numeric(result: ResultData, width: int) -> str:
    apart = f" {of}" if (of := apart_from(result)) else ""
    said = f"the same computation in float64{apart}, but one side loses more precision in float32"
    worst = first_check(result)
    if worst is None:
        return said
    item = _item(worst.name, worst.keras, width)
    return f"{said}: {worst.phase} {item}, {_against(worst.error, worst.allowed)}"


def _different(result: ResultData, width: int) -> str:
    check, first = first_check(result), result.first_divergence
    at = first or check
    if at is None:
        return "not the same computation; no check says where"
    error = at.error if isinstance(at, Check) else at.local_error
    reason = _against(error, at.allowed) if error is not None else one_line(check.detail if check else "")
    item = _item(at.torch or at.name, at.keras if at.keras != at.torch else None, width)
    if at.torch is None and at.keras:
        item = f"{cut(one_line(at.keras), width)} (keras only)"
    elif at.torch and at.keras is None:
        item = f"{cut(one_line(at.torch), width)} (torch only)"
    return f"first parts in {place(at, result)}: {item}" + (f", {reason}" if reason else "")


def _inconclusive(result: ResultData, width: int) -> str:
    if result.failure is not None:
        return f"the run ended early: {one_line(result.failure.strip().partition(chr(10))[0])}"
    if not result.checks:
        return "nothing was compared"
    checks = [c for c in failing(result) if c.verdict is Verdict.INCONCLUSIVE]
    if not checks:
        lost = [f"{n} {what} {status}" for what, t in result.coverage.items() for status, n in t.items()
                if n and status not in ("matched", "compared", "waived")]  # fmt: skip
        return f"not all was compared: {', '.join(lost) or 'see the coverage'}"
    first = checks[0]
    item = _item(first.torch or first.name or first.keras or "?", None, width)
    reason = one_line(first.detail) or _against(first.error, first.allowed)
    return (
        f"{count(len(checks), 'check')} of {len(result.checks)} decided nothing; "
        f"first {item} in {place(first, result)}: {reason}"
    )


def _item(path: str, keras: str | None, width: int) -> str:
    torch = cut(one_line(path), width)
    return f"{torch} (keras {cut(one_line(keras), width)})" if keras else torch


def _against(error: float | None, allowed: float | None) -> str:
    return f"{number(error)} against {number(allowed)} allowed"


def coverage(result: ResultData) -> list[tuple[str, str]]:
    """Per kind of thing, how many were compared and how many were not; zeros are left out."""
    lines: list[tuple[str, str]] = []
    for what, table in result.coverage.items():
        parts = [f"{many} {one_line(status)}" for status, many in table.items() if many]
        lines.append((one_line(what), ", ".join(parts) or "none"))
    return lines


def expectation(result: ResultData) -> str | None:
    """What a negative control expects and whether it held; None for other pairs."""
    if result.expected is None and result.expectation is None:
        return None
    table = result.expectation or {}
    said = one_line(str(table.get("verdict") or result.expected))
    said += f" in {one_line(str(table['phase']))}" if table.get("phase") else ""
    said += f", cause {one_line(str(table['cause']))}" if table.get("cause") else ""
    if "held" not in table:
        return f"{said}: not judged"
    why = f" ({one_line(str(table['why']))})" if table.get("why") else ""
    return f"{said}: {'held' if table['held'] else 'NOT held'}{why}"
