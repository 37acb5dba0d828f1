"""For programs: one object on standard output whatever happens, and a loop that mends a port by its edits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import run
from results import ALL

from xcheck.records.result import Verdict, schema_text
from xcheck.report.result import Result

SCHEMA = json.loads(schema_text())
HEAD = """
import os, sys
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide

def batches(seed, size=8):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((size, 3)), rng.standard_normal((size, 2)))

MAP = {"linear.weight": "dense/kernel", "linear.bias": "dense/bias"}

def make(keras=None, **options):
    return xcheck.Pair(**{
        "name": "p", "torch": NumpySide("torch"), "keras": NumpySide("keras", **(keras or {})), "batches": batches,
        "weight_map": MAP, **options,
    })

def ends(seed):
    sys.exit(0)

def interrupts(seed):
    raise KeyboardInterrupt

def raises(seed):
    raise ValueError("planted")
"""


def the_object(out: str) -> dict[str, Any]:
    data = json.loads(out)  # fails on anything before or after it
    jsonschema.validate(data, SCHEMA)
    return data


@pytest.mark.parametrize(
    ("pair", "options", "code", "verdict", "said"),
    [
        ("PAIR = make()", [], 0, "EQUIVALENT", ""),
        ("PAIR = make({'learning_rate': 0.05})", [], 1, "DIFFERENT", ""),
        ("print('on stdout'); os.write(1, b'and by its number'); PAIR = make()", [], 0, "EQUIVALENT", ""),
        ("PAIR = 1 / 0", [], 2, "INCONCLUSIVE", "ZeroDivisionError"),
        ("PAIR = make(batches=raises)", [], 2, "INCONCLUSIVE", "planted"),
        ("PAIR = make(batches=ends)", [], 2, "INCONCLUSIVE", "exit"),
        ("PAIR = make(batches=interrupts)", [], 130, "INCONCLUSIVE", "interrupted"),
        ("PAIR = make(weight_map={'nothing': 'dense/kernel'})", [], 2, "INCONCLUSIVE", "nothing"),
        ("PAIR = make()", ["--steps", "0"], 2, "INCONCLUSIVE", "at least one step"),
        ("PAIR = make()", ["--steps", "many"], 2, "INCONCLUSIVE", "Bad usage"),
        ("PAIR = make()", ["--no-such-option"], 2, "INCONCLUSIVE", "Bad usage"),
        ("PAIR = make()", ["--seed", "-1"], 2, "INCONCLUSIVE", "--seed -1"),
        ("PAIR = make()", ["--seed", str(2**32)], 2, "INCONCLUSIVE", "2**32"),
        ("PAIR = make()", ["--free-steps", "-1"], 2, "INCONCLUSIVE", "--free-steps -1"),
        ("PAIR = make()", ["--phases", "nonsense"], 2, "INCONCLUSIVE", "nonsense"),
        ("PAIR = make()", ["--precision", "float16"], 2, "INCONCLUSIVE", "float16"),
        ("PAIR = make()", ["--device", "tpu"], 2, "INCONCLUSIVE", "tpu"),
        ("PAIR = make()", ["--set", "x"], 2, "INCONCLUSIVE", "KEY=VALUE"),
        ("PAIR = make()", ["--accept", "no_cause@x"], 2, "INCONCLUSIVE", "no_cause"),
        ("PAIR = make()", ["--reach", "far"], 2, "INCONCLUSIVE", "far"),
    ],
)
def test_one_object_and_nothing_else(tmp_path, capsys, pair, options, code, verdict, said) -> None:
    (tmp_path / "pair.py").write_text(f"{HEAD}\n{pair}\n")
    few = ["--steps", "1", "--free-steps", "0", "--precision", "float64", "--out", str(tmp_path / "out")]
    assert run("run", str(tmp_path / "pair.py"), *few, *options, "--json", "-") == code
    data = the_object(capsys.readouterr().out)
    assert (data["verdict"], said in (data["failure"] or "")) == (verdict, True)
    assert bool(data["failure"]) == bool(said)
    assert "float32: not compared" in data["not_covered"] or data["failure"]
    assert data["next"] or data["verdict"] == "EQUIVALENT"


@pytest.mark.parametrize("make", ALL)
def test_each_verdict_validates(make, monkeypatch, tmp_path, capsys) -> None:
    result = make()
    monkeypatch.setattr("xcheck.cli.commands.check", lambda *_, **__: result)
    (tmp_path / "pair.py").write_text(f"{HEAD}\nPAIR = make()\n")
    run("run", str(tmp_path / "pair.py"), "--out", str(tmp_path / "out"), "--json", "-")
    assert the_object(capsys.readouterr().out)["verdict"] == result.verdict


def test_a_file_that_cannot_be_written_leaves_the_object(tmp_path, capsys) -> None:
    (tmp_path / "pair.py").write_text(f"{HEAD}\nPAIR = make()\n")
    (tmp_path / "out").write_text("a file in the place of the folder")
    assert run("run", str(tmp_path / "pair.py"), "--steps", "1", "--out", str(tmp_path / "out"), "--json", "-") == 2
    assert "out" in the_object(capsys.readouterr().out)["failure"]


def result_of(folder: Path, name: str, text: str, *options: str) -> Path:
    """The result of a pair file; each has the same path, so that only its text differs."""
    (folder / "pair.py").write_text(f"{HEAD}\n{text}\n")
    out = folder / name
    run("run", str(folder / "pair.py"), "--steps", "2", "--free-steps", "0", "--out", str(out), *options)
    return out / "result.json"


@pytest.mark.parametrize(
    ("text", "options", "what", "code"),
    [
        ("PAIR = make()  # only a comment", [], None, 0),
        ("PAIR = make({'learning_rate': 0.05})", [], "keras", 0),
        ("PAIR = make(torch=NumpySide('torch', learning_rate=0.05))", [], "torch", 1),
        ("PAIR = make(batches=lambda seed: batches(seed, 2))", [], "batches: 2 of 8 examples -> 2 of 2 examples", 1),
        ("PAIR = make(weight_map={**MAP, 'x': xcheck.waive('not needed')})", [], "waivers: none -> x", 1),
        ("PAIR = make(weight_map=None)", [], "map: 2 entries -> 0 entries", 1),
        ("PAIR = make(accept=['weight dense'])", [], "accepted: none -> weight dense", 1),
        ("PAIR = make()", ["--steps", "1"], "batches: 2 of 8", 1),
        ("PAIR = make()", ["--precision", "float64"], "settings", 1),
    ],
)
def test_what_changed_since_a_result_is_said(tmp_path, capsys, text, options, what, code) -> None:
    before = result_of(tmp_path, "before", "PAIR = make()")
    after = result_of(tmp_path, "after", text, *options)
    capsys.readouterr()
    assert run("report", str(after), "--against", str(before)) == code
    changed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("changed")]
    assert len(changed) >= (what is not None)
    assert what is None or any(what in line for line in changed), changed
    assert what is not None or not changed


def test_the_instructions_are_written_once(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", "--agents") == 0
    text = (tmp_path / "AGENTS.md").read_text()
    assert all(word in text for word in ("--json -", "Waive", "accept", "Loosen", "Shrink", "--against"))
    assert run("new", "--agents") == 2
    assert run("new") == 2


REFERENCE = """
from torch import nn, optim
from torch.nn import functional as F


