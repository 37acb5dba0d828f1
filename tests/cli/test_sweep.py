"""Many checks: what is run, what becomes of each, and that none takes another's result with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from xcheck.cli import main
from xcheck.cli import sweep as module
from xcheck.cli.sweep import Task, TaskOutcome, complaints, plan, summary, sweep
from xcheck.errors import PairError, SetupError
from xcheck.report.result import Result

HEAD = """
import ctypes, os, signal, sys, time
from pathlib import Path
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide

def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))

def make(name, keras=None, **options):
    weight_map = {"linear.weight": "dense/kernel", "linear.bias": "dense/bias"}
    return xcheck.Pair(**{
        "name": name, "torch": NumpySide("torch"), "keras": NumpySide("keras", **(keras or {})), "batches": batches,
        "weight_map": weight_map, **options,
    })

def broken(seed):
    raise ValueError("planted in the batches")

def deadly(seed):
    os.kill(os.getpid(), signal.SIGKILL)

def leaving(seed):
    os._exit(0)

def gone(seed):
    ctypes.CDLL(None)._exit(0)  # as a library may, whatever Python's os._exit is

def talking(seed):
    os.write(1, b"not an answer")
    print("nor this", input() if not sys.stdin.read() else "")
    return batches(seed)

def slow(seed):
    Path(os.environ["STARTED"] + str(os.getpid())).touch()
    time.sleep(60)
"""
FILES = {
    "good": 'PAIR = make("good")\nSLOWER = make("slower", {"learning_rate": 0.05}, expect="DIFFERENT")\n',
    "settled": "def pair(lr=0.1):\n    return make('settled', {'learning_rate': lr})\nPAIR = pair()\n",
    "broken": 'PAIR = make("broken", batches=broken)\n',
    "wrong": 'PAIR = make("wrong", {"learning_rate": 0.05})\n',
    "unheld": 'PAIR = make("unheld", expect="DIFFERENT")\n',
    "unimportable": "PAIR = 1 / 0\n",
    "leaving": 'PAIR = make("leaving", batches=leaving)\n',
    "gone": 'PAIR = make("gone", batches=gone)\n',
    "talking": 'PAIR = make("talking", batches=talking)\n',
    "slow": 'PAIR = make("slow", batches=slow)\n',
    "deadly": 'PAIR = make("deadly", batches=deadly)\n',
}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes some of the pair files, and the folder they are in."""
    folder = tmp_path / "models"
    monkeypatch.setenv("XCHECK_MODELS", str(folder))

    def write(*names: str) -> Path:
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "pair.py").write_text(HEAD + FILES[name])
        return folder

    return write


OPTIONS = {"steps": 2, "free_steps": 0, "precision": ["float64"]}


def labels(tasks: list[Task]) -> list[str]:
    return [task.label for task in tasks]


def run(tasks: list[Task], out: Path, jobs: int = 0, **more: Any) -> dict[str, TaskOutcome]:
    found = sweep(tasks, out, jobs=jobs, options=OPTIONS, **more)
    return {outcome.task.label: outcome for outcome in found}


def cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["sweep", *arguments, "--steps", "2", "--free-steps", "0", "--jobs", "0"])
    return int(caught.value.code or 0)


def test_every_pair_under_models_comes_once(models) -> None:
    models("good", "wrong")
    assert labels(plan(["good"], every=True)) == ["good", "wrong"]
    assert labels(plan([], every=True, variants=True)) == ["good", "good:SLOWER", "wrong"]
    assert labels(plan(["good:SLOWER"], variants=True)) == ["good:SLOWER"]


def test_seeds_and_settings_make_a_grid(models) -> None:
    models("settled")
    tasks = plan(["settled"], seeds=[0, 1], settings={"lr": [0.1, 0.05]})
    assert labels(tasks) == ["settled lr=0.1", "settled lr=0.05", "settled seed=1 lr=0.1", "settled seed=1 lr=0.05"]
    assert len({task.folder for task in tasks}) == 4


