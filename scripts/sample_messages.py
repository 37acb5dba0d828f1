#!/usr/bin/env python
"""Picks messages at random from the source, to be read alone: is it clear what happened, and what to do?

Usage: scripts/sample_messages.py [N] [SEED]
"""

import ast
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ERRORS = (
    "BadInput",
    "PairError",
    "BatchError",
    "UserCodeError",
    "MatchError",
    "UnprovenError",
    "SetupError",
    "FileError",
)
FIELDS = ("summary", "fix", "detail", "todo")


def constants() -> dict[str, str]:
    """Texts that messages name, such as RECORD_AGAIN, by name."""
    found: dict[str, str] = {}
    for path in (ROOT / "xcheck").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and text(node.value):
                found[node.targets[0].id] = text(node.value)
    return found


def text(node: ast.AST) -> str:
    """The text of an expression, with `{...}` for each value in it; "" without a text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            text(v) if isinstance(v, ast.Constant) else "{" + ast.unparse(getattr(v, "value", v)) + "}"
            for v in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    return ""


def filled_in(node: ast.AST) -> str:
    """A value that is known only when the message is shown."""
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    return "{" + ast.unparse(node)[:80] + "}"


CONSTANTS = constants()


def messages(source: str) -> Iterator[tuple[int, str]]:
    """(line, message) of each error, cause, check detail and note of coverage in a source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            parts = [text(a) for a in node.args[:1]] if name in ERRORS else []
            parts += [text(a) for a in node.args[4:5]] if name == "Cause" else []
            parts += [f"{k.arg}: {text(k.value) or filled_in(k.value)}" for k in node.keywords if k.arg]
            told = [p for p in parts if p and (name in (*ERRORS, "Cause") or p.partition(":")[0] in FIELDS)]
        else:
            told = [text(node)] if isinstance(node, ast.JoinedStr | ast.Constant) else []
            told = [t for t in told if t.startswith("not covered:") and t.count("(") == t.count(")")]
        if told and is_sentence(told[0].removeprefix("detail: ").removeprefix("summary: ")):
            yield getattr(node, "lineno", 0), "\n    ".join(told)


def is_sentence(told: str) -> bool:
    """Whether the first part says what happened; what only goes on from another message is none to be read alone."""
    words = re.sub(r"\{[^}]*\}", "", told).split()
    return len(words) > 2 and not told.startswith(("todo:", "fix:", "cause:", "numbers:", "where:"))


def sample(count: int, seed: int) -> list[str]:
    """Messages with their places.

    Args:
        count: how many.
        seed: of the choice.
    """
    found = [
        f"{path.relative_to(ROOT)}:{line}\n    {message}"
        for path in sorted((ROOT / "xcheck").rglob("*.py"))
        for line, message in messages(path.read_text())
    ]
    return random.Random(seed).sample(found, min(count, len(found)))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    print("\n".join(sample(*(numbers + [10, 0][len(numbers) :]))))
