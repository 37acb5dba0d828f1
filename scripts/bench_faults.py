#!/usr/bin/env python
"""Plant faults of ports in nets of several kinds, and measure what a check finds of each.

    scripts/bench_faults.py                            every fault in every net that can have it
    scripts/bench_faults.py --seed 7                   another selection: places, sides, sizes and numbers are drawn
    scripts/bench_faults.py --families "losses"        only these families; --only WORD those whose name has the word
    scripts/bench_faults.py --limit 40                 that many, spread over all
    scripts/bench_faults.py --healthy 50               also that many of the nets without their fault
    scripts/bench_faults.py --workers 2 --json FILE    in processes; every outcome as it comes
    scripts/bench_faults.py --write                    also write docs/faults.md

Beside each check stand the rules that are in use today, on the same nets, weights and batches.
Exits with 1 if a wrong cause is confirmed, or a net without a fault is not EQUIVALENT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "faults"))

import numpy as np
from formula_faults import FORMULA_FAULTS
from layer_faults import LAYER_FAULTS
from planting import Planted, planted
from rich.console import Console
from training_faults import TRAINING_FAULTS

import xcheck
from xcheck.frameworks.sides import Sides, silent
from xcheck.pairs.batches import batches_of
from xcheck.phases.begin import begin, live_reference
from xcheck.phases.checks.matched import gradient_of, parameter_items
from xcheck.phases.inventory import match_sides
from xcheck.records.trace import Array, StepRecord
from xcheck.stepping.lockstep import ReferenceStep, StepPair

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "faults.md"
FAULTS = (*LAYER_FAULTS, *TRAINING_FAULTS, *FORMULA_FAULTS)
STEPS = 10
"""Steps of plain training in the rule that compares weights after some."""

WORDS: Mapping[str, str] = {
    "activation": "relu leaky_relu elu gelu silu tanh sigmoid hardtanh relu6 clamp clip softplus "
    "hardsigmoid hard_sigmoid",
    "add": "add mul multiply",
    "multiply": "mul multiply",
    "subtract": "sub subtract",
    "concat": "cat concat concatenate",
    "softmax": "softmax",
    "scale": "mul multiply",
    "shift": "add",
    "pooled": "mean sum amax max reduce_mean reduce_sum reduce_max",
    "deviation": "std sqrt var",
    "flat": "flatten permute transpose reshape",
    "last": "getitem get_item slice __getitem__",
    "shuffle": "reshape transpose swapaxes",
    "clamp": "clamp clip",
    "unit": "sum sqrt add div truediv divide true_divide mul multiply",
    "detach": "detach stop_gradient",
    "roll": "roll",
    "reverse": "flip",
    "upsample": "interpolate resize",
    "dropped": "dropout",
}
"""What the functions of a part that is no layer are called in either framework."""


@dataclass(frozen=True)
class Outcome:
    """What came of one net.

    Attributes:
        name: fault@host. family, side: of the fault; "healthy" where there is none.
        verdict, phase, step, place: of the result, the place as (torch, keras).
        causes: (id, whether confirmed, summary), in the order of the report.
        found, right_phase, right_step: against what was planted.
        first, three: whether the first place, or one of the first three, is right; None where it has none.
        named: the right cause is confirmed. wrong: other causes that are.
        rules: rule in use today -> whether it sees a difference; None where it could not be asked.
    """

    name: str
    family: str
    side: str = ""
    verdict: str = ""
    phase: str = ""
    step: int | None = None
    place: tuple[str, str] = ("", "")
    truth: str = ""
    causes: tuple[tuple[str, bool, str], ...] = ()
    found: bool = False
    right_phase: bool = False
    right_step: bool = False
    first: bool | None = None
    three: bool | None = None
    named: bool = False
    wrong: tuple[str, ...] = ()
    seconds: float = 0.0
    rules: Mapping[str, bool | None] = field(default_factory=dict[str, "bool | None"])
    error: str = ""


def outcome_of(one: Planted, rules: bool = True) -> Outcome:
    """Check one planted fault, and ask the rules in use today."""
    started = time.process_time()
    pair = one.pair()
    truth = f"{one.fault.phase} {one.fault.step}, {one.place or 'no part'} ({one.side}): {' '.join(one.fault.causes)}"
    made = Outcome(one.name, one.fault.family, one.side, truth=truth)
    try:
        with _quiet():
            result = _checked(pair, max(2, one.fault.step))
    except Exception as error:  # noqa: BLE001 - a crash is an outcome too
        return replace(made, error=f"{type(error).__name__}: {error}"[:300])
    seconds = time.process_time() - started
    where = result.first_divergence
    causes = tuple((c.id, c.confirmed, c.summary) for c in result.causes)
    confirmed = [c.id for c in result.causes if c.confirmed]
    places = [(where.torch, where.keras)] if where else []
    places += [(c.torch, c.keras) for c in result.causes if c.confirmed]
    hits = [_is_at(place, one) for place in places]
    bad = next((c for c in result.checks if c.verdict not in ("EQUIVALENT", "NUMERIC")), None)
    phase = where.phase if where else bad.phase if bad else ""
    step = where.step if where else bad.step if bad else None
    return replace(
        made,
        verdict=str(result.verdict),
        phase=phase,
        step=step,
        place=(str(where.torch), str(where.keras)) if where else ("", ""),
        causes=causes,
        found=str(result.verdict) == "DIFFERENT",
        right_phase=phase == one.fault.phase,
        right_step=step in (one.fault.step, None),
        first=(bool(hits) and hits[0]) if one.place else None,
        three=any(hits[:3]) if one.place else None,
        named=any(name in one.fault.causes for name in confirmed),
        wrong=tuple(name for name in confirmed if name not in one.fault.causes),
        seconds=round(seconds, 2),
        rules=_rules(pair) if rules else {},
    )


def healthy(one: Planted) -> Outcome:
    """Check the net of a fault without it."""
    started = time.process_time()
    made = Outcome(f"{one.name} without it", "healthy")
    try:
        with _quiet():
            result = _checked(one.partner(), 2)
    except Exception as error:  # noqa: BLE001
        return replace(made, error=f"{type(error).__name__}: {error}"[:300])
    bad = next((c for c in result.checks if c.verdict not in ("EQUIVALENT", "NUMERIC")), None)
    causes = tuple((c.id, c.confirmed, c.summary) for c in result.causes)
    alarm = f"{bad.phase} {bad.name} {bad.detail}" if bad else ""
    seconds = round(time.process_time() - started, 2)
    with _quiet():
        rules = _rules(one.partner())
    return replace(
        made,
        verdict=str(result.verdict),
        phase=alarm,
        causes=causes,
        seconds=seconds,
        found=bad is not None,
        rules=rules,
    )


def _checked(pair: xcheck.Pair, steps: int) -> xcheck.Result:
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0, reach="none", device="cpu")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield


def _is_at(place: tuple[str | None, str | None], one: Planted) -> bool:
    """Whether a place is that of the fault, on one side at least: its layer, or a function of its kind."""
    for name in one.place.split():
        part = next((p for setup in (one.faulty, one.healthy) for p in setup.parts if p.name == name), None)
        words = {name, f"{name}_conv"} | set(WORDS.get(part.kind, "").split() if part else ())
        if any(words & set(re.findall(r"\w+", at or "")) for at in place):
            return True
    return False


# The rules in use today ---------------------------------------------------------------------------------------------

RULES = ("outputs 1e-3", "outputs 1e-5", "gradients, torch.testing", "cosine 0.99", f"{STEPS} steps, mean 1e-6")


def _rules(pair: xcheck.Pair) -> dict[str, bool | None]:
    """Which of the rules see a difference, from equal weights."""
    seen: dict[str, bool | None] = dict.fromkeys(RULES)
    try:
        with _quiet():
            steps = _trained(pair)
    except Exception:  # noqa: BLE001 - nothing to compare, as with parameters that have no counterpart
        return seen
    first, outputs = steps[0][0], list[tuple[Array, Array]]()
    for name, array in first.reference.record.inference.items():
        other = first.follower.inference.get(name)
        if other is None or other.shape != array.shape:
            return seen
        outputs.append((array.astype(np.float32), other.astype(np.float32)))
    for name, tolerance in (("outputs 1e-3", 1e-3), ("outputs 1e-5", 1e-5)):
        seen[name] = not all(np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in outputs)
    seen["gradients, torch.testing"] = not all(np.allclose(a, b, rtol=1.3e-6, atol=1e-5) for a, b in steps[0][1])
    seen["cosine 0.99"] = not all(_cosine(a, b) >= 0.99 for a, b in outputs)
    seen[RULES[-1]] = not all(np.abs(a - b).mean() <= 1e-6 for a, b in steps[-1][2])
    return seen


def _cosine(a: Array, b: Array) -> float:
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / sizes if sizes else 1.0


Arrays = list[tuple[Array, Array]]


def _trained(pair: xcheck.Pair) -> list[tuple[StepPair, Arrays, Arrays]]:
    """Each of some steps from equal weights, with gradients and weights of both sides in one layout."""
    findings = begin(pair, 0, STEPS, None, "none")
    sides, made = Sides(findings, "cpu", silent), list[tuple[StepPair, Arrays, Arrays]]()
    with sides.open("torch") as torch, sides.open("keras") as keras:
        plan = match_sides(findings, live_reference(findings, torch), keras)

        def weight(record: StepRecord, path: str) -> Array | None:
            return record.after.parameters.get(path)

        keras.write(plan.for_follower(torch.read(), slots=False))
        for number, batch in enumerate(batches_of(pair, 0, STEPS), 1):
            first = number == 1
            record, other = (side.step(number, batch, observe=first) for side in (torch, keras))
            step, both = StepPair(ReferenceStep(batch, record, ()), other), list[Arrays]()
            for get, values in ((gradient_of, False), (weight, True)):
                items = parameter_items(plan, plan.trained, step, get, values=values)
                both.append([(i.reference, i.other) for i in items if i.reference is not None and i.other is not None])
            made.append((step, both[0], both[1]))
    return made


# The table ----------------------------------------------------------------------------------------------------------

HEADER = ("family", "planted", "found", "phase", "step", "place", "of three", "cause", "wrong cause", "CPU seconds")


def _share(values: Iterable[bool | None]) -> str:
    kept = [value for value in values if value is not None]
    return f"{sum(kept) / len(kept):.0%}" if kept else ""


def table(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A row for each family, and one for all."""
    faults = [o for o in outcomes if o.family != "healthy"]
    rows: list[tuple[str, ...]] = []
    for family in (*dict.fromkeys(o.family for o in faults), "all"):
        of = [o for o in faults if family in (o.family, "all")]
        shares = (
            _share(getattr(o, key) for o in of)
            for key in ("found", "right_phase", "right_step", "first", "three", "named")
        )
        wrong = sum(bool(o.wrong) for o in of)
        rows.append((family, str(len(of)), *shares, str(wrong), f"{sum(o.seconds for o in of) / len(of):.1f}"))
    return rows


