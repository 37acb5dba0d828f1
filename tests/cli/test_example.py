"""The examples inside the package: listed, copied once, and each shows what it is made to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run

from xcheck.pairs.scaffold import copy_example, examples


def test_the_examples_are_listed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XCHECK_MODELS", str(tmp_path))
    assert run("list") == 0
    out = capsys.readouterr().out
    assert list(examples()) == ["dense", "wrong_epsilon", "wrong_rate"]
    assert all(name in out and summary.split()[0] in out for name, summary in examples().items())


def test_there_is_no_other_example(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("example", "nothing") == 2
    assert "wrong_epsilon" in capsys.readouterr().err
    Path("xcheck-examples").write_text("a file in the place of the folder")
    assert run("example", "dense") == 2
    assert "cannot be copied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "verdict", "edit"),
    [
        ("dense", "EQUIVALENT", None),
        ("wrong_epsilon", "DIFFERENT", 'keras.layers.LayerNormalization(name="norm", epsilon=1e-05)'),
        ("wrong_rate", "DIFFERENT", "keras.optimizers.SGD(learning_rate=0.05)"),
    ],
)
@pytest.mark.slow
def test_each_example_shows_what_it_is_made_to_show(name, verdict, edit, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("example", name, "--quiet", "--out", "out") == 0
    result = json.loads(Path("out/result.json").read_text())
    assert result["verdict"] == verdict
    edits = [e for cause in result["causes"] for e in cause["edits"]]
    assert [(e["file"], e["after"]) for e in edits] == (
        [] if edit is None else [(str(tmp_path / "xcheck-examples" / f"{name}.py"), edit)]
    )
    copied = tmp_path / "xcheck-examples" / f"{name}.py"
    copied.write_text(copied.read_text() + "\n# edited by its user\n")
    copy_example(name, tmp_path / "xcheck-examples")
    assert "# edited" in copied.read_text()
