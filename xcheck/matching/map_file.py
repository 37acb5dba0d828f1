"""A weight map as a file, to be edited and checked in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import FileError, PairError
from ..pairs.pair import WeightTarget, copies, waive
from ..records.writing import read_file
from .plan import Match, MatchPlan


def write_map(plan: MatchPlan, path: Path, pair: str) -> Path:
    """Write the parameters of a plan as a weight map; returns the path.

    Args:
        plan: of a pair.
        path: of the file.
        pair: its name.

    Raises:
        FileError: the file cannot be written.
    """
    weights: dict[str, Any] = {}
    for match in plan.parameters:
        targets = weights.setdefault(key_in_map(match), [])
        targets.append([match.name("keras"), match.layout.name])
    listed: dict[str, Any] = {key: targets[0] if len(targets) == 1 else targets for key, targets in weights.items()}
    listed |= {key: {"copies": [there for there, _ in weights[key]]} for key in plan.copies if key in weights}
    listed |= {path: {"waive": reason} for path, reason in plan.waived.items()}
    try:
        path.write_text(json.dumps({"pair": pair, "weights": listed}, indent=1) + "\n")
    except OSError as error:
        raise FileError("The weight map cannot be written.", where=str(path), cause=str(error)) from error
    return path


def key_in_map(match: Match) -> str:
    """The key of a match in a weight map."""
    name = match.name("torch")
    if not match.offset:
        return name
    return f"{name} {'+' if match.offset > 0 else '-'} {abs(match.offset):g}"


def read_map(path: str | Path) -> dict[str, WeightTarget]:
    """The weight map of a file that `xcheck match PAIR --write FILE` wrote.

    Args:
        path: of the file; beside a pair file: Path(__file__).with_name("map.json").

    Raises:
        FileError: the file does not exist, or is not a weight map.
    """
    try:
        data = json.loads(read_file(Path(path)))
        return {key: _target(target) for key, target in data["weights"].items()}
    except OSError as error:
        raise FileError(
            "The weight map cannot be read.",
            where=str(path),
            cause=str(error),
            todo="write it with: xcheck match PAIR --write FILE",
        ) from error
    except PairError as error:  # a waiver without a reason, or copies of one variable
        error.parts["where"] = str(path)
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(
            "This file is not a weight map.",
            where=str(path),
            cause=f"{type(error).__name__}: {error}",
            todo="write one with: xcheck match PAIR --write FILE",
        ) from error


def _target(target: Any) -> WeightTarget:
    if isinstance(target, str):
        return target
    if isinstance(target, Mapping):
        named = cast(Mapping[str, Any], target)
        if "copies" not in named:
            return waive(named["waive"])
        if not all(isinstance(path, str) for path in named["copies"]):
            raise TypeError(f"{named['copies']!r:.80} are not paths")
        return copies(*named["copies"])
    listed = cast(list[Any], target)
    return [_pair_of(t) for t in listed] if isinstance(listed[0], list) else _pair_of(listed)


def _pair_of(target: Any) -> tuple[str, str]:
    path, layout = target
    if not (isinstance(path, str) and isinstance(layout, str)):
        raise ValueError(f"{target!r} is not [path, layout]")
    return path, layout
