"""The report as JUnit XML, for a CI that reads test results.

One test suite per result, one test case per phase and precision. DIFFERENT is a failure. INCONCLUSIVE is an
error and never a skip, since a CI shows skips as green. NUMERIC passes, as it does on the command line. A result that
shows what its pair declares passes with all of its cases; one that does not has a failure of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from ..records.result import Check, ResultData, Verdict
from ..records.writing import write_whole
from . import views
from .github import passed
from .terminal import as_text
from .words import number, one_line, ratio

SHOWN = 20
"""Failing checks in the text of one test case."""
_TAGS = {Verdict.DIFFERENT: "failure", Verdict.INCONCLUSIVE: "error"}
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 forbids even as a reference: https://www.w3.org/TR/xml/#charsets."""


def write_junit(results: Sequence[ResultData], path: Path) -> Path:
    """Write results as JUnit XML.

    Args:
        results: one test suite each, in this order.
        path: the file; its folder is created, an old file is replaced.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.
    """
    root = ET.Element("testsuites", name="xcheck")
    for result in results:
        root.append(_suite(result))
    _count(root)
    ET.indent(root)
    return write_whole(path, ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _suite(result: ResultData) -> ET.Element:
    suite = ET.Element("testsuite", name=_legal(result.pair))
    table = {"verdict": result.verdict.value, "seed": str(result.seed), "steps": str(result.steps)}
    expected = views.expectation(result)
    if expected is not None:
        table["expected"] = expected
    properties = ET.SubElement(suite, "properties")
    if result.accepted:
        table["accepted"] = "; ".join(f"{what}: {outcome}" for what, outcome in views.accepted(result))
    for name, value in table.items():
        ET.SubElement(properties, "property", name=name, value=_legal(value))
    rows = views.phase_rows(result)
    for row in rows:
        _phase(suite, result, row)
    if apart := views.apart_from(result):
        case = _case(suite, result, "accepted")
        ET.SubElement(case, "system-out").text = _legal(f"{apart}\n{table['accepted']}")
    if result.expectation is not None and result.failure is None:
        _expected(suite, result)
    verdicts = [row.verdict or Verdict.INCONCLUSIVE for row in rows]
    explained = bool(rows) and Verdict.worst(verdicts) is Verdict.worst([*verdicts, result.verdict])
    if result.failure is not None or not explained:
        _run(suite, result)
    if result.expectation is not None and passed(result):
        _pass(suite)
    _count(suite)
    suite.set("time", f"{result.timings.get('total', sum(result.timings.values())):.3f}")
    return suite


def _expected(suite: ET.Element, result: ResultData) -> None:
    """A case for the declared outcome of a negative control."""
    case = _case(suite, result, "expectation")
    if not passed(result):
        message = f"expected {views.expectation(result)}"
        ET.SubElement(case, "failure", type=result.verdict.value, message=_legal(one_line(message)))


def _pass(suite: ET.Element) -> None:
    """Turn expected failures into output of passing cases."""
    for case in suite.iter("testcase"):
        for problem in [*case.findall("failure"), *case.findall("error")]:
            case.remove(problem)
            shown = f"as expected: {problem.get('message')}\n{problem.text or ''}"
            ET.SubElement(case, "system-out").text = shown


def _phase(suite: ET.Element, result: ResultData, row: views.PhaseRow) -> None:
    case = _case(suite, result, views.phase_label(row, several=True))
    if row.verdict is None:
        _bad(case, Verdict.INCONCLUSIVE, "the pair expects something of this phase, but it did not run", "")
        return
    checks = [c for c in result.checks if (c.phase, c.precision) == (row.phase, row.precision)]
    checks = [c for c in views.worst_first(checks) if c.verdict is not Verdict.EQUIVALENT]
    lines = [_line(check) for check in checks[:SHOWN]]
    if len(checks) > SHOWN:
        lines.append(f"+{len(checks) - SHOWN} more in result.json")
    if row.verdict in _TAGS:
        more = f" (and {len(checks) - 1} more)" if len(checks) > 1 else ""
        _bad(case, row.verdict, lines[0] + more, "\n".join(lines))
    elif lines:
        ET.SubElement(case, "system-out").text = _legal("\n".join(lines))


def _run(suite: ET.Element, result: ResultData) -> None:
    """A case for problems outside of any phase: no check, an early end, or a verdict worse than that of the checks."""
    verdict = result.verdict if result.verdict in _TAGS else Verdict.INCONCLUSIVE
    _bad(_case(suite, result, "run"), verdict, views.headline(result), as_text(result, width=120))


def _case(suite: ET.Element, result: ResultData, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_legal(f"xcheck.{result.pair}"), name=_legal(name))


def _bad(case: ET.Element, verdict: Verdict, message: str, text: str) -> None:
    problem = ET.SubElement(case, _TAGS[verdict], type=verdict.value, message=_legal(one_line(message)))
    problem.text = _legal(text)


def _line(check: Check) -> str:
    """`DIFFERENT conv.weight (keras conv/kernel) at step 1: 5.7e-05 against 3.1e-13 allowed, 1.8e+08x`."""
    item = one_line(check.name or check.torch or check.keras or "?")
    item += f" (keras {one_line(check.keras)})" if check.keras and check.keras != check.name else ""
    step = f" at step {check.step}" if check.step else ""
    text = one_line(check.detail)
    if check.error is not None:
        factor = ratio(check)
        numbers = f"{number(check.error)} against {number(check.allowed)} allowed"
        numbers += "" if factor == "-" else f", {factor}"
        text = f"{numbers}; {text}" if text else numbers
    return f"{check.verdict.value} {item}{step}: {text or 'no numbers'}"


def _count(element: ET.Element) -> None:
    element.set("tests", str(len(list(element.iter("testcase")))))
    element.set("failures", str(len(list(element.iter("failure")))))
    element.set("errors", str(len(list(element.iter("error")))))
    element.set("skipped", "0")


def _legal(text: str) -> str:
    """The text with U+FFFD for every character that XML forbids."""
    return _ILLEGAL.sub("\ufffd", text)
