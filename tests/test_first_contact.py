"""What a new user types first: the version, and `xcheck.optim` after `import xcheck`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xcheck

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_version_is_printed_whatever_the_distribution_is_called() -> None:
    assert python("-m", "xcheck", "--version").strip() == f"xcheck {PROJECT['version']}"


def test_optim_is_reachable_and_loads_no_framework() -> None:
    frameworks = "{'torch', 'keras', 'tensorflow', 'jax'}"
    code = f"import sys, xcheck; print(xcheck.optim.__name__, {frameworks} & sys.modules.keys())"
    assert python("-c", code).strip() == "xcheck.optim set()"


def test_what_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xcheck.no_such_name  # pyright: ignore


def named_distributions(text: str) -> set[str]:
    """What the advice of a text has pip install, where it has extras."""
    return set(re.findall(r"pip install '([\w-]+)\[", text))


def test_advice_names_the_distribution_that_is_ours() -> None:
    texts = [path.read_text() for part in ("xcheck", "docs") for path in sorted((ROOT / part).rglob("*.[pm][yd]"))]
    named = [name for text in texts for name in named_distributions(text)]
    assert set(named) == {PROJECT["name"]}
    assert all(extra.startswith(f"{PROJECT['name']}[") for extra in PROJECT["optional-dependencies"]["all"])


def test_advice_that_names_another_distribution_is_found() -> None:
    assert named_distributions("todo=\"pip install 'xcheck[ray]'\"") == {"xcheck"}
