"""The report as one HTML file that needs no network, no script and no second file.

Results become small view objects, which small templates render; every text is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ..records.result import Cause, Check, ResultData, Verdict
from ..records.writing import write_whole
from . import views
from .curve import Curve, curves
from .exports import export_table
from .ties import shown_ties, stage_rows, status, uses
from .words import NONE, count, index, many_lines, number, one_line, ratio, rows, severity, two_values

MOST = 2000
"""Most checks per table; a page with more opens slowly, and result.json has them all."""
DECADES_BELOW = 4
"""Decades below the allowance that a bar can show."""


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check with all numbers formatted."""

    verdict: str
    phase: str
    precision: str
    step: str
    name: str
    torch: str | None
    keras: str | None
    error: str
    allowed: str
    ratio: str
    tolerance: str
    metric: str
    element: str
    values: tuple[str, str] | None
    detail: str


@dataclass(frozen=True, slots=True)
class PhaseView:
    """One row of the table of phases.

    Attributes:
        bar: length of the bar in percent of its column; None where nothing was measured.
        over: the error is above its allowance.
    """

    label: str
    verdict: str
    count: int
    worst: CheckView | None
    exact: bool
    bar: float | None
    over: bool


@dataclass(frozen=True, slots=True)
class DivergenceView:
    """The card of the first divergence; `check` has its evidence, if a check matches."""

    place: str
    name: str
    torch: str | None
    keras: str | None
    error: str
    allowed: str
    agreed: str
    check: CheckView | None


@dataclass(frozen=True, slots=True)
class CauseView:
    """One cause."""

    id: str
    confirmed: bool
    phase: str
    torch: str | None
    keras: str | None
    summary: str
    evidence: list[tuple[str, str]]
    fix: str


@dataclass(frozen=True, slots=True)
class ResultView:
    """One section of the page.

    Attributes:
        mark: position of the allowance on the bars of the phases, in percent of their column.
        failing_mixed: the failing checks have several verdicts.
        others: named like the field of `ResultData` that they show.
    """

    anchor: str
    verdict: str
    pair: str
    answer: Markup
    setting: str
    failure: str | None
    expectation: str | None
    divergence: DivergenceView | None
    causes: list[CauseView]
    accepted: list[tuple[str, str]]
    phases: list[PhaseView]
    mark: float
    curves: list[Curve]
    failing_title: str
    failing_mixed: bool
    failing: list[CheckView]
    failing_more: int
    passing_count: int
    passing: list[CheckView]
    passing_more: int
    ties: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]
    stages: list[tuple[str, str, str]]
    exports: list[tuple[str, ...]]
    coverage: list[tuple[str, str]]
    notes: list[str]
    environment: list[tuple[str, str]]
    timings: list[tuple[str, str]]


def write_html(results: Sequence[ResultData], path: Path) -> Path:
    """Write the report on one or more results as a self-contained page, worst verdict first.

    Args:
        results: to report.
        path: the file; its folder is created, an old file is replaced.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.
    """
    return write_whole(path, as_html(results))


