"""The command line: exit codes, files, the first line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from commands import run

import xcheck
from xcheck.cli import exit_code, main
from xcheck.phases import AVAILABLE
from xcheck.records.result import Verdict
from xcheck.report.result import Result

SCHEMA = json.loads((Path(xcheck.__file__).parent / "records" / "result.schema.json").read_text())


def test_an_equivalent_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "shared_dilated_conv", "--steps", "2", "--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.startswith("EQUIVALENT  shared_dilated_conv")
    data = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert data["verdict"] == "EQUIVALENT"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_a_different_pair_and_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = Path("models/shared_submodel_regularizer").resolve()
    monkeypatch.chdir(tmp_path)
    assert run("run", f"{pair}/pair.py:COUNTED_PER_USE", "--steps", "1", "--quiet") == 1
    assert capsys.readouterr().out.count("\n") == 1
    assert len(list(tmp_path.glob("xcheck-results/shared_submodel_regularizer_*counted*/result.json"))) == 1


def test_settings_make_the_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "shared_dilated_conv", "--steps", "1", "--out", str(tmp_path), "--set", "image_size=12"]
    arguments += ["--phases", "inventory,forward"]
    assert run(*arguments) == 0
    capsys.readouterr()
    assert run(*arguments, "--set", "colour=red") == 2
    assert "unexpected keyword argument 'colour'" in capsys.readouterr().err


def test_a_subset_of_phases_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("run", "shared_dilated_conv", "--steps", "1", "--phases", "inventory,forward", "--out", str(tmp_path)) == 0
    )
    assert "only these phases were requested: inventory, forward" in capsys.readouterr().out
    phases = {c["phase"] for c in json.loads((tmp_path / "result.json").read_text())["checks"]}
    assert phases == {"inventory", "forward"}


def test_with_json_on_stdout_there_is_one_object_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--steps", "1", "--phases", "inventory,forward", "--out", str(tmp_path), "--json", "-")
    assert run("run", "shared_dilated_conv", *few) == 0
    data = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, SCHEMA)
    assert data == json.loads((tmp_path / "result.json").read_text())
    assert data["verdict"] == "EQUIVALENT"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("PAIR = 1", "PAIR"),
        ("import xcheck\nPAIR = xcheck.Pair('p', 1, 2, lambda seed: [])", "TorchSide"),
    ],
)
def test_a_mistake_is_an_object_on_stdout_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "pair.py").write_text(text)
    assert run("run", str(tmp_path / "pair.py"), "--json", "-", "--out", str(tmp_path)) == 2
    data = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, SCHEMA)
    assert (data["verdict"], said in data["failure"]) == ("INCONCLUSIVE", True)


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main_returns_or_exits("schema")
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_list_names_the_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    main_returns_or_exits("list")
    out = capsys.readouterr().out
    assert "shared_dilated_conv" in out
    assert "shared_submodel_regularizer" in out


def test_new_writes_a_pair_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main_returns_or_exits("new", "my_port")
    assert run("run", "my_port.py", "--steps", "2") == 0
    assert "EQUIVALENT  my_port" in capsys.readouterr().out
    assert run("new", "my_port") == 2  # never overwrites
    assert run("new", "not a name") == 2


def test_record_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.safetensors"
    main_returns_or_exits("record", "shared_dilated_conv", "--steps", "2", "--out", str(trace))
    capsys.readouterr()
    assert run("verify", "shared_dilated_conv", "--against", str(trace), "--out", str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("EQUIVALENT  shared_dilated_conv")
    assert run("verify", "shared_submodel_regularizer", "--against", str(trace), "--out", str(tmp_path)) == 2
    assert "This trace was recorded from a different pair or side." in capsys.readouterr().err
    trace.write_bytes(trace.read_bytes()[:-100])
    assert run("verify", "shared_dilated_conv", "--against", str(trace), "--out", str(tmp_path)) == 2
    assert "This trace cannot be read." in capsys.readouterr().err


@pytest.mark.slow
def test_verify_needs_the_other_framework_alone(tmp_path: Path) -> None:
    trace = tmp_path / "trace.safetensors"
    main_returns_or_exits("record", "shared_dilated_conv", "--steps", "1", "--out", str(trace))
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from xcheck.cli import main\n"
        f"main(['verify', 'shared_dilated_conv', '--against', {str(trace)!r}, '--out', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EQUIVALENT")


@pytest.mark.slow
def test_a_pair_outside_the_repository_in_a_fresh_process(tmp_path: Path) -> None:
    """The whole command as a user runs it: nothing but the report on the terminal."""
    subprocess.run([sys.executable, "-m", "xcheck", "new", "outside"], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "xcheck", "run", str(tmp_path / "outside.py"), "--steps", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EQUIVALENT  outside")
    assert done.stderr == ""


def test_report_renders_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("run", "shared_dilated_conv", "--steps", "1", "--phases", "inventory,forward", "--out", str(tmp_path))
    result = str(tmp_path / "result.json")
    main_returns_or_exits("report", result, "--html", str(tmp_path / "all.html"), "--junit", str(tmp_path / "j.xml"))
    assert "shared_dilated_conv" in (tmp_path / "all.html").read_text()
    assert "<testsuite" in (tmp_path / "j.xml").read_text()
    capsys.readouterr()
    main_returns_or_exits("report", result)
    assert capsys.readouterr().out.startswith("EQUIVALENT")
    assert run("report", str(tmp_path / "missing.json")) == 2


def main_returns_or_exits(*arguments: str) -> None:
    assert run(*arguments) == 0


@pytest.mark.parametrize(
    ("verdict", "strict", "code"),
    [
        ("EQUIVALENT", False, 0),
        ("NUMERIC", False, 0),
        ("NUMERIC", True, 1),
        ("DIFFERENT", False, 1),
        ("INCONCLUSIVE", False, 3),
        ("INCONCLUSIVE", True, 3),
    ],
)
def test_exit_codes(verdict: str, strict: bool, code: int) -> None:
    assert exit_code(Result("p", Verdict(verdict), 0, 1), strict=strict) == code


def test_the_expectation_decides_only_when_asked_to() -> None:
    held = Result(
        "p", Verdict.DIFFERENT, 0, 1, expected="DIFFERENT", expectation={"verdict": "DIFFERENT", "held": True}
    )
    assert (exit_code(held), exit_code(held, expect=True)) == (1, 0)
    failed = replace(held, verdict=Verdict.EQUIVALENT, expectation={"verdict": "DIFFERENT", "held": False})
    assert (exit_code(failed), exit_code(failed, expect=True)) == (0, 1)


@pytest.mark.parametrize(("error", "said"), [(MemoryError(), "enough memory"), (KeyError("x"), "a bug in xcheck")])
def test_what_is_no_mistake_of_the_user_is_no_verdict_either(monkeypatch, capsys, error, said):
    def failing(arguments, **_):
        raise error

    monkeypatch.setattr("xcheck.cli.commands.app", failing)
    with pytest.raises(SystemExit) as caught:
        main(["list"])
    assert caught.value.code == 3
    assert said in capsys.readouterr().err


def test_the_phases_are_listed_in_order_with_their_questions(capsys):
    assert run("list", "--phases") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")] == list(AVAILABLE)
