"""`scripts/run_pair.py` is the command line, started by any Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path("scripts/run_pair.py").resolve()


def test_list_names_the_pairs_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--list"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "shared_dilated_conv" in done.stdout
    assert "shared_submodel_regularizer" in done.stdout


def test_without_an_environment_it_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    copied = shutil.copy(SCRIPT, tmp_path / "scripts")
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # -S leaves out what is installed, as on a machine where nothing is
    done = subprocess.run(
        [sys.executable, "-S", copied, "--list"], cwd=tmp_path, env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "scripts/install" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_is_a_sweep_of_what_is_under_models(tmp_path: Path) -> None:
    environment = {**os.environ, "XCHECK_MODELS": str(tmp_path)}
    command = [sys.executable, SCRIPT, "--all"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "A sweep needs pairs." in done.stderr
