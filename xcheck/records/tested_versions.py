"""The versions that tests were run on: from those of `constraints-lowest.txt` to those of `constraints.txt`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TESTED = {
    "python": ("3.11", "3.11"),
    "numpy": ("2.0.0", "2.4.6"),
    "torch": ("2.13.0", "2.13.0"),
    "keras": ("3.15.0", "3.15.1"),
    "tensorflow": ("2.20.0", "2.21.0"),
    "jax": ("0.8.0", "0.10.2"),
    "onnx": ("1.20.0", "1.23.2"),
    "onnxruntime": ("1.23.0", "1.31.1"),
    "tf2onnx": ("1.17.0", "1.17.0"),
}
"""Distribution -> the lowest and the highest version."""


def within(name: str, version: str) -> bool:
    """Whether a version lies in the tested range.

    Args:
        name: one of `TESTED`.
        version: as the distribution reports it.
    """
    lowest, highest = map(_numbers, TESTED[name])
    numbers = _numbers(version)
    return lowest <= numbers and numbers[: len(highest)] <= highest


def untested(versions: Mapping[str, Any]) -> list[str]:
    """One line for each version outside of the tested range.

    Args:
        versions: name -> version; names that are not in `TESTED` are skipped.
    """
    return [
        f"{name} {version} is outside the tested versions, {span(name)}; to test this installation: xcheck doctor"
        for name, version in versions.items()
        if name in TESTED and isinstance(version, str) and not within(name, version)
    ]


def span(name: str) -> str:
    """The tested range in words: "2.13.0", or "2.9.1 to 2.13.0"."""
    return " to ".join(dict.fromkeys(TESTED[name]))


def _numbers(version: str) -> tuple[int, ...]:
    """ "2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(n) for n in re.match(r"[\d.]*", version).group().strip(".").split(".") if n)  # pyright: ignore
