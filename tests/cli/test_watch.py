"""A pair is checked again when one of its files changes, and not before; each time by code of now."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xcheck.cli import main
from xcheck.cli import watch as module
from xcheck.cli.sweep import Task
from xcheck.cli.watch import checks, own_files

PAIR = """
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide
from .rate import RATE

def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))

PAIR = xcheck.Pair(
    "watched", NumpySide("torch"), NumpySide("keras", learning_rate=RATE), batches,
    weight_map={"linear.weight": "dense/kernel", "linear.bias": "dense/bias"},
)
"""

OPTIONS = {"steps": 1, "free_steps": 0, "precision": ["float64"]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pair.py").write_text(PAIR)
    (tmp_path / "rate.py").write_text("RATE = 0.1\n")
    return tmp_path


@pytest.mark.slow
def test_each_change_is_answered_by_a_check_of_the_new_code(folder, monkeypatch):
    reasons, edits, looks = [], ["RATE = 0.2\n", "RATE = 1 / 0\n", "RATE = 0.1\n"], []

    def edit(_: float) -> None:
        looks.append(None)
        if len(looks) % 2 == 0:  # nothing changes between the first two looks
            (folder / "rate.py").write_text(edits.pop(0))

    monkeypatch.setattr(module.time, "sleep", edit)
    outcomes = checks(Task("watched", f"{folder / 'pair.py'}:PAIR"), OPTIONS, (), reasons.append)
    first, second, third, fourth = (next(outcomes) for _ in range(4))
    outcomes.close()
    assert [outcome.verdict for outcome in (first, second, third, fourth)] == [
        "EQUIVALENT",
        "DIFFERENT",
        "ERROR",
        "EQUIVALENT",
    ]
    assert second.result is not None
    assert second.result.first_divergence is not None
    assert second.result.first_divergence.phase == "update"
    assert "division by zero" in third.error
    assert reasons == ["watched: checking", *3 * ["\nwatched: rate.py changed, checking"]]


def test_a_process_that_dies_ends_its_check_alone(folder, monkeypatch):
    (folder / "rate.py").write_text("import ctypes\nctypes.CDLL(None)._exit(7)\n")
    monkeypatch.setattr(module.time, "sleep", lambda _: (folder / "rate.py").write_text("RATE = 0.1\n"))
    outcomes = checks(Task("watched", f"{folder / 'pair.py'}:PAIR"), OPTIONS, (), lambda _: None)
    first, second = next(outcomes), next(outcomes)
    outcomes.close()
    assert first.verdict == "INCONCLUSIVE"
    assert "exit code 7" in first.result.failure
    assert second.verdict == "EQUIVALENT"


def test_the_files_of_the_user_are_watched_and_installed_ones_are_not():
    files = {Path(file).name for file in own_files()}
    assert Path(__file__).name in files
    assert not files & {"typing.py", "numpy.py", "watch.py", "check.py"}


@pytest.mark.slow
def test_the_command_checks_again_and_ends_by_ctrl_c(folder):
    command = [sys.executable, "-m", "xcheck", "run", str(folder / "pair.py"), "--watch", "--quiet", "--steps", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*command, "--out", str(folder / "out")],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("EQUIVALENT")
        (folder / "rate.py").write_text("RATE = 0.2\n")
        assert process.stdout.readline().startswith("DIFFERENT")
        for _ in range(100):
            if "DIFFERENT" in (folder / "out" / "result.json").read_text():
                break
            time.sleep(0.1)
        process.send_signal(2)
        assert process.wait(60) == 130
        assert "rate.py changed, checking" in process.stderr.read()


@pytest.mark.parametrize("option", [["--json", "-"], ["--format", "github"], ["--expect"]])
def test_what_needs_one_verdict_is_refused(folder, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "pair.py"), "--watch", *option])
    assert ended.value.code == 2
    assert "--watch goes with" in capsys.readouterr().err
