"""The content of a report before any markup: the answer, the phases, the sorted failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records.accepted import BY_FORMULA, NOT_CONFIRMED, NOT_JUDGED, Accepted
from ..records.result import AT_ORDINARY, PHASES, Check, Divergence, ResultData, Verdict
from .words import count, cut, listed, number, one_line, severity

NOT_RUN = "not run"
MOST_NAMES = 5
"""Most names of one kind in a sentence."""
MATCH_OF = "match of "
"""Start of the name of a check for a doubtful match of parameters."""

STEPPED = ("forward", "loss", "gradient", "update")
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """All checks of one phase in one precision.

    Attributes:
        phase, precision: of the checks; precision is None where nothing numeric was compared.
        verdict: the worst of the checks; None for an expected phase that did not run.
        count: number of checks.
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
    """The first check of each quantity, so that one that fails in every step does not displace the others."""
    first: dict[tuple[str, str | None, str], Check] = {}
    for check in checks:
        first.setdefault((check.phase, check.precision, check.name), check)
    return list(first.values())


def passing(result: ResultData) -> list[Check]:
    """Every EQUIVALENT check, in the order of `worst_first`."""
    return worst_first([c for c in result.checks if c.verdict is Verdict.EQUIVALENT])


def worst_first(checks: Sequence[Check]) -> list[Check]:
    """Worst verdict first; for one verdict the earliest phase, and in a phase the largest deviation."""
    return sorted(checks, key=lambda c: (_RANK[c.verdict], phase_order(c.phase), -severity(c), c.step or 0))


def phase_order(phase: str) -> int:
    """The index of a phase in the dataflow; unknown ones come last."""
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def phase_rows(result: ResultData) -> list[PhaseRow]:
    """One row per phase and precision that ran, and per expected phase that did not run."""
    groups: dict[tuple[str, str | None], list[Check]] = {}
    for check in result.checks:
        groups.setdefault((check.phase, check.precision), []).append(check)
    ran = {phase for phase, _ in groups}
    table = [_phase_row(*key, checks) for key, checks in groups.items()]
    table += [PhaseRow(phase, None, None, 0, None) for phase in _expected_phases(result) - ran]
    widest = [None, *precisions(result)]
    return sorted(table, key=lambda row: (phase_order(row.phase), row.phase, widest.index(row.precision)))


def _phase_row(phase: str, precision: str | None, checks: list[Check]) -> PhaseRow:
    verdict = Verdict.worst([c.verdict for c in checks])
    worst = max((c for c in checks if c.verdict is verdict), key=severity)
    shown = worst.verdict is not Verdict.EQUIVALENT or worst.error is not None
    return PhaseRow(phase, precision, verdict, len(checks), worst if shown else None)


def _expected_phases(result: ResultData) -> set[str]:
    named = {str((result.expectation or {}).get("phase") or "")} | {cause.phase for cause in result.causes}
    if result.first_divergence:
        named.add(result.first_divergence.phase)
    return named & set(PHASES)


def phase_label(item: Check | PhaseRow, several: bool) -> str:
    """`update`, or `update float32` in a table with several precisions."""
    return f"{item.phase} {item.precision}" if several and item.precision else item.phase


def failing_title(result: ResultData) -> str:
    """`26 of 71 checks DIFFERENT, worst first`."""
    verdicts = {c.verdict for c in result.checks} - {Verdict.EQUIVALENT}
    word = verdicts.pop().value if len(verdicts) == 1 else f"not {Verdict.EQUIVALENT.value}"
    return f"{len(failing(result))} of {count(len(result.checks), 'check')} {word}, worst first"


def place(item: Check | Divergence, result: ResultData) -> str:
    """`update at step 1 in float32`; the precision only where the result has more than one or no float64."""
    precision = item.precision if item.precision and precisions(result) != ["float64"] else None
    outside_training = {(c.phase, c.precision, c.step): c.further for c in result.checks if c.further}
    where = outside_training.get((item.phase, item.precision, item.step)) or (
        f"at step {item.step}" if item.step else ""
    )
    parts = [item.phase, where, f"in {precision}" if precision else ""]
    return " ".join(part for part in parts if part)


