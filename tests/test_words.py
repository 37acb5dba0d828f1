"""Words that are struck from messages, docstrings and pages do not come back."""

import ast
import re
from pathlib import Path

import pytest
import sample_messages

ROOT = Path(__file__).resolve().parents[1]
STRUCK = {
    r"\bparts? in (update|forward|loss|gradient|state)\b": "first difference in ...",
    r"\bnames no (side|verdict|phase|output)\b": "must be ...",
    r"(?<!there )\bis no (dict|list|file|xcheck|regular|tensor|weight map|side|scalar)\b": "is not a ...",
    r"\bbatches are none\b": "returned no batches",
    r"\bThere is no such (file|phase|device|format|reach|trace)\b": "unknown ..., or ... does not exist",
    r"\b(which|what) weight is which is open\b": "the match of the parameters is not proven",
    r"\bwhat goes in holds\b": "the inputs have",
    r"\bholds the same numbers in another order\b": "has the same values in a different order",
    r"\bside alone\b": "only on the ... side",
    r"\bas it is guessed\b": "under the current guesses",
    r"\bbug of xcheck\b": "bug in xcheck",
    r"\bcannot be looked into\b": "cannot be observed",
}
"""Pattern -> what to write instead."""

PLAIN = (
    "cli",
    "pairs",
    "matching",
    "records",
    "report",
    "onnx",
    "optim",
    "layouts",
    "numerics",
    "stepping",
    "errors.py",
)
"""Rooms whose docstrings are held too; of the others only the messages are."""


def docstrings(source: str) -> list[str]:
    """The docstrings of a source."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    return [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def struck(texts: list[str]) -> list[str]:
    """The struck words in some texts, each with what to write instead."""
    return [
        f"{found[0]!r} in {text[:80]!r}: write {instead!r}"
        for text in texts
        for pattern, instead in STRUCK.items()
        if (found := re.search(pattern, text))
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "xcheck").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_struck_word_comes_back(path: Path) -> None:
    source = path.read_text()
    texts = [message for _, message in sample_messages.messages(source)]
    plain = path.relative_to(ROOT / "xcheck").parts[0] in PLAIN
    assert struck(texts + (docstrings(source) if plain else [])) == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda p: p.name)
def test_no_struck_word_comes_back_in_a_page(path: Path) -> None:
    assert struck(path.read_text().split("\n")) == []


def test_a_struck_word_is_found() -> None:
    source = 'raise PairError("Pair.accept is no list.", todo="write a list")\n'
    assert len(struck([message for _, message in sample_messages.messages(source)])) == 1
    assert not struck(["Pair.accept must be a list."])


def test_a_sample_follows_its_seed() -> None:
    assert sample_messages.sample(5, 1) == sample_messages.sample(5, 1) != sample_messages.sample(5, 2)
    assert len(sample_messages.sample(60, 0)) == 60
