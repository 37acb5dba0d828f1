"""How a run ends: only a verdict exits with 0, and what was found before is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import ctypes, os, sys, threading, time
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide

def drawn(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))

def then(action, after=1):
    def batches(seed):
        for _, batch in zip(range(after), drawn(seed)):
            yield batch
        action()
    return batches

def make(batches=drawn, name="linear", **keras):
    return xcheck.Pair(name, NumpySide("torch"), NumpySide("keras", **keras), batches,
                       weight_map={"linear.weight": "dense/kernel", "linear.bias": "dense/bias"})

def raise_(error):
    raise error

class Odd(BaseException):
    def __str__(self):
        raise SystemExit(0)
"""


def start(folder: Path, text: str, *options: str, command: str = "run", **settings) -> subprocess.Popen[str]:
    file = folder / "pair.py"
    file.write_text(f"{HEAD}\n{text}\n")
    arguments = [sys.executable, "-m", "xcheck", command, str(file), "--steps", "3", "--free-steps", "0"]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    # A suite that a shell runs in the background ignores SIGINT, and so would what it starts.
    settings |= {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([*arguments, "--out", str(folder / "out"), *options], **settings)


def run(folder: Path, text: str, *options: str, **settings) -> tuple[int, str, str]:
    process = start(folder, text, *options, **settings)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("sys.exit(0)", 2, "exit code 0"),
        ("os._exit(0)", 2, "exit code 0"),
        ("raise SystemExit", 2, "exit code 0"),
        ("PAIR = make(then(lambda: os._exit(0)))", 2, "batches asked for the end of the process"),
        ("PAIR = make(then(sys.exit))", 2, "batches asked for the end of the process"),
        ("PAIR = make(then(lambda: raise_(Odd())))", 2, "raised Odd"),
        ("PAIR = make(then(lambda: raise_(MemoryError())))", 3, "enough memory"),
        ("PAIR = make(then(lambda: np.zeros(1 << 44)))", 3, "128. TiB"),
        ("PAIR = make(then(lambda: raise_(RuntimeError('CUDA out of memory. Tried 8 GiB'))))", 3, "Tried 8 GiB"),
        ("threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(9)", 3, "A thread of the pair"),
    ],
)
def test_what_ends_a_run_is_said_and_is_no_pass(tmp_path: Path, text: str, code: int, said: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text('{"verdict": "EQUIVALENT"}')  # of an earlier run
    left, _, err = run(tmp_path, text)
    assert left == code
    assert said in err
    written = tmp_path / "out" / "result.json"
    assert written.exists() == ("then" in text)
    if written.exists():
        assert json.loads(written.read_text())["verdict"] == "INCONCLUSIVE"


REAL = """
import numpy as np, os, sys, torch, xcheck, keras

class Odd(BaseException):
    pass

class Planted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, g):
        raise Odd("planted in backward")

class Backward(torch.nn.Linear):
    def forward(self, x):
        return Planted.apply(super().forward(x))

class TrainStep(keras.Sequential):
    def train_step(self, data):
        os._exit(0)

def plain(kind=keras.Sequential):
    return kind([keras.Input((3,)), keras.layers.Dense(2)])

def pair(torch_build, keras_build):
    return xcheck.Pair(
        "real", xcheck.TorchSide(torch_build), xcheck.KerasSide(keras_build),
        lambda seed: iter([xcheck.Batch(np.ones((4, 3)))] * 9),
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sides", "code", "said"),
    [
        ("lambda: Backward(3, 2), plain", 2, "torch backward pass raised Odd"),
        ("lambda: torch.nn.Linear(3, 2), lambda: plain(TrainStep)", 2, "keras training step asked for the end"),
        ("lambda: sys.exit(0), plain", 2, "torch build asked for the end"),
        ("lambda: torch.empty(10**14), plain", 3, "800000000000000 bytes"),
    ],
)
def test_what_ends_a_run_inside_a_framework(tmp_path: Path, sides: str, code: int, said: str) -> None:
    left, _, err = run(tmp_path, f"{REAL}\nPAIR = pair({sides})", "--precision", "float64")
    assert (left, said in err) == (code, True)


def test_a_run_that_ends_by_its_verdict_passes(tmp_path: Path) -> None:
    assert run(tmp_path, "PAIR = make()\nif __name__ == '__main__':\n    sys.exit(5)")[0] == 0


def test_what_was_found_before_an_error_is_printed(tmp_path: Path) -> None:
    _, out, err = run(tmp_path, "PAIR = make(then(sys.exit, after=2))")
    assert out.startswith("INCONCLUSIVE  linear: the run ended early")
    assert "gradient" in out
    assert "where" in err


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_writes_what_it_has(tmp_path: Path, by: signal.Signals) -> None:
    ready = tmp_path / "ready"
    text = f"PAIR = make(then(lambda: (open({str(ready)!r}, 'w').close(), time.sleep(30)), after=2))"
    process = start(tmp_path, text)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(by)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + by
    assert "interrupted" in out
    assert by.name in err
    data = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (data["verdict"], bool(data["checks"])) == ("INCONCLUSIVE", True)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_of_a_sweep_is_left(tmp_path: Path, by: signal.Signals) -> None:
    text = f"PAIR = make(then(lambda: (open(f'{tmp_path}/{{os.getpid()}}.pid', 'w').close(), time.sleep(60))))"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start(tmp_path, text, "--jobs", "2", "--seeds", "0,1", command="sweep", **quiet)
    while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(by)
    assert process.wait(timeout=30) != 0
    deadline = time.monotonic() + 15
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("keras", "code"), [("", 0), ("learning_rate=0.2", 1)])
def test_a_reader_that_leaves_changes_no_exit_code(tmp_path: Path, keras: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    left, _, err = run(tmp_path, f"PAIR = make({keras})", stdout=write)
    os.close(write)
    assert (left, err) == (code, "")
    assert (tmp_path / "out" / "result.json").exists()


def test_a_full_disk_leaves_nothing_truncated_and_the_verdict_is_printed(tmp_path: Path) -> None:
    text = """
from pathlib import Path
import errno, xcheck.records.writing
def full(source, target):
    raise OSError(errno.ENOSPC, "No space left on device")
xcheck.records.writing.os.replace = full
PAIR = make()
"""
    code, out, err = run(tmp_path, text)
    assert code == 2
    assert out.startswith("EQUIVALENT")
    assert "No space left" in err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("place", ["raise ValueError(EVIL)", "PAIR = make(then(lambda: raise_(KeyError(EVIL))))",
                                   "PAIR = make(name=EVIL)"])  # fmt: skip
def test_text_from_files_steers_no_terminal(tmp_path: Path, place: str) -> None:
    evil = "EVIL = 'x\\x1b]0;title\\x07\\x1b[2J\\x9b31m[bold]y'"
    _, out, err = run(tmp_path, f"{evil}\n{place}", env={**os.environ, "TTY_COMPATIBLE": "0"})
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert "\x9b" not in out + err
