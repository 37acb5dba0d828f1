"""Results for GitHub: annotations of a pull request, and a summary of a job in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..records.result import Cause, ResultData, Verdict
from ..records.writing import write_whole
from . import views
from .words import one_line

MOST = 10
"""Annotations of one kind that GitHub shows for a step: https://docs.github.com/rest/checks/runs."""

SIGNS = {Verdict.EQUIVALENT: "✅", Verdict.NUMERIC: "⚠️", Verdict.INCONCLUSIVE: "❔", Verdict.DIFFERENT: "❌"}


def workflow_commands(results: Sequence[ResultData]) -> Iterator[str]:
    """Workflow commands: an error per confirmed cause, or per result that failed without one.

    A result that shows what its pair expects is a notice.

    Args:
        results: in this order.
    """
    for result in results:
        title = f"{result.pair}: {result.verdict.value}"
        if passed(result):
            if result.verdict is not Verdict.EQUIVALENT:
                yield _command("notice", views.headline(result), title=title)
            continue
        causes = [cause for cause in result.causes if cause.confirmed][:MOST]
        if not causes:
            yield _command("error", views.headline(result), title=title)
        for cause in causes:
            yield _command("error", _message(cause), title=title, **_place(cause))


def passed(result: ResultData) -> bool:
    """Whether a result is what its pair declares, by default EQUIVALENT or NUMERIC."""
    if result.failure is not None:
        return False
    if result.expectation is not None:
        return bool(result.expectation["held"])
    return result.verdict in (Verdict.EQUIVALENT, Verdict.NUMERIC)


def _message(cause: Cause) -> str:
    lines = [f"{cause.id}: {cause.summary}"]
    lines += [f"{edit['before']} -> {edit['after']}" for edit in cause.edits] or [cause.fix]
    return "\n".join(line for line in lines if line)


def _place(cause: Cause) -> dict[str, str]:
    """File and line, from the folder of the repository, in which a job runs."""
    places = [dict(edit) for edit in cause.edits] or [dict(place) for place in cause.code.values()]
    if not places:
        return {}
    path = Path(places[0]["file"])
    file = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return {"file": str(file), "line": str(places[0]["line"])}


def _command(kind: str, message: str, **properties: str) -> str:
    """`::error file=port.py,line=3::message`; what would end a property or the command is escaped."""
    listed = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
    return f"::{kind} {listed}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in f"%\r\n{more}" else c for c in text)


def markdown(results: Sequence[ResultData]) -> str:
    """A table of the results, then the causes of those that failed.

    Args:
        results: in this order.
    """
    lines = ["| | pair | verdict | |", "|---|---|---|---|"]
    for result in results:
        expected = views.expectation(result)
        said = views.headline(result).partition(": ")[2] + (f" (expected: {expected})" if expected else "")
        sign = SIGNS[Verdict.EQUIVALENT] if passed(result) else SIGNS[result.verdict]
        lines.append(f"| {sign} | {_cell(result.pair)} | {result.verdict.value} | {_cell(said)} |")
    for result in results:
        if passed(result):
            continue
        lines += ["", f"### {_cell(result.pair)}", ""]
        if result.failure is not None:
            lines.append(_cell(result.failure))
        for cause in result.causes:
            state = "confirmed" if cause.confirmed else "suspected"
            lines.append(f"- **{_cell(cause.id)}** ({state}): {_cell(cause.summary)}")
            lines += [f"  - {_cell(text)}" for text in _message(cause).splitlines()[1:]]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of any origin on one line, where nothing of it is markup."""
    return "".join(f"&#{ord(c)};" if c in "&<>|*_`[]#\\@!" else c for c in one_line(text))


def write_markdown(results: Sequence[ResultData], path: Path) -> Path:
    """Write the summary to a file; returns the path.

    Raises:
        OSError: the file cannot be written.
    """
    return write_whole(path, markdown(results))