def test_a_task_is_found_from_any_folder(models, monkeypatch, tmp_path) -> None:
    folder = models("good")
    monkeypatch.chdir(folder.parent)
    (task,) = plan(["models/good/pair.py:SLOWER"])
    monkeypatch.chdir("/")
    assert task.spec == f"{folder.resolve()}/good/pair.py:SLOWER"
    assert not {"/", ":", " "} & set(task.folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"names": []}, "needs pairs"),
        ({"names": ["god"]}, "did you mean good"),
        ({"names": ["good"], "variants": True, "settings": {"x": [1]}}, "cannot be combined"),
    ],
)
def test_what_cannot_be_planned_is_said_before_anything_runs(models, arguments, said) -> None:
    models("good")
    with pytest.raises(PairError) as caught:
        plan(**arguments)
    assert said in str(caught.value)


def test_each_check_has_its_outcome_and_its_file(models, tmp_path) -> None:
    models("good", "wrong", "unheld")
    found = run(plan([], every=True, variants=True), tmp_path / "out")
    shown = {label: (outcome.verdict, outcome.held, outcome.worst.split()[0]) for label, outcome in found.items()}
    assert shown["good"][:2] == ("EQUIVALENT", True)
    assert shown["good:SLOWER"] == ("DIFFERENT", True, "update")
    assert shown["wrong"] == ("DIFFERENT", False, "update")
    assert shown["unheld"][:2] == ("EQUIVALENT", False)
    for outcome in found.values():
        assert Result.from_json(tmp_path / "out" / outcome.task.folder / "result.json").verdict == outcome.verdict
        assert outcome.seconds > 0
    assert summary(list(found.values())) == "4 checks: 2 DIFFERENT, 2 EQUIVALENT; 2 NOT as expected"
    assert complaints(list(found.values())) == ["unheld: expected DIFFERENT, got EQUIVALENT"]


def test_a_pair_that_fails_takes_no_other_with_it(models, tmp_path) -> None:
    models("broken", "good", "unimportable")
    found = run(plan([], every=True, variants=True), tmp_path / "out")
    assert {label: outcome.verdict for label, outcome in found.items()} == {
        "broken": "ERROR",
        "good": "EQUIVALENT",
        "good:SLOWER": "DIFFERENT",
        "unimportable": "ERROR",
    }
    assert "planted in the batches" in found["broken"].error
    assert "ZeroDivisionError" in found["unimportable"].error
    assert not found["broken"].held


def test_a_bug_of_ours_takes_no_other_with_it(models, tmp_path, monkeypatch) -> None:
    models("good", "wrong")
    real = module.check

    def buggy(pair: Any, **options: Any) -> Result:
        if pair.name == "good":
            raise RuntimeError("planted")
        return real(pair, **options)

    monkeypatch.setattr(module, "check", buggy)
    found = run(plan([], every=True), tmp_path / "out")
    assert (found["good"].verdict, found["wrong"].verdict) == ("ERROR", "DIFFERENT")
    assert "bug in xcheck" in found["good"].error
    assert "RuntimeError: planted" in found["good"].error


def test_a_process_that_dies_takes_no_other_check_with_it(models, tmp_path) -> None:
    models("deadly", "good", "wrong")
    found = run(plan(["deadly", "good", "wrong"]), tmp_path / "out", jobs=2)
    assert len(found) == 3
    assert found["deadly"].verdict == "INCONCLUSIVE"
    assert "SIGKILL" in complaints([found["deadly"]])[0]
    written = Result.from_json(tmp_path / "out" / "deadly" / "result.json")
    assert (written.verdict, "out of memory" in (written.failure or "")) == ("INCONCLUSIVE", True)
    assert (found["good"].verdict, found["wrong"].verdict) == ("EQUIVALENT", "DIFFERENT")


