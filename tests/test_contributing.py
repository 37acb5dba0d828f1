"""The first page of CONTRIBUTING is true: each stop of a batch, and each place to change something, exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
STOPS = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `(\w+)` \|", PAGE, flags=re.MULTILINE)


def missing(stops: list[tuple[str, str]]) -> list[str]:
    """Stops whose file does not define the function or class."""
    lacking: list[str] = []
    for path, name in stops:
        file = ROOT / path
        tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        lacking += [] if name in names else [f"{path}: {name}"]
    return lacking


def test_every_stop_exists():
    assert 8 <= len(STOPS) <= 12
    assert missing(STOPS) == []


def test_a_stop_that_is_gone_is_seen():
    assert missing([("xcheck/check.py", "no_such_function"), ("xcheck/nowhere.py", "check")]) == [
        "xcheck/check.py: no_such_function",
        "xcheck/nowhere.py: check",
    ]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(xcheck/[\w/.]+)`", PAGE))))
def test_every_place_that_is_named_exists(path):
    assert (ROOT / path).exists()


def test_the_words_are_few():
    words = PAGE.split("## Words")[1].split("## Run")[0]
    assert len(re.findall(r"^\| [a-z]", words, flags=re.MULTILINE)) <= 20