def rules_table(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """What each rule in use today sees, and how often it sees something where nothing is."""
    faults, sound = [o for o in outcomes if o.family != "healthy"], [o for o in outcomes if o.family == "healthy"]
    rows = [
        (
            rule,
            _share(o.rules.get(rule) for o in faults if o.rules),
            _share(o.rules.get(rule) for o in sound if o.rules),
        )
        for rule in RULES
    ]
    alarms = _share(o.found for o in sound)
    return [*rows, ("xcheck", _share(o.found for o in faults), alarms)]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def page(outcomes: Sequence[Outcome], command: str) -> str:
    """The page of the docs."""
    faults, sound = [o for o in outcomes if o.family != "healthy"], [o for o in outcomes if o.family == "healthy"]
    many = len({o.name.split("@")[0] for o in faults})
    wrong = [f"| `{o.name}` | {o.truth} | {', '.join(o.wrong)} |" for o in faults if o.wrong]
    missed = [f"| `{o.name}` | {o.truth} | {o.verdict or o.error} |" for o in faults if not o.found]
    alarms = sum(o.found or bool(o.error) for o in sound)
    blocks = [
        "# Planted faults",
        "Faults that ports have, each planted in nets of several kinds: which are found, at which place, and with "
        "which cause. Place, side, sizes and numbers of each are drawn by a seed: another seed is another selection.",
        f"```text\n{command}\n```",
        f"{len(faults)} planted: {many} faults in {len({o.name.split('@')[1] for o in faults})} nets, 2 or more steps "
        f"in float64 on TensorFlow. {len(sound)} nets without a fault: {alarms} false alarms.",
        "- *Place*: the first place that the report names is the layer or function in which the fault is; *of three*, "
        "or that of one of the first two confirmed causes. Faults of losses and updates are in no layer.\n"
        "- *Cause*: one that is right is confirmed. *Wrong cause*: nets in which any other is confirmed.",
        _markdown(HEADER, table(outcomes)),
        "## The rules in use today",
        "On the same nets, from the same weights, on the same batches: outputs by `allclose` in float32, gradients by "
        f"the defaults of `torch.testing`, the cosine of the outputs, and the weights after {STEPS} steps by their "
        "mean difference. *Seen* is the share of faults at which the rule fails, *alarms* that of nets without one.",
        _markdown(("rule", "seen", "alarms"), rules_table(outcomes)),
        "## Not found",
        _markdown(("fault", "truth", "came out"), []) + "\n" + "\n".join(missed) if missed else "None.",
        "## Wrong causes",
        _markdown(("fault", "truth", "confirmed"), []) + "\n" + "\n".join(wrong) if wrong else "None.",
    ]
    return "\n\n".join(blocks) + "\n"


def _spread(items: Sequence[Planted], limit: int) -> list[Planted]:
    """That many of them, at equal distances."""
    return [items[i * len(items) // limit] for i in range(limit)] if 0 < limit < len(items) else list(items)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the selection")
    parser.add_argument("--families", help="only these, separated by commas")
    parser.add_argument("--only", help="only those whose name has this word")
    parser.add_argument("--limit", type=int, default=0, help="at most so many, spread over all")
    parser.add_argument("--healthy", type=int, default=0, help="so many nets without a fault, too")
    parser.add_argument("--no-rules", action="store_true", help="leave the rules in use today out")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="write every outcome there; with --resume, read it first")
    parser.add_argument("--resume", action="store_true", help="leave out what the file has already")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    asked = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    families = {name.strip() for name in (asked.families or "").split(",") if name}
    chosen = [one for one in planted(FAULTS, asked.seed) if not families or one.fault.family in families]
    chosen = _spread([one for one in chosen if not asked.only or asked.only in one.name], asked.limit)
    jobs = [(asked.seed, one.name, False, not asked.no_rules) for one in chosen]
    jobs += [(asked.seed, one.name, True, True) for one in _spread(chosen, asked.healthy)] if asked.healthy else []
    outcomes = _read(asked.json) if asked.json and asked.resume else []
    done = {o.name for o in outcomes}
    jobs = [job for job in jobs if f"{job[1]} without it" * job[2] + job[1] * (not job[2]) not in done]
    for outcome in _made(jobs, asked.workers):
        outcomes.append(outcome)
        if not (outcome.named and outcome.right_phase and outcome.first is not False) or outcome.wrong:
            console.print(_line(outcome), markup=False)
        if asked.json:
            asked.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1))
    for header, rows in ((HEADER, table(outcomes)), (("rule", "seen", "alarms"), rules_table(outcomes))):
        console.print(_markdown(header, rows), markup=False)
    if asked.write:
        command = f"scripts/bench_faults.py --seed {asked.seed} --healthy {asked.healthy} --write"
        PAGE.write_text(page(outcomes, f".venv/bin/python {command}"))
    return 1 if any(o.wrong or (o.family == "healthy" and o.found) for o in outcomes) else 0


def _line(o: Outcome) -> str:
    causes = "; ".join(f"{name}{'' if sure else '?'}" for name, sure, _ in o.causes)
    where = " / ".join(o.place)
    wrong = " WRONG" if o.wrong else ""
    return f"{o.name} [{o.truth}]: {o.error or o.verdict} {o.phase} {o.step} at {where}: {causes}{wrong}"


def _read(path: Path) -> list[Outcome]:
    if not path.is_file():
        return []
    made: list[Outcome] = []
    for entry in json.loads(path.read_text()):
        entry |= {key: tuple(entry[key]) for key in ("place", "wrong")}
        made.append(Outcome(**{**entry, "causes": tuple(tuple(c) for c in entry["causes"])}))
    return made


Job = tuple[int, str, bool, bool]
"""(seed, fault@host, whether without the fault, whether the rules are asked)."""


def _run(job: Job) -> Outcome:
    seed, name, sound, rules = job
    one = next(p for p in planted(FAULTS, seed) if p.name == name)
    return healthy(one) if sound else outcome_of(one, rules)


def _made(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    if workers < 2:
        yield from map(_run, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_run, jobs)


if __name__ == "__main__":
    sys.exit(main())
