#!/usr/bin/env python
"""Measure how much memory a check takes, as a multiple of its parameters in float64.

    scripts/bench_memory.py                     2, 4 and 8 million parameters
    scripts/bench_memory.py --sizes 16 32       others
    scripts/bench_memory.py --map               with a weight map instead of matching by value

Each size is checked in a process of its own: two steps in float64 of a chain of square dense layers, with plain SGD.
What the frameworks themselves take is measured with a tiny model and taken off.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

WIDTH = 512
TINY = 8
ROLES = (("weight", "kernel"), ("bias", "bias"))


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description="Measure the memory of a check.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 4, 8], help="millions of parameters")
    parser.add_argument("--map", action="store_true", help="with a weight map")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", type=int, nargs=2, metavar=("LAYERS", "WIDTH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(_peak(*asked.one, mapped=asked.map, steps=asked.steps))
        return 0
    options = ["--steps", str(asked.steps), *(["--map"] if asked.map else [])]
    base, _ = _apart(2, TINY, options)
    print("parameters  in float64  peak, less the frameworks  copies")
    for millions in asked.sizes:
        layers = max(1, round(millions * 1e6 / (WIDTH * (WIDTH + 1))))
        peak, parameters = _apart(layers, WIDTH, options)
        held = parameters * 8 / 2**20
        print(f"{parameters / 1e6:8.1f} M  {held:7.0f} MiB  {peak - base:21.0f} MiB  {(peak - base) / held:6.1f}")
    return 0


def _apart(layers: int, width: int, options: list[str]) -> tuple[float, int]:
    """Peak in MiB, and the number of parameters, of a check in a process of its own."""
    command = [sys.executable, __file__, "--one", str(layers), str(width), *options]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(told[-1]), layers * width * (width + 1)


def _peak(layers: int, width: int, *, mapped: bool, steps: int) -> float:
    """Check a pair, and say what this process held at most, in MiB."""
    import numpy as np

    import xcheck

    def build_torch():
        import torch

        return torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))

    def build_keras():
        import keras

        made = [keras.layers.Dense(width, name=f"d{i}") for i in range(layers)]
        return keras.Sequential([keras.Input((width,)), *made], name="m")

    def batches(seed: int):
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((4, width)))

    names = {f"{i}.{role}": f"m/d{i}/{other}" for i in range(layers) for role, other in ROLES}
    sides = xcheck.TorchSide(build_torch), xcheck.KerasSide(build_keras)
    pair = xcheck.Pair("chain", *sides, batches, weight_map=names if mapped else None)
    result = xcheck.check(pair, steps=steps, free_steps=0, precision=("float64",))
    assert result.verdict != "INCONCLUSIVE", result.report()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