def test_processes_find_what_one_process_finds(models, tmp_path) -> None:
    models("good", "wrong")
    tasks = plan([], every=True, seeds=[0, 1])
    one, two = run(tasks, tmp_path / "one"), run(tasks, tmp_path / "two", jobs=2)
    assert one.keys() == two.keys()
    for label, outcome in one.items():
        mine, theirs = outcome.result, two[label].result
        assert mine is not None
        assert theirs is not None
        assert mine.checks == theirs.checks


@pytest.mark.parametrize(
    ("names", "plain", "expect"),
    [
        (["good"], 0, 0),
        (["good", "good:SLOWER"], 1, 0),
        (["good", "wrong"], 1, 1),
        (["unheld"], 0, 1),
        (["good", "broken"], 2, 2),
    ],
)
def test_the_exit_code_follows_the_worst_or_the_expectations(models, tmp_path, capsys, names, plain, expect) -> None:
    models("good", "wrong", "unheld", "broken")
    assert cli(*names, "--out", str(tmp_path / "out")) == plain
    assert cli(*names, "--out", str(tmp_path / "out"), "--expect") == expect
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert f"{len(names)} checks" in out


def test_the_command_takes_seeds_and_values_in_turn(models, tmp_path, capsys) -> None:
    models("settled")
    assert cli("settled", "--seeds", "0,2", "--set", "lr=0.1", "--set", "lr=0.05", "--out", str(tmp_path)) == 1
    out = capsys.readouterr().out
    assert "settled seed=2 lr=0.05" in out
    assert "4 checks: 2 DIFFERENT, 2 EQUIVALENT" in out
    assert len(list(tmp_path.glob("*/result.json"))) == 4
    assert cli("settled", "--seeds", "0,x", "--out", str(tmp_path)) == 2


