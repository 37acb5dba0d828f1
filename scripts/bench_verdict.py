#!/usr/bin/env python
"""Measure a whole default run, from nothing to the verdict, over importing both frameworks.

    scripts/bench_verdict.py                                 a small pair, the transformer and the GRU
    scripts/bench_verdict.py --only small --json FILE        some of them; also write the rows as JSON

Each net is checked twice in a process of its own: the first check is what a user waits for after `import`, the second
one what each further check costs in a warm process. Seconds of the process on all cores, which other programs on the
machine disturb less than the seconds that pass; those stand in brackets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

AIM, WARM = 2.5, 2.0
STAGES = ("match", "train", "compare")


def small() -> Any:
    """A pair of the examples."""
    from models.shared_dilated_conv.pair import PAIR

    return PAIR


def transformer() -> Any:
    """3.7 M parameters: 4 layers x 256, batch 8 x 64, vocabulary 2,000."""
    from models.weight_tied_transformer.pair import pair

    return pair(2_000, 64, 256, 4, 4, batch_size=8)


def gru(steps: int = 200, units: int = 8, features: int = 3, batch_size: int = 4) -> Any:
    """A recurrent layer of many steps and few units, and a dense layer on its last output."""
    import numpy as np

    import xcheck

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.recurrent = torch.nn.GRU(features, units, batch_first=True)
                self.head = torch.nn.Linear(units, 1)

            def forward(self, x: Any) -> Any:
                return self.head(self.recurrent(x)[0][:, -1])  # (B, T, F) -> (B, 1)

        return Net()

    def build_keras() -> Any:
        import keras

        x = keras.Input((steps, features))
        return keras.Model(x, keras.layers.Dense(1)(keras.layers.GRU(units)(x)))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            x = rng.standard_normal((batch_size, steps, features))
            yield xcheck.Batch(x, x.mean((1, 2))[:, None])

    def squared(outputs: Any, targets: Any) -> Any:
        return (outputs - targets).square().mean()

    def torch_optimizer(parameters: Any) -> Any:
        import torch

        return torch.optim.SGD(parameters, lr=0.01)

    def keras_optimizer() -> Any:
        import keras

        return keras.optimizers.SGD(0.01)

    sides = (
        xcheck.TorchSide(build_torch, loss=squared, optimizer=torch_optimizer),
        xcheck.KerasSide(build_keras, loss="mean_squared_error", optimizer=keras_optimizer),
    )
    return xcheck.Pair("gru", *sides, batches)


NETS = {"small": small, "transformer": transformer, "gru": gru}


def spent() -> tuple[float, float]:
    """Seconds of this process and of the clock, until now."""
    return time.process_time(), time.perf_counter()


def one(net: str) -> dict[str, Any]:
    """The row of a net, measured in this process."""
    moments = [spent()]
    import keras
    import torch

    import xcheck

    moments.append(spent())
    pair = NETS[net]()
    results = [xcheck.check(pair)]
    moments.append(spent())
    results.append(xcheck.check(pair))
    moments.append(spent())
    names = ("import", "first", "again")
    seconds = {
        name: [round(b - a, 2) for a, b in zip(start, end, strict=True)]
        for name, start, end in zip(names, moments, moments[1:], strict=False)
    }
    timings = {stage: round(results[1].timings.get(stage, 0.0), 2) for stage in STAGES}
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, Keras {keras.__version__}"
    verdicts = [str(result.verdict) for result in results]
    return {"net": net, **seconds, "verdicts": verdicts, "again by stage": timings, "versions": versions}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    head = ("net", "verdict", "import", "first check", "over the import", "second check", *STAGES)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        imported, first, again = (f"{row[name][0]:.1f} ({row[name][1]:.1f})" for name in ("import", "first", "again"))
        ratio = f"{(row['import'][0] + row['first'][0]) / row['import'][0]:.1f}"
        stages = (f"{row['again by stage'][stage]:.1f}" for stage in STAGES)
        lines.append("| " + " | ".join((row["net"], row["verdicts"][0], imported, first, ratio, again, *stages)) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; the exit code, 1 where two checks of one pair do not agree."""
    parser = argparse.ArgumentParser(description="Measure a whole default run.")
    parser.add_argument("--only", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--json", type=Path, help="where the rows go as well")
    parser.add_argument("--one", choices=list(NETS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    root = str(Path(__file__).resolve().parents[1])
    if asked.one:
        sys.path.insert(0, root)
        print(json.dumps(one(asked.one)))
        return 0
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", **os.environ}
    rows: list[dict[str, Any]] = []
    for net in asked.only:
        command = [sys.executable, __file__, "--one", net]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=settings).stdout
        rows.append(json.loads(printed.splitlines()[-1]))
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; {rows[0]['versions']}; "
    where += time.strftime("%Y-%m-%d")
    print(
        table(rows),
        f"\naims: {AIM} times the import for the small pair, {WARM} s for its second check",
        where,
        sep="\n",
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": where, "rows": rows}, indent=1))
    return 0 if all(len(set(row["verdicts"])) == 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