def as_html(results: Sequence[ResultData]) -> str:
    """The page of `write_html` as text."""
    environment = Environment(
        loader=PackageLoader("xcheck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result_views = [result_view(result, f"r{i}") for i, result in enumerate(views.by_verdict(results), start=1)]
    counts = [(v.value, sum(view.verdict == v.value for view in result_views)) for v in Verdict]
    page = environment.get_template("page.html")
    return page.render(results=result_views, counts=[(verdict, number) for verdict, number in counts if number])


def result_view(result: ResultData, anchor: str) -> ResultView:
    """The content of the page for one result, as text."""
    failing, passing = views.failing(result), views.passing(result)
    pair = one_line(result.pair)
    size = f"{count(result.steps, 'step')} asked for, {count(len(result.checks), 'check')}"
    phases, mark = _phases(result)
    return ResultView(
        anchor=anchor,
        verdict=result.verdict.value,
        pair=pair,
        answer=_unbroken(views.headline(result).removeprefix(f"{pair}: ")),
        setting=f"seed {result.seed}, {size}",
        failure=None if result.failure is None else many_lines(result.failure),
        expectation=views.expectation(result),
        divergence=_divergence(result),
        causes=[_cause(cause) for cause in result.causes],
        accepted=views.accepted(result),
        phases=phases,
        mark=mark,
        curves=curves(result),
        failing_title=views.failing_title(result),
        failing_mixed=len({check.verdict for check in failing}) > 1,
        failing=[_check(check) for check in failing[:MOST]],
        failing_more=max(0, len(failing) - MOST),
        passing_count=len(passing),
        passing=[_check(check) for check in passing[:MOST]],
        passing_more=max(0, len(passing) - MOST),
        ties=[
            (
                status(t),
                uses(t),
                tuple(map(one_line, t.torch)),
                tuple(map(one_line, t.keras)),
            )
            for t in shown_ties(result)
        ],
        stages=stage_rows(result) if shown_ties(result) else [],
        exports=export_table(result, operators=True),
        coverage=views.coverage(result),
        notes=[one_line(note) for note in result.notes],
        environment=rows(result.environment),
        timings=[(one_line(name), f"{seconds:.2f} s") for name, seconds in result.timings.items()],
    )


def _check(check: Check) -> CheckView:
    has_values = check.torch_value is not None or check.keras_value is not None
    return CheckView(
        verdict=check.verdict.value,
        phase=check.phase,
        precision=one_line(check.precision or ""),
        step=str(check.step or ""),
        name=one_line(check.name or check.torch or check.keras or ""),
        torch=_optional(check.torch),
        keras=_optional(check.keras),
        error=number(check.error),
        allowed=number(check.allowed),
        ratio=ratio(check),
        tolerance=number(check.required_tolerance),
        metric=one_line(check.metric or ""),
        element=NONE if check.worst_index is None else index(check.worst_index),
        values=two_values(check.torch_value, check.keras_value) if has_values else None,
        detail=one_line(check.detail),
    )


def _divergence(result: ResultData) -> DivergenceView | None:
    first, check = result.first_divergence, views.first_check(result)
    if first is None:
        return None
    return DivergenceView(
        place=views.place(first, result),
        name=one_line(first.name) if first.name not in (first.torch, first.keras) else "",
        torch=_optional(first.torch),
        keras=_optional(first.keras),
        error=number(first.local_error),
        allowed=number(first.allowed),
        agreed=one_line(first.agreed),
        check=None if check is None else _check(check),
    )


def _cause(cause: Cause) -> CauseView:
    return CauseView(
        id=one_line(cause.id),
        confirmed=cause.confirmed,
        phase=one_line(cause.phase),
        torch=_optional(cause.torch),
        keras=_optional(cause.keras),
        summary=one_line(cause.summary),
        evidence=rows(cause.evidence),
        fix=many_lines(cause.fix),
    )


def _phases(result: ResultData) -> tuple[list[PhaseView], float]:
    table = views.phase_rows(result)
    several = len({row.precision for row in table if row.precision}) > 1
    factors = [severity(row.worst) for row in table if row.worst]
    top = max([1, *(math.ceil(math.log10(factor)) for factor in factors if 1 < factor < math.inf)])
    phase_views = [
        PhaseView(
            label=one_line(views.phase_label(row, several)),
            verdict=views.NOT_RUN if row.verdict is None else row.verdict.value,
            count=row.count,
            worst=None if row.worst is None else _check(row.worst),
            exact=row.verdict is Verdict.EQUIVALENT and row.worst is not None and row.worst.error == 0,
            bar=None if row.worst is None else _bar(severity(row.worst), top),
            over=row.verdict is not Verdict.EQUIVALENT,
        )
        for row in table
    ]
    return phase_views, _bar(1.0, top)


def _bar(factor: float, top: int) -> float:
    """Percent of the range from `DECADES_BELOW` below the allowance to `top` above it; small errors stay visible."""
    if factor <= 0:
        return 0.0
    decades = max(0.1, min(math.log10(factor), top) + DECADES_BELOW)
    return round(100 * decades / (top + DECADES_BELOW), 1)


def _unbroken(text: str) -> Markup:
    """A sentence in which a browser does not break numbers such as 5.7e-05 at the minus sign."""
    return Markup(re.sub(r"\b\d[\d.]*e-\d+", r'<span class="num">\g<0></span>', str(escape(text))))


def _optional(path: str | None) -> str | None:
    return None if path is None else one_line(path)
