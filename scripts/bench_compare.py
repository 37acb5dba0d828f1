#!/usr/bin/env python
"""Measure what a comparison of two tensors costs, beside those of the frameworks and a plain read, in one process.

    scripts/bench_compare.py                       1 K to 100 M elements of float32
    scripts/bench_compare.py --sizes 1000 1000000  others
    scripts/bench_compare.py --dtype float64       in the precision in which xcheck judges
    scripts/bench_compare.py --json FILE           also write what was measured

Both tensors differ by a rounding error in every element, which is the case that no shortcut helps. xcheck compares
them as a quantity of a step, without twins (`compare`), and with the two twins that a step has (`with twins`).
The calls take turns, and of each the fastest is shown. Extra memory is what the process holds at most during one more
call, beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from rich.console import Console
from rich.table import Table

from xcheck.numerics.judge import Frame, Item, compare_items
from xcheck.records.result import Verdict

SIZES = (1_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)
LEAST = 3
"""Calls of each, at least; more while they are short."""
SECONDS = 0.2
AIM = {"assert_close": 1 / 10, "read": 3.0}
"""At most this many times as long as the other."""
AIM_MEMORY = 64.0
"""MiB."""

Call = Callable[[], Any]


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description="Measure what a comparison costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="elements")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path, help="a file to write what was measured to")
    asked = parser.parse_args()
    rows = [measured(size, asked.dtype) for size in asked.sizes]
    show(rows, asked.dtype)
    if asked.json is not None:
        asked.json.write_text(json.dumps({**machine(), "dtype": asked.dtype, "rows": rows}, indent=2) + "\n")
    return 0


def measured(size: int, dtype: str) -> dict[str, Any]:
    """Seconds and MiB of each call on tensors of one size."""
    calls = calls_on(size, dtype)
    seconds = dict.fromkeys(calls, math.inf)
    started, rounds = time.perf_counter(), 0
    while rounds < LEAST or time.perf_counter() - started < SECONDS:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
        rounds += 1
    return {"elements": size, "seconds": seconds, "extra_mib": {name: extra(call) for name, call in calls.items()}}


def calls_on(size: int, dtype: str) -> dict[str, Call]:
    """What is measured: name -> a call without arguments. The tensors are as square as the size allows."""
    rows = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    t = rng.standard_normal((rows, size // rows), np.float32).astype(kind, copy=False)
    k, *twins = (t * (1 + np.finfo(kind).eps * rng.choice([-1, 1], t.shape).astype(kind)) for _ in range(3))
    tensors = torch.from_numpy(t), torch.from_numpy(k)
    frame = Frame("gradient", "float64", 1, "torch")

    def compare(*twins: Any) -> None:
        item = Item("weight", "weight", "kernel", t, k, twins, source=0.0)
        (check,) = compare_items(frame, [item])
        assert check.error is not None
        assert twins == () or check.verdict is Verdict.EQUIVALENT, check

    return {
        "compare": compare,
        "with twins": lambda: compare(*twins),
        "assert_close": lambda: torch.testing.assert_close(*tensors),
        "assert_allclose": lambda: np.testing.assert_allclose(t, k, rtol=1e-5),
        "read": lambda: (t.max(), k.max()),
    }


def extra(call: Call) -> float:
    """MiB that the process holds at most during a call, beyond what it held before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0.0)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def show(rows: list[dict[str, Any]], dtype: str) -> None:
    """Print what was measured, and what misses its aim."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{dtype} elements", justify="right")
    names = list(rows[0]["seconds"])
    for name in (*names, "over assert_close", "over read", "extra MiB", "of assert_close"):
        table.add_column(name, justify="right")
    for row in rows:
        seconds, mib = row["seconds"], row["extra_mib"]
        over = [f"{seconds['compare'] / seconds[other]:.2f}" for other in AIM]
        cells = [f"{row['elements']:,}", *(f"{1e3 * seconds[name]:.3g} ms" for name in names), *over]
        table.add_row(*cells, f"{mib['compare']:.0f}", f"{mib['assert_close']:.0f}")
    Console(width=200).print(table)
    print(f"aim: {AIM['assert_close']:g} of assert_close, {AIM['read']:g} of the read, {AIM_MEMORY:g} MiB")
    for row in rows:
        missed = [f"{row['seconds']['compare'] / row['seconds'][o]:.2f} of {o}" for o, most in AIM.items()
                  if row["seconds"]["compare"] > most * row["seconds"][o]]  # fmt: skip
        missed += [f"{row['extra_mib']['compare']:.0f} MiB"] if row["extra_mib"]["compare"] > AIM_MEMORY else []
        if missed:
            print(f"missed at {row['elements']:,}: {', '.join(missed)}")


if __name__ == "__main__":
    sys.exit(main())