def first_check(result: ResultData) -> Check | None:
    """The check of the first divergence, or else the worst failing one; None if none fails."""
    checks, first = failing(result), result.first_divergence
    if first is None:
        return checks[0] if checks else None
    same = [c for c in checks if (c.phase, c.precision, c.step) == (first.phase, first.precision, first.step)]
    same = [c for c in same if (c.torch, c.keras) == (first.torch, first.keras)]
    return next((c for c in same if c.name == first.name), same[0] if same else None)


def headline(result: ResultData, path_width: int = 10_000) -> str:
    """The answer in one sentence, without the name of the verdict.

    Args:
        result: to summarize.
        path_width: maximum columns of a parameter path; longer ones lose their middle.
    """
    match result.verdict:
        case Verdict.EQUIVALENT:
            answer = _same(result)
        case Verdict.NUMERIC:
            answer = _numeric(result, path_width)
        case Verdict.DIFFERENT:
            answer = _different(result, path_width)
        case Verdict.INCONCLUSIVE:
            answer = _inconclusive(result, path_width)
    return f"{cut(one_line(result.pair), path_width)}: {answer}"


def apart_from(result: ResultData) -> str:
    """`apart from accepted differences (biased_variance@norm)`; "" where no accepted difference was found."""
    accepted_names = [one_line(a.what) for a in result.accepted if a.seen]
    return f"apart from accepted differences ({', '.join(accepted_names)})" if accepted_names else ""


def accepted(result: ResultData) -> list[tuple[str, str]]:
    """The accepted differences, each with its outcome in the run."""
    return [(one_line(a.what), _outcome(a)) for a in result.accepted]


def _outcome(a: Accepted) -> str:
    where = f" at {listed(_shortened([one_line(place) for place in a.where]))}" if a.where else ""
    not_judged = (
        f"not judged: {', '.join(_shortened([one_line(name) for name in a.not_judged]))}" if a.not_judged else ""
    )
    if a.how == BY_FORMULA:
        return f"removed by its formula{where}; everything else was judged" + (f"; {not_judged}" if not_judged else "")
    if a.how == NOT_JUDGED:
        return not_judged or f"accepted{where}"
    if a.how == NOT_CONFIRMED:
        return f"found{where}, but not confirmed, so not accepted: removing it could hide another difference"
    return "accepted, but not seen in this run"