@pytest.mark.slow
def test_ray_finds_what_one_process_finds(models, tmp_path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed here: pip install 'xcheck-ports[ray]'")
    models("deadly", "good", "wrong")
    options = {"steps": 2, "free_steps": 0, "precision": ["float64"]}
    try:
        run = sweep(plan([], every=True), tmp_path / "out", jobs=2, ray=True, options=options)
        found = {outcome.task.label: outcome for outcome in run}
    finally:
        import ray

        ray.shutdown()
    verdicts = {label: outcome.verdict for label, outcome in found.items()}
    assert verdicts == {"deadly": "INCONCLUSIVE", "good": "EQUIVALENT", "wrong": "DIFFERENT"}
    assert "died" in complaints([found["deadly"]])[0]


def test_ray_that_cannot_start_is_a_message(models, tmp_path, monkeypatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed here: pip install 'xcheck-ports[ray]'")
    models("good")
    monkeypatch.setenv("RAY_ADDRESS", "no such address")
    with pytest.raises(SetupError) as caught:
        list(sweep(plan(["good"]), tmp_path / "out", ray=True, options=OPTIONS))
    assert "no such address" in str(caught.value)
    assert "--jobs" in str(caught.value)


def test_a_pair_that_leaves_or_reads_and_prints_is_one_task_too(models, tmp_path) -> None:
    models("leaving", "gone", "good", "talking")
    found = run(plan(["leaving", "gone", "talking", "good"]), tmp_path / "out", jobs=1)
    assert {label: outcome.verdict for label, outcome in found.items()} == {
        "leaving": "ERROR",  # Python's own exit is a message
        "gone": "INCONCLUSIVE",
        "talking": "ERROR",  # there is nothing to read
        "good": "EQUIVALENT",
    }
    assert "exit code 0" in complaints([found["gone"]])[0]
    assert "EOFError" in found["talking"].error


def test_a_sweep_goes_on_where_it_ended(models, tmp_path, monkeypatch) -> None:
    models("good", "wrong", "deadly", "unheld")
    out = tmp_path / "out"
    run(plan(["wrong", "deadly"]), out, jobs=1)
    before = (out / "wrong" / "result.json").stat().st_mtime_ns
    assert (out / "wrong" / "report.html").is_file()
    real, ran = module.attempt, list[str]()
    monkeypatch.setattr(module, "attempt", lambda task, options: ran.append(task.label) or real(task, options))
    tasks = plan(["good", "wrong", "unheld"])
    found = run(tasks, out, resume=True)
    assert ran == ["good", "unheld"]
    assert {label: outcome.verdict for label, outcome in found.items()} == {
        "wrong": "DIFFERENT",
        "good": "EQUIVALENT",
        "unheld": "EQUIVALENT",
    }
    assert (out / "wrong" / "result.json").stat().st_mtime_ns == before
    ran.clear()
    (task,) = plan(["deadly"])
    monkeypatch.setattr(module, "attempt", lambda task, options: ran.append(task.label) or TaskOutcome(task, None))
    run([task], out, resume=True)
    assert ran == ["deadly"]  # it has no verdict yet


@pytest.mark.parametrize(
    ("earlier", "said"), [(None, "no sweep to resume"), ({"steps": 3}, "different options")], ids=["none", "other"]
)
def test_what_cannot_be_resumed_is_said(models, tmp_path, earlier, said) -> None:
    models("good")
    if earlier is not None:
        list(sweep(plan(["good"]), tmp_path / "out", jobs=0, options=earlier))
    with pytest.raises(PairError) as caught:
        run(plan(["good"]), tmp_path / "out", resume=True)
    assert said in str(caught.value)


def test_two_paths_do_not_share_a_folder(models, monkeypatch) -> None:
    folder = models("good", "wrong")
    monkeypatch.chdir(folder)
    (folder / "good-pair.py").write_text(HEAD + FILES["wrong"])
    assert labels(plan(["good", "good/pair.py", "./good/pair.py", "wrong"])) == ["good", "wrong"]  # one pair once
    tasks = plan(["good/pair.py", "good-pair.py"])
    assert labels(tasks) == ["good/pair.py", "good-pair.py"]
    assert len({task.folder for task in tasks}) == 2
    assert [task.folder for task in tasks] == [task.folder for task in plan(["good/pair.py", "good-pair.py"])]
    assert len(plan(["good"], seeds=[1, 1])) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_sweep_that_is_ended_loses_nothing_that_was_done(models, tmp_path, name) -> None:
    models("good", "slow")
    started = tmp_path / "started-"
    few = ["--steps", "2", "--free-steps", "0", "--precision", "float64", "--jobs", "1", "--out", "out"]
    command = [sys.executable, "-m", "xcheck", "sweep", "good", "slow", *few]
    environment = {**os.environ, "STARTED": str(started), "PYTHONPATH": str(Path(module.__file__).parents[2])}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # In a job in the background SIGINT is ignored, and a program inherits that.
    noticing: Any = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    ended = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes, **noticing)
    while not (workers := list(tmp_path.glob("started-*"))):
        assert ended.poll() is None, ended.communicate()
        time.sleep(0.05)
    ended.send_signal(getattr(signal, name))
    out, _ = ended.communicate(timeout=30)
    assert ended.returncode == (-9 if name == "SIGKILL" else 128 + getattr(signal, name))
    if name != "SIGKILL":
        assert "of 2 did not finish" in out
        assert "--resume" in out
    worker = int(workers[0].name.removeprefix("started-"))
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the worker outlives its sweep")
    assert Result.from_json(tmp_path / "out" / "good" / "result.json").verdict == "EQUIVALENT"
    assert not (tmp_path / "out" / "slow" / "result.json").exists()


def test_the_reach_is_that_of_run(models, tmp_path) -> None:
    models("good")
    assert cli("good", "--out", str(tmp_path), "--reach", "none") == 0
    settings = Result.from_json(tmp_path / "good" / "result.json").fingerprints["settings"]["what"]
    assert "reach none" in settings
    assert cli("good", "--out", str(tmp_path), "--reach", "far") == 2
    assert cli("good", "--out", str(tmp_path), "--reach", "none", "--resume") == 0
