"""The bench of the exports: every row is measured, and it exits with 1 where a file is not retied."""

from __future__ import annotations

import importlib
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bench() -> Any:
    return importlib.import_module("bench_export")


def test_the_default_is_twenty_million_parameters(bench: Any) -> None:
    sizes = bench.settings(20.0)
    assert abs(sizes["vocabulary"] * sizes["width"] + 8 * sizes["width"] ** 2 - 20e6) < sizes["width"]


@pytest.mark.slow
def test_every_file_is_exported_checked_and_retied(bench: Any, monkeypatch: Any, capsys: Any) -> None:
    alone, commands = subprocess.run, []

    def here(command: list[str], **more: Any) -> Any:
        """The first in a process of its own, which is proof enough that this works; it takes longer than the work."""
        if "--child" not in command:
            return alone(command, **more)
        commands.append(command)
        if len(commands) == 1:
            return alone(command, **more)
        with redirect_stdout(StringIO()) as printed:
            code = bench.main(command[2:])
        return subprocess.CompletedProcess(command, code, printed.getvalue(), "")

    monkeypatch.setattr(subprocess, "run", here)
    assert bench.main(["--parameters", "0.05"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "EQUIVALENT" in told
    for row in ("export, torch.onnx.export", "export, Model.export", "retie, tf2onnx"):
        assert row in told
    assert told.count("outputs bit-equal: True") == 3


def test_a_row_that_does_not_hold_is_exit_code_1(bench: Any, monkeypatch: Any, capsys: Any) -> None:
    row = {"seconds": 1.0, "peak": 2.0, "before": 1.0, "told": "DIFFERENT"}
    monkeypatch.setattr(bench, "rows", lambda *_: [("check", {**row, "held": False})])
    assert bench.main(["--parameters", "0.05"]) == 1
    monkeypatch.setattr(bench, "rows", lambda *_: [("check", row)])
    assert bench.main(["--parameters", "0.05"]) == 0
    assert "DIFFERENT" in capsys.readouterr().out
