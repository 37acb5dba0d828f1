#!/usr/bin/env python3
"""Compare the results of two sweeps, pair by pair: `scripts/compare_results.py BEFORE AFTER`.

Verdicts, checks with their errors, first differences and causes must be the same; timings and environment may differ,
and the numbers in names that an exporter makes up anew in each process.
Exits with 1 and lists what is not the same, for a change of the code that must change no result.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

IGNORED = ("timings", "environment", "notes")
COUNTER = re.compile(r"__\d+|_\d+(?=/)")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Fields of two results that are not the same; of checks and causes, which ones."""
    found: list[str] = []
    for field in sorted((before.keys() | after.keys()) - set(IGNORED)):
        old, new = (_without_counters(field, result.get(field)) for result in (before, after))
        if old == new:
            continue
        if field in ("checks", "causes"):
            olds, news = ({json.dumps(item, sort_keys=True) for item in items or ()} for items in (old, new))
            names = [json.loads(item) for item in sorted(olds ^ news)]
            first = ", ".join(f"{n['phase']}: {n.get('name', n.get('id'))}" for n in names[:3])
            found.append(f"{field}: {len(olds - news)} gone, {len(news - olds)} new ({first})")
        else:
            found.append(f"{field}: {old!s:.80} -> {new!s:.80}")
    return found


def _without_counters(field: str, value: Any) -> Any:
    """The value of a field; what it says of exports without the counters in the names of tensors."""
    if field == "exports":
        return json.loads(COUNTER.sub("N", json.dumps(value)))
    if field == "checks":
        return [{**c, "detail": COUNTER.sub("N", c["detail"])} if c["phase"] == "export" else c for c in value or ()]
    return value


def main(before: Path, after: Path) -> int:
    """Compare every `*/result.json` of two folders; the exit code."""
    results = [{path.parent.name: path for path in folder.glob("*/result.json")} for folder in (before, after)]
    names = sorted(results[0].keys() | results[1].keys())
    changed = 0
    for name in names:
        missing = [str(folder) for folder, of in zip((before, after), results, strict=True) if name not in of]
        said = [f"missing in {folder}" for folder in missing] or differences(
            *(json.loads(of[name].read_text()) for of in results)
        )
        changed += bool(said)
        print(f"{'differs' if said else 'same':<8} {name}" + "".join(f"\n         {line}" for line in said))
    print(f"\n{len(names)} results, {changed} not the same")
    return 1 if changed or not names else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