def _shortened(names: list[str]) -> list[str]:
    return (
        names
        if len(names) <= MOST_NAMES
        else [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more (see result.json)"]
    )


def because(result: ResultData) -> str | None:
    """Why the sides differ, in one sentence; None where no cause was found."""
    first = result.first_divergence
    in_phase = [c for c in result.causes if first is not None and c.phase == first.phase]
    at_place = [c for c in in_phase if first is not None and (c.torch, c.keras) == (first.torch, first.keras)]
    candidates = sorted(at_place or in_phase, key=lambda c: not c.confirmed)
    if first is None or result.verdict is not Verdict.DIFFERENT:
        return None
    doubt = next((c for c in result.checks if c.name.startswith(MATCH_OF) and c.verdict is Verdict.INCONCLUSIVE), None)
    if doubt is not None and first.phase in STEPPED and not (candidates and candidates[0].confirmed):
        return f"perhaps: {doubt.torch} is not {doubt.keras}: {one_line(doubt.detail)}"
    if not candidates:
        return None
    return f"{'because' if candidates[0].confirmed else 'perhaps'}: {one_line(candidates[0].summary)}"


def _same(result: ResultData) -> str:
    ran = {c.phase for c in result.checks}
    steps = len({c.step for c in result.checks if c.step and c.phase in STEPPED and not c.at_ordinary})
    exceptions = f" {text}" if (text := apart_from(result)) else ""
    where = f" in {listed(precisions(result))}" if precisions(result) else ""
    if ran.issuperset(STEPPED):
        ordinary = f" and one {AT_ORDINARY}" if any(c.at_ordinary for c in result.checks) else ""
        return f"the same computation{exceptions}, {count(steps, 're-synced step')}{where}{ordinary}"
    return (
        f"the same in all that was checked{exceptions}{where}: {', '.join(sorted(ran, key=phase_order)) or 'nothing'}"
    )


def _numeric(result: ResultData, width: int) -> str:
    exceptions = f" {text}" if (text := apart_from(result)) else ""
    answer = f"the same computation in float64{exceptions}, but one side loses more precision in float32"
    worst = first_check(result)
    if worst is None:
        return answer
    item = _item(worst.name, worst.keras, width)
    return f"{answer}: {worst.phase} {item}, {_against(worst.error, worst.allowed)}"


def _different(result: ResultData, width: int) -> str:
    check, first = first_check(result), result.first_divergence
    location = first or check
    if location is None:
        return "not the same computation; no check shows where"
    error = location.error if isinstance(location, Check) else location.local_error
    reason = _against(error, location.allowed) if error is not None else one_line(check.detail if check else "")
    item = _item(location.torch or location.name, location.keras if location.keras != location.torch else None, width)
    if location.torch is None and location.keras:
        item = f"{cut(one_line(location.keras), width)} (keras only)"
    elif location.torch and location.keras is None:
        item = f"{cut(one_line(location.torch), width)} (torch only)"
    return f"first difference in {place(location, result)}: {item}" + (f", {reason}" if reason else "")


def _inconclusive(result: ResultData, width: int) -> str:
    if result.failure is not None:
        return f"the run ended early: {one_line(result.failure.strip().partition(chr(10))[0])}"
    if not result.checks:
        return "nothing was compared"
    checks = [c for c in failing(result) if c.verdict is Verdict.INCONCLUSIVE]
    if not checks:
        left_out = [
            f"{number} {what} {status}"
            for what, table in result.coverage.items()
            for status, number in table.items()
            if number and status not in ("matched", "compared", "waived")
        ]
        return f"not all was compared: {', '.join(left_out) or 'see the coverage'}"
    first = checks[0]
    item = _item(first.torch or first.name or first.keras or "?", None, width)
    reason = one_line(first.detail) or _against(first.error, first.allowed)
    return (
        f"{count(len(checks), 'check')} of {len(result.checks)} undecided; first {item} in {place(first, result)}: "
        f"{reason}"
    )


def _item(path: str, keras: str | None, width: int) -> str:
    torch = cut(one_line(path), width)
    return f"{torch} (keras {cut(one_line(keras), width)})" if keras else torch


def _against(error: float | None, allowed: float | None) -> str:
    return f"{number(error)} against {number(allowed)} allowed"


def coverage(result: ResultData) -> list[tuple[str, str]]:
    """Per kind of item, the number of items in each status; zeros are left out."""
    lines: list[tuple[str, str]] = []
    for what, table in result.coverage.items():
        parts = [f"{number} {one_line(status)}" for status, number in table.items() if number]
        lines.append((one_line(what), ", ".join(parts) or "none"))
    return lines


def expectation(result: ResultData) -> str | None:
    """What a negative control expects and whether it held; None for other pairs."""
    if result.expected is None and result.expectation is None:
        return None
    table = result.expectation or {}
    text = one_line(str(table.get("verdict") or result.expected))
    text += f" in {one_line(str(table['phase']))}" if table.get("phase") else ""
    text += f", cause {one_line(str(table['cause']))}" if table.get("cause") else ""
    if "held" not in table:
        return f"{text}: not judged"
    why = f" ({one_line(str(table['why']))})" if table.get("why") else ""
    return f"{text}: {'held' if table['held'] else 'NOT held'}{why}"
