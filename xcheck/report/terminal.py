"""The report for a terminal: the answer on the first line, the evidence below it, no line too wide.

Parameter paths and user text reach the console as `Text`, never as markup, with control characters escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..records.result import Check, Divergence, ResultData, Tie, Verdict
from . import views
from .exports import Rows, export_table
from .ties import shown_ties, stage_rows, status, uses
from .words import cut, index, many_lines, number, one_line, ratio, rows, times, two_values

STYLES = {
    Verdict.DIFFERENT: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.NUMERIC: "bold magenta",
    Verdict.EQUIVALENT: "bold green",
}
SHOWN = 10
"""Failing checks in the short report."""
WIDE = 110
"""From this many columns on, tables name the path on both sides."""

MOST = 140
"""Columns beyond which a table is easier to read narrow than full."""


@dataclass(frozen=True, slots=True)
class Path:
    """A parameter path: it never wraps, and loses its middle in a narrow column."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As narrow as 12 columns, as wide as the whole path."""
        width = cell_len(self.text)
        return Measurement(min(width, 12), width).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The path in the available columns."""
        yield Text(cut(self.text, options.max_width), no_wrap=True)


def as_text(result: ResultData, *, verbose: bool = False, width: int = 80) -> str:
    """The report as plain text without escape codes.

    Args:
        result: to report.
        verbose: also list every failing check with its detail, the environment and the timings.
        width: maximum columns of a line.

    Returns:
        Lines without trailing blanks; the first one starts with the verdict.
    """
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    print_result(result, console, verbose=verbose)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def print_result(result: ResultData, console: Console, *, verbose: bool = False) -> None:
    """Print the report of `as_text` to a rich console, in its width and with its colours."""
    width = min(console.width, MOST)
    console.print(_answer(result, console.width))
    for title, body in _sections(result, width, verbose):
        console.print()
        console.print(Text(title, style="bold"), width=width)
        console.print(Padding(body, (0, 0, 0, 2)), width=width)
    covered = "; ".join(f"{what}: {counts}" for what, counts in views.coverage(result))
    closing = [("coverage", _prose(covered))] if covered else []
    closing += [("note", _prose(note)) for note in result.notes]
    expected = views.expectation(result)
    if expected is not None:
        closing.append(("expected", _prose(expected, "bold")))
    if closing:
        console.print()
        console.print(_fields(closing), width=width)


def _answer(result: ResultData, width: int) -> RenderableType:
    line = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    line.add_column(no_wrap=True)
    line.add_column(overflow="fold")
    headline = views.headline(result, path_width=max(12, (width - 16) * 2 // 3))
    line.add_row(Text(result.verdict.value, style=STYLES[result.verdict]), Text(headline, style="bold"))
    why = views.because(result)
    if why is not None:
        line.add_row(Text(), Text(why))
    return line


def _sections(result: ResultData, width: int, verbose: bool) -> Iterable[tuple[str, RenderableType]]:
    if result.failure is not None:
        yield "The run ended early", Text(many_lines(result.failure), overflow="fold")
    if result.first_divergence is not None:
        yield "First divergence", _divergence(result, result.first_divergence)
    if result.causes:
        yield "Causes", _causes(result)
    if result.accepted:
        yield "Accepted", _fields([(what, _prose(outcome)) for what, outcome in views.accepted(result)])
    phases = views.phase_rows(result)
    if phases:
        yield "Phases", _phases(phases, wide=width >= WIDE)
    failing = views.failing(result)
    if failing:
        shown = failing if verbose else views.once_each(failing)[:SHOWN]
        yield (
            views.failing_title(result),
            _failing(shown, len(failing) - len(shown), wide=width >= WIDE, verbose=verbose),
        )
    ties = shown_ties(result)
    if ties:
        shown = ties if verbose else ties[:SHOWN]
        stages = stage_rows(result)
        body = [_ties(shown), *([Text(f"+{len(ties) - len(shown)} more in result.json")] if shown != ties else [])]
        yield "Tie groups", Group(*body, *([Text(), _stages(stages)] if stages else []))
    files = export_table(result, operators=verbose)
    if files:
        yield "Exports", _exports(files)
    if verbose and result.environment:
        yield "Environment", _fields([(name, _prose(text)) for name, text in rows(result.environment)])
    if verbose and result.timings:
        seconds = [(one_line(name), Text(f"{value:.2f} s")) for name, value in result.timings.items()]
        yield "Timings", _fields(seconds)


def _divergence(result: ResultData, first: Divergence) -> RenderableType:
    check = views.first_check(result)
    lines: list[tuple[str, RenderableType]] = [("where", Text(views.place(first, result)))]
    if first.name and first.name not in (first.torch, first.keras):
        lines.append(("quantity", Path(one_line(first.name))))
    lines += [("torch", _path(first.torch)), ("keras", _path(first.keras))]
    if first.local_error is not None:
        factor = f", that is {times(first.local_error / first.allowed)}" if first.allowed else ""
        metric = f" (worst {check.metric})" if check and check.metric in ("element", "row") else ""
        error = f"{number(first.local_error)} against {number(first.allowed)} allowed{factor}{metric}"
        lines.append(("error", Text(error, style="bold")))
    if check is not None:
        lines += _evidence(check)
    if first.agreed:
        lines.append(("agreed", _prose(first.agreed)))
    return _fields(lines)


def _evidence(check: Check) -> list[tuple[str, RenderableType]]:
    lines: list[tuple[str, RenderableType]] = []
    if check.required_tolerance is not None:
        lines.append(("tolerance", Text(f"would pass at {number(check.required_tolerance)}")))
    if check.worst_index:  # a scalar has none
        lines.append(("element", Text(index(check.worst_index))))
    if check.torch_value is not None or check.keras_value is not None:
        torch, keras = two_values(check.torch_value, check.keras_value)
        lines.append(("values", Text(f"torch {torch}, keras {keras}")))
    if check.detail:
        lines.append(("detail", _prose(check.detail)))
    return lines


def _causes(result: ResultData) -> RenderableType:
    blocks: list[RenderableType] = []
    for number_, cause in enumerate(result.causes):
        status = Text("confirmed", "bold red") if cause.confirmed else Text("suspected", "yellow")
        lines: list[tuple[str, RenderableType]] = [
            ("cause", Text.assemble(one_line(cause.id), ", ", status)),
            ("", _prose(cause.summary)),
        ]
        if cause.torch or cause.keras:
            lines += [("torch", _path(cause.torch)), ("keras", _path(cause.keras))]
        if cause.evidence:
            lines.append(("evidence", _prose(", ".join(f"{k} = {v}" for k, v in rows(cause.evidence)))))
        if cause.fix:
            lines.append(("fix", Text(many_lines(cause.fix), style="bold", overflow="fold")))
        blocks += [Text()] if number_ else []
        blocks.append(_fields(lines))
    return Group(*blocks)


def _phases(phases: list[views.PhaseRow], *, wide: bool) -> RenderableType:
    several = len({row.precision for row in phases if row.precision}) > 1
    table = _table("phase", "verdict")
    table.add_column("checks", justify="right", no_wrap=True)
    table.add_column("worst item", ratio=1)
    _numeric_columns(table, *(["ratio"] if wide else []))
    for row in phases:
        name = Text(views.phase_label(row, several))
        if row.verdict is None:
            table.add_row(name, Text(views.NOT_RUN, "bold yellow"), Text("0"))
            continue
        cells: list[RenderableType] = [Text(row.verdict.value, STYLES[row.verdict]), Text(str(row.count))]
        if row.worst:
            exact = row.worst.error == 0 and row.verdict is Verdict.EQUIVALENT
            cells += [Text("(exact)", "dim") if exact else Path(_name(row.worst)), *_three(row.worst)]
        table.add_row(name, *cells[: len(table.columns) - 1])
    return table


def _failing(shown: list[Check], more: int, *, wide: bool, verbose: bool) -> RenderableType:
    several = len({check.verdict for check in shown}) > 1
    several_precisions = len({check.precision for check in shown if check.precision}) > 1
    measured = any(check.error is not None for check in shown)
    table = _table(*(["verdict"] if several else []), "phase")
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("item", ratio=1)
    if wide:
        table.add_column("keras", ratio=1)
    if measured:
        _numeric_columns(table, "ratio")
    for check in shown:
        cells: list[RenderableType] = [Text(check.verdict.value, STYLES[check.verdict])] if several else []
        cells += [Text(views.phase_label(check, several_precisions)), Text(str(check.step or ""))]
        item: RenderableType = Path(_name(check))
        if check.detail and (verbose or check.error is None):
            item = Group(item, Text(one_line(check.detail), style="dim", overflow="fold"))
        cells += [item, *([_path(check.keras)] if wide else []), *(_three(check) if measured else ())]
        table.add_row(*cells)
    return Group(table, Text(f"+{more} more in result.json")) if more else table


def _ties(ties: list[Tie]) -> RenderableType:
    table = _table("status")
    table.columns[0].max_width = 18
    table.add_column("torch", ratio=1)
    table.add_column("keras", ratio=1)
    table.add_column("uses", justify="right", no_wrap=True)
    for tie in ties:
        style = {"same": "green", "duplicated": "yellow"}.get(tie.status, "bold red")
        sides = [Group(*(_path(path) for path in side or (None,))) for side in (tie.torch, tie.keras)]
        table.add_row(Text(status(tie), style), *sides, Text(uses(tie)))
    return table


def _stages(rows: list[tuple[str, str, str]]) -> RenderableType:
    table = _table("stage")
    table.add_column("torch", ratio=1, overflow="fold")
    table.add_column("keras", ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _exports(rows: Rows) -> RenderableType:
    table = _table("")
    for header in rows[0][1:]:
        table.add_column(header, ratio=1, overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _table(*headers: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        expand=True,
    )
    for header in headers:
        table.add_column(header, no_wrap=True)
    return table


def _numeric_columns(table: Table, *more: str) -> None:
    for header in ("error", "allowed", *more):
        table.add_column(header, justify="right", no_wrap=True)


def _three(check: Check) -> tuple[Text, Text, Text]:
    return Text(number(check.error)), Text(number(check.allowed)), Text(ratio(check))


def _name(check: Check) -> str:
    return one_line(check.name or check.torch or check.keras or "")


def _path(path: str | None) -> RenderableType:
    return Text("(none)", style="dim") if path is None else Path(one_line(path))


def _prose(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style, overflow="fold")


def _fields(lines: list[tuple[str, Text]] | list[tuple[str, RenderableType]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="dim", min_width=9)
    grid.add_column(overflow="fold")
    for label, value in lines:
        grid.add_row(Text(label), value)
    return grid
