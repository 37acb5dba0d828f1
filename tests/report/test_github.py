"""Annotations and the summary: what fails is an error at its line, and no text of a pair is a command."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from commands import run
from results import ALL, crashed, different, equivalent, hostile, inconclusive, numeric

from xcheck.records.result import Cause, Verdict
from xcheck.report.github import markdown, passed, workflow_commands
from xcheck.report.junit import write_junit
from xcheck.report.result import Result

EDIT = {"side": "keras", "file": "", "line": 7, "before": "SGD(0.2)", "after": "SGD(0.1)", "constructs": 1}


def alone() -> Result:
    """A difference that its pair does not expect."""
    return replace(different(), expected=None, expectation=None)


def cause(**fields) -> Cause:
    return Cause(
        **{"id": "rate", "phase": "update", "torch": "a", "keras": "b", "summary": "x", "confirmed": True, **fields}
    )


def test_a_cause_is_an_error_at_the_line_of_its_edit(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    edit = {**EDIT, "file": str(tmp_path / "src" / "port.py")}
    result = replace(alone(), causes=(cause(edits=(edit,)), cause(id="other", confirmed=False)))
    (line,) = workflow_commands([result])
    assert line.startswith("::error title=")
    assert "file=src/port.py,line=7::rate: x%0ASGD(0.2) -> SGD(0.1)" in line


def test_without_an_edit_the_line_is_that_of_the_code(tmp_path) -> None:
    place = {"keras": {"file": "/elsewhere/port.py", "line": 3}}
    (line,) = workflow_commands([replace(alone(), causes=(cause(code=place, fix="the fix"),))])
    assert "file=/elsewhere/port.py,line=3::rate: x%0Athe fix" in line


@pytest.mark.parametrize("make", [different, inconclusive, crashed])
def test_a_failure_without_a_cause_is_an_error_too(make) -> None:
    lines = list(workflow_commands([replace(make(), causes=(), expectation=None, expected=None)]))
    assert [line.partition(" ")[0] for line in lines] == ["::error"]


@pytest.mark.parametrize("make", [equivalent, numeric])
def test_what_passes_is_no_error(make) -> None:
    result = replace(make(), expectation=None, expected=None)
    assert passed(result)
    assert not any(line.startswith("::error") for line in workflow_commands([result]))


@pytest.mark.parametrize("make", [*ALL, hostile])
def test_no_text_is_a_command_or_markup(make) -> None:
    text = "::error::\r\n::set-output name=x::y <script>| [a](b) **c**"
    result = replace(make(), pair=text, causes=(cause(summary=text, fix=text),))
    for line in workflow_commands([result]):
        assert "\n" not in line
        assert "\r" not in line
        title = re.match(r"::\w+ title=([^:,]*)", line)
        assert title is not None
    assert not re.search(r"<script|\]\(|\*\*c", markdown([result]))
    table = markdown([result]).split("\n\n")[0].splitlines()
    assert {line.count("|") for line in table} == {5}


EXPECTED = {"verdict": "DIFFERENT", "phase": "update", "cause": None, "held": True, "why": ""}


@pytest.mark.parametrize(("held", "failures"), [(True, 0), (False, 1)])
def test_an_expected_difference_passes_in_junit(held, failures, tmp_path) -> None:
    result = replace(
        different(), expected="DIFFERENT", expectation={**EXPECTED, "held": held, "why": "" if held else "no"}
    )
    text = write_junit([result], tmp_path / "j.xml").read_text()
    assert (text.count("<failure") + text.count("<error") == 0) == held
    assert ('failures="0"' in text) == held
    assert "as expected" in text or failures


def test_an_expectation_that_fails_fails_where_all_is_equal(tmp_path) -> None:
    result = replace(equivalent(), expected="DIFFERENT", expectation={**EXPECTED, "held": False, "why": "it is not"})
    text = write_junit([result], tmp_path / "j.xml").read_text()
    assert 'failures="1"' in text
    assert "it is not" in text


def test_a_run_adds_to_the_summary_of_its_job(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("xcheck.cli.commands.check", lambda *_, **__: alone())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    pair = Path(__file__).parents[1] / "cli" / "test_agents.py"
    head = pair.read_text().partition('HEAD = """')[2].partition('"""')[0]
    (tmp_path / "pair.py").write_text(f"{head}\nPAIR = make()\n")
    assert run("run", str(tmp_path / "pair.py"), "--out", str(tmp_path), "--format", "github", "--json", "-") == 1
    out, err = capsys.readouterr()
    assert out.startswith("{")
    assert "::error" in err
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("before\n")
    assert Verdict.DIFFERENT.value in text
    assert run("run", str(tmp_path / "pair.py"), "--format", "gitlab") == 2


def test_results_on_disk_are_rendered(tmp_path, capsys) -> None:
    path = alone().to_json(tmp_path / "result.json")
    assert run("report", str(path), "--github", "--markdown", str(tmp_path / "s.md")) == 0
    assert "::error" in capsys.readouterr().out
    assert "DIFFERENT" in (tmp_path / "s.md").read_text()