def build():
    return nn.Sequential(
        nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8), nn.LayerNorm(8, eps=1e-5), nn.Linear(8, 8), nn.Tanh(),
        nn.Dropout(0.1), nn.Linear(8, 3),
    )


def optimizer(parameters):
    return optim.SGD(parameters, lr=0.05, momentum=0.9)
"""
PORT = """
import keras
from keras import layers


def build(units=8):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units),
            layers.LeakyReLU(
                0.3,  # planted
            ),
            layers.Dense(units),
            layers.LayerNormalization(name="norm"),  # planted: 1e-3
            layers.Dense(units, activation="tanh"),
            layers.Dropout(rate=0.5),  # planted
            layers.Dense(3),
        ]
    )


def loss(targets, outputs):
    return keras.losses.SparseCategoricalCrossentropy()(targets, outputs)  # planted: from_logits


def optimizer():
    return keras.optimizers.SGD(0.1, 0.9)  # planted
"""
PAIR = """
import numpy as np
import xcheck


def torch_build():
    from .reference import build
    return build()


def torch_loss(outputs, targets):
    from .reference import F
    return F.cross_entropy(outputs, targets)


def torch_optimizer(parameters):
    from .reference import optimizer
    return optimizer(parameters)


def keras_build():
    from .port import build
    return build()


def keras_loss(targets, outputs):
    from .port import loss
    return loss(targets, outputs)


def keras_optimizer():
    from .port import optimizer
    return optimizer()


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((16, 6)), rng.integers(0, 3, 16))


PAIR = xcheck.Pair(
    name="port",
    torch=xcheck.TorchSide(torch_build, loss=torch_loss, optimizer=torch_optimizer),
    keras=xcheck.KerasSide(keras_build, loss=keras_loss, optimizer=keras_optimizer),
    batches=batches,
)
"""
LOOP = """
import json, subprocess, sys
from pathlib import Path

command = [sys.executable, "-m", "xcheck", "run", "pair.py", "--steps", "1", "--free-steps", "0", "--reach", "none",
    "--precision", "float64", "--json", "-"]
for turn in range(10):
    done = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(done.stdout)
    print(done.returncode, result["verdict"])
    edits = [edit for cause in result["causes"] if cause["confirmed"] for edit in cause["edits"]]
    if done.returncode == 0 or not edits:
        break
    edit = edits[0]
    path = Path(edit["file"])
    lines = path.read_text().splitlines(keepends=True)
    head, rest = "".join(lines[: edit["line"] - 1]), "".join(lines[edit["line"] - 1 :])
    assert edit["side"] == "keras" and path.name == "port.py" and edit["before"] in rest
    path.write_text(head + rest.replace(edit["before"], edit["after"], 1))
    print("edited", edit["after"].replace(chr(10), " "))
"""


@pytest.mark.slow
def test_a_script_that_applies_the_edits_mends_five_faults(tmp_path) -> None:
    """Five faults in one port, and nobody who knows what they are."""
    for name, text in (("reference.py", REFERENCE), ("port.py", PORT), ("pair.py", PAIR), ("loop.py", LOOP)):
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, "loop.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["0 EQUIVALENT"], done.stdout + done.stderr
    assert done.stdout.count("edited") == 5
    port = (tmp_path / "port.py").read_text()
    for mended in ("0.2,  # planted", 'name="norm", epsilon=1e-05)', "rate=0.1", "from_logits=True", "SGD(0.05, 0.9)"):
        assert mended in port
    assert (tmp_path / "reference.py").read_text() == REFERENCE


def test_a_result_of_an_earlier_version_has_no_fingerprints() -> None:
    from xcheck.cli.agents import changes

    lines, suspicious = changes(Result("p", Verdict.EQUIVALENT, 0, 1), Result("p", Verdict.EQUIVALENT, 0, 1))
    assert suspicious
    assert "fingerprints" in lines[0]
