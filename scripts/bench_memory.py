#!/usr/bin/env python
"""Measure how much memory a check takes, as a multiple of its parameters in float64.

    scripts/bench_memory.py                        4, 8 and 16 million parameters, plain SGD
    scripts/bench_memory.py --sizes 32 --adam      others
    scripts/bench_memory.py --on-disk              with what is kept on disk, as large models have it
    scripts/bench_memory.py --map                  with a weight map instead of matching by value
    scripts/bench_memory.py --full                 in float32 and in a free run, too

Each size is checked in a process of its own: two steps of a chain of square dense layers between an embedding and
the same embedding transposed. What the frameworks themselves take is measured with a tiny model and taken off. Per
stage of the check it prints the most that the process held, in copies of all parameters; what it reads from files,
which the system may drop at any time, is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

WIDTH = 512
TINY = 8
TOKENS = 16
INTERVAL = 0.01
LONGEST = 60  # letters of a stage; what is told about memory takes more


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description="Measure the memory of a check.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16], help="millions of parameters")
    parser.add_argument("--width", type=int, default=WIDTH, help="of a layer")
    parser.add_argument("--adam", action="store_true", help="Adam instead of SGD")
    parser.add_argument("--on-disk", action="store_true", help="what is kept goes to files")
    parser.add_argument("--map", action="store_true", help="with a weight map")
    parser.add_argument("--full", action="store_true", help="in float32 and in a free run, too")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", type=int, nargs=2, metavar=("MILLIONS", "WIDTH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(_held(*_sizes(*asked.one), asked)))
        return 0
    options = [word for word in sys.argv[1:] if word in ("--adam", "--on-disk", "--map", "--full")]
    options += ["--steps", str(asked.steps)]
    base, _ = _apart(0, TINY, options)
    for millions in asked.sizes:
        stages, parameters = _apart(millions, asked.width, options)
        held = parameters * 8 / 2**20
        print(f"{parameters / 1e6:.1f} M parameters, {held:.0f} MiB in float64")
        for stage, (most, seconds) in stages.items():
            over = most - base.get(stage, (0.0, 0.0))[0]
            print(f"  {stage:40}  {over:7.0f} MiB  {over / held:5.1f} copies  {seconds:6.1f} s")
    return 0


def _sizes(millions: int, width: int) -> tuple[int, int, int]:
    """Layers, width and words; a sixth of the parameters is the embedding's."""
    words = max(TINY, round(millions * 1e6 / 6 / width))
    return max(2, round(millions * 1e6 * 5 / 6 / (width * (width + 1)))), width, words


def _apart(millions: int, width: int, options: list[str]) -> tuple[dict[str, tuple[float, float]], int]:
    """What a check in a process of its own held per stage, and its number of parameters."""
    command = [sys.executable, __file__, "--one", str(millions), str(width), *options]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    layers, width, words = _sizes(millions, width)
    return json.loads(told[-1]), layers * width * (width + 1) + words * width


class Sampler(threading.Thread):
    """Looks at what this process holds, until it is stopped.

    Attributes:
        stages: stage -> the most MiB held in it, and how long it took.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stages: dict[str, list[float]] = {}
        self._stage = "start"
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(INTERVAL):
            found = self.stages.setdefault(self._stage, [0.0, 0.0])
            found[0] = max(found[0], _anonymous())
            found[1] += INTERVAL

    def enter(self, stage: str) -> None:
        """A stage begins; the sides of the float32 and of the free run are built within theirs."""
        early = self._stage in ("start", "building the torch side in float64")
        if len(stage) < LONGEST and (early or not stage.startswith("building")):
            self._stage = stage

    def stop(self) -> dict[str, list[float]]:
        """The stages, and that over all of them."""
        self._done.set()
        self.join()
        return {
            **self.stages,
            "peak": [max(m for m, _ in self.stages.values()), sum(s for _, s in self.stages.values())],
        }


def _anonymous() -> float:
    """MiB of memory that no file can be dropped for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _held(layers: int, width: int, words: int, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Check a pair, and say what this process held at most in each stage, in MiB."""
    import keras
    import numpy as np
    import torch

    import xcheck
    from xcheck.optim.keras.optimizers import TorchAdam
    from xcheck.records import memory_needed

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(words, width)
            self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(layers))

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens)
            for layer in self.layers:
                x = x + torch.tanh(layer(x))
            return x @ self.embedding.weight.T

    class Keras(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="m")
            self.embedding = keras.layers.Embedding(words, width, name="e")
            self.dense = [keras.layers.Dense(width, name=f"d{i}") for i in range(layers)]

        def call(self, tokens: Any) -> Any:
            x = self.embedding(tokens)
            for layer in self.dense:
                x = x + keras.ops.tanh(layer(x))
            return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))

    def batches(seed: int):
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.integers(0, words, (2, TOKENS)))

    def torch_optimizer(p: Any) -> Any:
        return torch.optim.Adam(p, lr=1e-3) if asked.adam else torch.optim.SGD(p, lr=0.01)

    def keras_optimizer() -> Any:
        return TorchAdam(1e-3) if asked.adam else keras.optimizers.SGD(0.01)

    names = {"embedding.weight": "m/e/embeddings"}
    roles = (("weight", "kernel"), ("bias", "bias"))
    names |= {f"layers.{i}.{role}": f"m/d{i}/{other}" for i in range(layers) for role, other in roles}
    sides = xcheck.TorchSide(Torch, optimizer=torch_optimizer), xcheck.KerasSide(Keras, optimizer=keras_optimizer)
    pair = xcheck.Pair("chain", *sides, batches, weight_map=names if asked.map else None)
    if asked.on_disk:
        memory_needed.available = lambda: 0
    sampler = Sampler()
    sampler.start()
    precision = ("float64", "float32") if asked.full else ("float64",)
    free = 2 if asked.full else 0
    result = xcheck.check(pair, steps=asked.steps, free_steps=free, precision=precision, progress=sampler.enter)
    assert result.verdict in ("EQUIVALENT", "NUMERIC"), result.report()
    return sampler.stop()


if __name__ == "__main__":
    sys.exit(main())
