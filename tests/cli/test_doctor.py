"""`xcheck doctor`, and what is said where a framework is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xcheck.cli import doctor
from xcheck.errors import EXTRAS, not_installed
from xcheck.frameworks import sides
from xcheck.frameworks.canary import EVERY, Outcome
from xcheck.records import tested_versions

ROOT = Path(__file__).resolve().parents[2]

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv[0] = "xcheck"
from xcheck.cli.commands import main
from xcheck.records import tested_versions
main()
"""


def without(hidden: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDE.format(hidden={hidden}), *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.mark.parametrize(
    ("hidden", "extra"), [("torch", "torch"), ("keras", "tensorflow"), ("tensorflow", "tensorflow")]
)
def test_a_missing_framework_names_what_to_install(hidden: str, extra: str, tmp_path: Path) -> None:
    example = "import numpy as np\nimport xcheck\n"
    example += "PAIR = xcheck.Pair('p', xcheck.TorchSide(lambda: None), xcheck.KerasSide(lambda: None), "
    example += "lambda seed: iter([xcheck.Batch(np.ones((2, 2)))] * 9))\n"
    (tmp_path / "pair.py").write_text(example)
    ended = without(hidden, "run", "pair.py", folder=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert f"{hidden} is not installed here." in ended.stderr
    assert f"pip install 'xcheck-ports[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pair_file_that_imports_what_is_missing_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text("import torch\n")
    ended = without("torch", "run", "pair.py", folder=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "pip install 'xcheck-ports[torch]'" in ended.stderr
    assert "pair.py:1" in ended.stderr


def test_an_import_of_the_users_own_is_no_matter_of_installing() -> None:
    assert not_installed(ModuleNotFoundError("No module named 'my_data'", name="my_data")) is None
    assert not_installed(ValueError("torch")) is None
    assert set(EXTRAS) >= set(tested_versions.TESTED) - {"python", "numpy"}


def test_the_tested_versions_are_the_pinned_ones() -> None:
    for number, file in enumerate(("constraints-lowest.txt", "constraints.txt")):
        pinned = dict(line.split("==") for line in (ROOT / file).read_text().splitlines() if "==" in line)
        ends = {name: span[number] for name, span in tested_versions.TESTED.items() if name != "python"}
        assert ends == {name: pinned[name] for name in ends}


def test_all_is_well_here() -> None:
    lines = doctor.examine()
    assert [line for line in lines if line.todo] == []
    assert {line.kind for line in lines} == {"version", "backend", "device", "canary"}
    assert json.loads(doctor.as_json(lines))["well"] is True


def test_what_is_amiss_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tested_versions.TESTED, "torch", ("1.0", "1.1"))

    def broken(*_: Any) -> tuple[Outcome, ...]:
        return (Outcome("torch 2", "dropout off", EVERY, "it dropped", 0.0),)

    monkeypatch.setattr(doctor, "canaries", broken)
    lines = doctor.examine()
    doctor.show(lines)
    shown = capsys.readouterr().out
    assert "things to fix" in shown
    assert "install 1.0 to 1.1" in shown
    assert "it dropped" in shown
    assert json.loads(doctor.as_json(lines))["well"] is False
    sides._tried.cache_clear()
