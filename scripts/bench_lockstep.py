#!/usr/bin/env python
"""Measure what each further checked step costs, over the sum of one step of both bare training loops in float64.

    scripts/bench_lockstep.py                                shared_dilated_conv and a tied transformer
    scripts/bench_lockstep.py --large                        a tied transformer of about 100 M parameters, too
    scripts/bench_lockstep.py --only conv --json FILE        some of them; also write the rows as JSON

The bare loops are those of a user: PyTorch eager, and Keras's compiled `train_on_batch`. Both are measured in the
process of the check, before it. "step" is a checked step with losses, gradients and updates: the reference with its
twins, the other side, and the comparison of their records. "every activation" adds one pass of each side with the
outputs of all layers and their gradients. The ratios are of the CPU seconds of the process, which other programs on
the machine disturb less than the seconds that pass; both are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import torch

import xcheck
from models.shared_dilated_conv.pair import PAIR as CONV
from models.weight_tied_transformer.pair import pair as transformer
from xcheck.frameworks.sides import Sides, silent
from xcheck.phases.begin import begin
from xcheck.records.calls import nowhere
from xcheck.stepping.lockstep import REPEATED

AIM = 1.0
AIM_OF_ACTIVATIONS = 2.5
STEP_PHASES = ("inventory", "initialization", "sync", "forward", "loss", "gradient", "update", "state")

NETS: dict[str, Callable[[], xcheck.Pair]] = {
    "shared_dilated_conv": lambda: CONV,
    "transformer 4 x 256": lambda: transformer(2_000, 64, 256, 4, 4, batch_size=8),
}
LARGE = {"transformer 10 x 896": lambda: transformer(2_000, 64, 896, 14, 10, batch_size=8)}


@dataclass(frozen=True)
class Spent:
    """Seconds: of the process on all cores, and those that passed."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Row:
    """One net; seconds of one step each.

    Attributes:
        net: its name.
        parameters: trained numbers of the PyTorch model.
        torch, keras: of the bare loops.
        step: a further checked step.
        activations: one pass of both sides with the outputs of all layers and their gradients.
    """

    net: str
    parameters: int
    torch: Spent
    keras: Spent
    step: Spent
    activations: Spent

    @property
    def ratio(self) -> float:
        """A checked step over the bare loops."""
        return self.step.cpu / (self.torch.cpu + self.keras.cpu)

    @property
    def ratio_of_activations(self) -> float:
        """Likewise, with every activation."""
        return (self.step.cpu + self.activations.cpu) / (self.torch.cpu + self.keras.cpu)


class Clock:
    """Keeps what passed between two moments."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []
        self.start()

    def start(self) -> None:
        """What comes next counts from now."""
        self._from = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        """Keep what passed since the last start, and start again."""
        cpu, wall = self._from
        self.spent.append(Spent(time.process_time() - cpu, time.perf_counter() - wall))
        self.start()

    def typical(self, skip: int = 0) -> Spent:
        """The median, without the first ones."""
        kept = self.spent[skip:]
        return Spent(statistics.median(s.cpu for s in kept), statistics.median(s.wall for s in kept))


@contextmanager
def in_float64() -> Iterator[None]:
    """Both frameworks make float64 by default until the block ends."""
    policy = keras.config.dtype_policy()
    torch.set_default_dtype(torch.float64)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


def bare_loops(pair: xcheck.Pair, steps: int) -> tuple[Spent, Spent, int]:
    """Seconds of a step of both bare loops, in turns, after two of each; and the number of parameters."""
    sides: Any = pair
    with in_float64():
        model = sides.torch.build().double()
        optimizer = sides.torch.optimizer(model.parameters())
        port = sides.keras.build()
        port.compile(sides.keras.optimizer(), sides.keras.loss)
        clocks, data = (Clock(), Clock()), pair.batches(0)
        for _ in range(2 + steps):
            batch = next(iter(data))
            torch_data, keras_data = prepared(sides.torch, batch), prepared(sides.keras, batch)
            inputs, targets = (torch.from_numpy(np.array(wide(a))) for a in torch_data)
            clocks[0].start()
            optimizer.zero_grad()
            loss = sides.torch.loss(model(inputs), targets)
            if sides.torch.penalty is not None:
                loss = loss + sides.torch.penalty(model)
            loss.backward()
            optimizer.step()
            clocks[0].stop()
            port_inputs, port_targets = map(wide, keras_data)
            clocks[1].start()
            port.train_on_batch(port_inputs, port_targets)
            clocks[1].stop()
    return clocks[0].typical(2), clocks[1].typical(2), sum(p.numel() for p in model.parameters())


def prepared(side: Any, batch: xcheck.Batch) -> tuple[Any, Any]:
    """Inputs and targets as a side takes them."""
    return side.prepare(batch) if side.prepare is not None else (batch.inputs, batch.targets)


def wide(array: Any) -> Any:
    """Floats in float64; ids as they are."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def checked_steps(pair: xcheck.Pair, steps: int) -> Spent:
    """Seconds of a checked step after the first ones, which are repeated and split by use besides.

    Raises:
        AssertionError: the pair is not equivalent.
    """
    clock = Clock()

    def progress(text: str) -> None:
        if text.startswith("step "):
            clock.stop()

    count = REPEATED + steps
    settings: dict[str, Any] = {"precision": ("float64",), "phases": STEP_PHASES, "reach": "none", "free_steps": 0}
    result = xcheck.check(pair, steps=count, progress=progress, **settings)
    assert result.verdict in ("EQUIVALENT", "INCONCLUSIVE"), str(result)  # not every phase ran
    return clock.typical(REPEATED)


