"""The command that checks many pairs: sweep."""

from __future__ import annotations

import re
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import PairError
from ..phases.trajectory import FREE_STEPS
from ..records.result import Verdict
from .activity import counting
from .ending import QUIET_WIDTH
from .onnx import EXIT_CODES
from .options import (
    BackendOption,
    BudgetOption,
    DeviceOption,
    PhasesOption,
    ReachOption,
    StepsOption,
    device_of,
    reach_of,
    seconds_of,
    settings_of,
)
from .sweep import Task, TaskOutcome, complaints, plan, summary, sweep, table


def sweep_pairs(
    names: Annotated[list[str] | None, typer.Argument(help="Pairs, as `run` takes them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every pair under models/.")] = False,
    variants: Annotated[bool, typer.Option("--variants", help="Check every pair of each file, not only PAIR.")] = False,
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE; repeat a key to try several values.")
    ] = None,
    steps: StepsOption = 5,
    free_steps: Annotated[int | None, typer.Option(help=f"Steps of the free run; {FREE_STEPS} by default.")] = None,
    precision: Annotated[str, typer.Option(help="float64, or float64,float32.")] = "float64,float32",
    device: DeviceOption = "auto",
    keras_backend: BackendOption = None,
    phases: PhasesOption = None,
    jobs: Annotated[
        int | None, typer.Option(min=0, help="Processes; one per core by default, 0 runs all in this process.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results, one folder per check.")] = Path(
        "xcheck-results/sweep"
    ),
    expect: Annotated[
        bool, typer.Option("--expect", help="Exit with 0 if every pair had its declared verdict.")
    ] = False,
    reach: ReachOption = "default",
    budget: BudgetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only the checks that an earlier sweep did not finish.")
    ] = False,
) -> None:
    """Check many pairs, with several seeds and settings, in several processes."""
    if not re.fullmatch(r"\d+(,\d+)*", seeds):
        raise PairError("--seeds takes whole numbers from 0, separated by commas.", numbers=f"--seeds {seeds}")
    values: dict[str, list[Any]] = {}
    for item in settings or ():
        for key, value in settings_of([item]).items():
            values.setdefault(key, []).append(value)
    tasks = plan(names or [], every=every, variants=variants, seeds=[int(s) for s in seeds.split(",")], settings=values)
    options = {
        "steps": steps,
        "free_steps": free_steps,
        "precision": precision.split(","),
        "device": device_of(device),
        "keras_backend": keras_backend,
        "reach": reach_of(reach),
        **({} if budget is None else {"budget": seconds_of(budget)}),
        "phases": None if phases is None else [p for p in phases.split(",") if p],
    }
    started, done = time.perf_counter(), list[TaskOutcome]()
    try:
        with (
            counting(len(tasks)) as one_more,
            closing(sweep(tasks, out, jobs=jobs, ray=ray, options=options, resume=resume)) as outcomes,
        ):
            for outcome in outcomes:
                done.append(outcome)
                one_more(f"{outcome.task.label} {outcome.verdict}")
    finally:  # also if the sweep is interrupted
        _print_outcomes(done, tasks, time.perf_counter() - started, out)
    raise typer.Exit(_exit_code_of_all(done, expect))


def _print_outcomes(done: list[TaskOutcome], tasks: list[Task], seconds: float, out: Path) -> None:
    order = [task.label for task in tasks]
    done.sort(key=lambda outcome: order.index(outcome.task.label))
    Console(width=None if sys.stdout.isatty() else QUIET_WIDTH).print(table(done))
    unfinished = f"; {len(tasks) - len(done)} of {len(tasks)} did not finish" if len(done) < len(tasks) else ""
    print("", *complaints(done), f"{summary(done)}; {seconds:.0f} s{unfinished}", sep="\n")
    print(f"written: {out}/*/result.json" + ("; to continue: the same command with --resume" if unfinished else ""))


def _exit_code_of_all(outcomes: list[TaskOutcome], expect: bool) -> int:
    if any(outcome.verdict == "ERROR" for outcome in outcomes):
        return 2
    if expect:
        return 0 if all(outcome.held for outcome in outcomes) else 1
    return EXIT_CODES[Verdict.worst([Verdict(outcome.verdict) for outcome in outcomes])]
