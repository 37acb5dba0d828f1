"""The lowest versions that are promised, and those that `scripts/test --lowest` installs."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def lower_bounds(project: dict) -> dict[str, Version]:
    """Distribution -> the lowest version that a user may have; what developers alone need is left out."""
    extras = {
        name: asked for name, asked in project["optional-dependencies"].items() if name not in ("dev", "docs", "all")
    }
    asked = [Requirement(text) for part in (project["dependencies"], *extras.values()) for text in part]
    return {
        canonicalize_name(r.name): Version(next(s.version for s in r.specifier if s.operator == ">=")) for r in asked
    }


def test_the_lowest_versions_are_the_promised_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints-lowest.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    assert pinned == lower_bounds(project)


def test_another_bound_is_seen() -> None:
    project = {"dependencies": ["numpy>=2.0"], "optional-dependencies": {"torch": ["torch>=2.9"], "dev": ["ruff>=1"]}}
    assert lower_bounds(project) == {"numpy": Version("2.0.0"), "torch": Version("2.9")}