def every_activation(pair: xcheck.Pair, steps: int) -> Spent:
    """Seconds of one pass of both sides in which the outputs of all layers are recorded, with their gradients."""
    clock = Clock()
    sides = Sides(begin(pair, 0, 1, None), "cpu", silent)
    batch = next(iter(pair.batches(0)))
    with sides.open("torch") as one, sides.open("keras") as other:
        for _ in range(1 + steps):
            clock.start()
            for runner in (one, other):
                assert runner.calls(batch, training=True, gradients=True, inside=nowhere)
            clock.stop()
    return clock.typical(1)


def measured(net: str, pair: xcheck.Pair, steps: int) -> Row:
    """The row of a net."""
    torch_step, keras_step, parameters = bare_loops(pair, steps)
    return Row(net, parameters, torch_step, keras_step, checked_steps(pair, steps), every_activation(pair, steps))


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown: CPU seconds, in brackets those that passed."""
    head = ("net", "parameters", "PyTorch", "Keras", "checked step", "over both", "every activation", "over both")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        spent = [f"{s.cpu:.3f} ({s.wall:.3f})" for s in (row.torch, row.keras, row.step, row.activations)]
        cells = (row.net, f"{row.parameters:,}", *spent[:3], f"{row.ratio:.1f}", spent[3])
        lines.append("| " + " | ".join((*cells, f"{row.ratio_of_activations:.1f}")) + " |")
    return "\n".join(lines)


def machine() -> str:
    """Where this was measured."""
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, Keras {keras.__version__}"
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch"
    return f"{platform.system()} {platform.machine()}, {threads}; {versions}; {time.strftime('%Y-%m-%d')}"


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description="Measure what a further checked step costs.")
    parser.add_argument("--large", action="store_true", help="also a transformer of about 100 M parameters")
    parser.add_argument("--only", nargs="+", default=[], help="nets whose name has one of these words")
    parser.add_argument("--steps", type=int, default=5, help="that are measured")
    parser.add_argument("--json", type=Path, help="where the rows go as well")
    asked = parser.parse_args()
    nets = NETS | (LARGE if asked.large else {})
    chosen = {name: make for name, make in nets.items() if not asked.only or any(word in name for word in asked.only)}
    rows = [measured(name, make(), asked.steps) for name, make in chosen.items()]
    print(table(rows), f"\naims: {AIM} and {AIM_OF_ACTIVATIONS}\n{machine()}", sep="\n")
    if asked.json is not None:
        ratios = [{"ratio": r.ratio, "ratio_of_activations": r.ratio_of_activations} for r in rows]
        data = [asdict(row) | more for row, more in zip(rows, ratios, strict=True)]
        asked.json.write_text(json.dumps({"machine": machine(), "rows": data}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
