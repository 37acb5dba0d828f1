#!/usr/bin/env python
"""Measure how often matching without a map is wrong, on random nets that are built twice from one description.

    scripts/bench_random_matching.py                    500 nets, both sides in NumPy
    scripts/bench_random_matching.py --frameworks       the same nets in PyTorch and Keras, checked whole
    scripts/bench_random_matching.py --faults           each net with one planted fault in the port
    scripts/bench_random_matching.py --nets 50 --seed 7 --naming misleading

A match is wrong if the layout is not the true one, or if the two sides do not compute the same with the weights where
it puts them: layers that are added up may be exchanged. In NumPy a net takes milliseconds, and the verdict is what a
check makes of the plan and of the outputs under it; with `--frameworks` it is that of the check itself.

Exits with 1 if a wrong match is claimed, a healthy net is DIFFERENT, or one with a fault EQUIVALENT.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import numpy as np
from numpy_nets import NumpySide, numpy_sides, same_under
from random_nets import NAMING, Net, described, pair_of, planted, true_map
from rich.console import Console

import xcheck
from xcheck.matching import MatchPlan, plan_by_value
from xcheck.phases.checks.setup import inventory_checks
from xcheck.phases.findings import Findings
from xcheck.phases.unproven import judge_by_match, settling
from xcheck.records.result import Check, Verdict

MOST_LINES = 3
"""Lines of a map that may be asked for."""

Map = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """What came of one net.

    Attributes:
        verdict: of the check.
        wrong: PyTorch names whose match is wrong. claimed: those of them that are said to be found by value.
        blamed: a verdict that rests on the matching, or a confirmed cause that a wrong match made.
        lines: how many lines of a map settle what is open; None where more than `MOST_LINES` are needed.
    """

    verdict: str
    wrong: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    blamed: bool = False
    lines: int | None = 0
    seconds: float = 0.0


def judged(net: Net, frameworks: bool) -> Outcome:
    """Match, or check, one net, and add the lines of a map that are asked for until it is settled."""
    started = time.process_time()
    made = _checked if frameworks else _matched
    found, asked = made(net, {})
    lines: int | None = 0
    if found.verdict == "INCONCLUSIVE" and not net.fault:
        right, given, now = true_map(net), dict[str, tuple[str, str]](), found
        while now.verdict == "INCONCLUSIVE" and len(given) < MOST_LINES and (left := [a for a in asked if a in right]):
            given[left[0]] = right.pop(left[0])
            now, asked = made(net, given)
        lines = len(given) if now.verdict == "EQUIVALENT" else None
    return Outcome(found.verdict, found.wrong, found.claimed, found.blamed, lines, time.process_time() - started)


def _matched(net: Net, given: Map) -> tuple[Outcome, list[str]]:
    torch, keras, batch = numpy_sides(net)
    plan = plan_by_value(torch, keras, batch, given)
    verdict = _verdict(net, plan, torch, keras, batch)
    matches = [(m.name("torch"), m.name("keras"), m.layout.name, m.evidence) for m in plan.parameters]
    return _outcome(net, verdict, matches, verdict == "INCONCLUSIVE"), settling(plan)


def _verdict(net: Net, plan: MatchPlan, torch: NumpySide, keras: NumpySide, batch: xcheck.Batch) -> str:
    """What a check of the forward pass makes of a plan: its doubts, its open ends, and outputs that differ."""
    findings = Findings(pair_of(net), 0, 1, ("inventory", "forward"), complete=False)
    findings.checks += inventory_checks(plan, torch.inventory(), keras.inventory(), ())
    if not plan.needed:
        keras.write(plan.for_follower(torch.read(), slots=False))
        mine, theirs = torch.infer(batch), keras.infer(batch)
        same = all(np.allclose(array, theirs[name], rtol=1e-9, atol=1e-12) for name, array in mine.items())
        verdict = Verdict.EQUIVALENT if same else Verdict.DIFFERENT
        findings.checks.append(Check("forward", "float64", 1, "outputs", None, None, verdict))
        judge_by_match(findings, plan)
    return str(Verdict.worst([check.verdict for check in findings.checks]))


def _checked(net: Net, given: Map) -> tuple[Outcome, list[str]]:
    phases = ("inventory", "sync", "forward")
    pair = pair_of(net, dict(given) or None)
    result = xcheck.check(pair, steps=1, free_steps=0, precision=("float64",), phases=phases, reach="none")
    found = [c for c in result.checks if c.phase == "inventory" and c.torch and c.keras and ", by " in c.detail]
    matches = [(c.torch, c.keras, *c.detail.split(", ", 1)) for c in found if c.torch]
    open_ = [c for c in result.checks if c.verdict == "INCONCLUSIVE"]
    by_matching = str(result.verdict) == "INCONCLUSIVE" and any(
        c.phase == "inventory" or "matching" in c.detail for c in open_
    )
    layouts = ("transposed_kernel", "permuted_axes", "other_weight", "layout")
    confirmed = any(c.confirmed and c.id in layouts for c in result.causes)
    asked = [m[0] for m in matches if m[3] != "by value" and m[0] in true_map(net)]
    return _outcome(net, str(result.verdict), matches, by_matching or confirmed), asked


def _outcome(net: Net, verdict: str, matches: Sequence[tuple[Any, ...]], by_matching: bool) -> Outcome:
    right = true_map(net)
    crossed = [m for m in matches if right.get(m[0], ("",))[0] != m[1]]
    wrong = {m[0]: m[3] for m in matches if m[0] not in right or m[2] not in (dict(right.values()).get(m[1]), "")}
    if crossed and not same_under(net, {m[0]: m[1] for m in matches}):
        wrong |= {m[0]: m[3] for m in crossed}
    claimed = tuple(name for name, evidence in wrong.items() if evidence == "by value")
    return Outcome(verdict, tuple(wrong), claimed, by_matching)


def rates(outcomes: Sequence[Outcome], faulty: bool) -> list[str]:
    """Lines that say what came of some nets."""
    many = len(outcomes)
    count = Counter(o.verdict for o in outcomes)
    lines = [
        f"nets                        {many}",
        f"verdicts                    {', '.join(f'{v} {n}' for v, n in count.most_common())}",
        f"wrong, claimed by value     {sum(bool(o.claimed) for o in outcomes)} nets, "
        f"{sum(len(o.claimed) for o in outcomes)} parameters",
        f"wrong, not claimed          {sum(bool(o.wrong) and not o.claimed for o in outcomes)} nets",
    ]
    if faulty:
        lines += [
            f"EQUIVALENT with a fault     {count['EQUIVALENT']}",
            f"blamed on the matching      {sum(o.blamed for o in outcomes)}",
        ]
    else:
        settled = Counter(o.lines for o in outcomes if o.verdict == "INCONCLUSIVE")
        told = ", ".join(f"{n} by {k} lines" if k is not None else f"{n} not settled" for k, n in settled.items())
        lines += [
            f"healthy and DIFFERENT       {count['DIFFERENT']}",
            f"INCONCLUSIVE                {count['INCONCLUSIVE'] / many:.1%}" + (f" ({told})" if told else ""),
        ]
    seconds = sorted(o.seconds for o in outcomes)
    return [*lines, f"CPU seconds a net           {sum(seconds) / many:.2f}, at most {seconds[-1]:.1f}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=500, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first net; each has the next one")
    parser.add_argument("--naming", choices=NAMING, help="how both sides name their layers; without it, any")
    parser.add_argument("--faults", action="store_true", help="plant one fault in each")
    parser.add_argument("--frameworks", action="store_true", help="build the nets in PyTorch and Keras")
    parser.add_argument("--show", action="store_true", help="a line for each net that did not come out right")
    asked = parser.parse_args()
    console = Console(highlight=False)
    outcomes: list[Outcome] = []
    for seed in range(asked.seed, asked.seed + asked.nets):
        net = described(seed, asked.naming)
        outcome = judged(planted(net) if asked.faults else net, asked.frameworks)
        outcomes.append(outcome)
        good = outcome.verdict == ("DIFFERENT" if asked.faults else "EQUIVALENT")
        if asked.show and (not good or outcome.wrong or outcome.blamed):
            told = f"{seed} {net.form} {net.naming} {len(net.layers)} layers: {outcome.verdict}, lines {outcome.lines}"
            wrong = ", ".join(outcome.wrong[:4])
            console.print(
                f"{told}, {len(outcome.wrong)} wrong ({wrong}), {len(outcome.claimed)} claimed", soft_wrap=True
            )
    for line in rates(outcomes, asked.faults):
        console.print(line)
    bad = "EQUIVALENT" if asked.faults else "DIFFERENT"
    return 1 if any(o.claimed or o.verdict == bad for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
