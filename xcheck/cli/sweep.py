"""Many checks: pairs x seeds x settings, in several processes.

Each check has an outcome of its own, handed out and written as soon as it is there. A mistake in one pair, or a bug,
takes no other outcome with it; a process that dies takes only those that were not there yet.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..check import check
from ..errors import BadInput, FileError, PairError, SetupError, result_of, shown
from ..frameworks.importing import import_quietly
from ..frameworks.sides import choose_backend
from ..pairs.loading import load_pair, named_pairs, specs_in
from ..records.result import Verdict
from ..records.room import shortage
from ..report.result import Result
from ..report.views import apart_from
from ..report.words import ratio

DIED = "Its process died: out of memory? Run it with smaller settings, by --set, or where there is more memory."

_LEAVE = os._exit
"""As it is outside of the user's code."""


@dataclass(frozen=True, slots=True)
class Task:
    """One check of a sweep.

    Attributes:
        name: what tables call the pair.
        spec: what `load_pair` finds it by from any folder.
        seed: of the check.
        settings: for the function `pair(...)` of its file.
    """

    name: str
    spec: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """The name, with seed and settings where they are not the default."""
        parts = [self.name, *([f"seed={self.seed}"] if self.seed else [])]
        return " ".join([*parts, *(f"{key}={value}" for key, value in self.settings.items())])

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return re.sub(r"[^\w.=+-]+", "-", self.label).strip("-.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: that was run.
        result: of the check, also of one that ended early; None if there is none.
        error: why it ended early, or why there is no result; empty for a check that ended by itself.
        seconds: that it took.
    """

    task: Task
    result: Result | None
    error: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The verdict, or ERROR for a check that ended early."""
        return "ERROR" if self.error or self.result is None else self.result.verdict.value

    @property
    def held(self) -> bool:
        """Whether the pair showed what it declares, which is EQUIVALENT where it declares nothing."""
        if self.error or self.result is None:
            return False
        if self.result.expectation is not None:
            return bool(self.result.expectation["held"])
        return self.result.verdict in (Verdict.EQUIVALENT, Verdict.NUMERIC)

    @property
    def worst(self) -> str:
        """The phase where the sides first part; of a check that passed, the one that came closest to its allowance."""
        if self.result is None or not self.result.checks:
            return ""
        if self.result.first_divergence is not None:
            return self.result.first_divergence.phase
        verdicts = list(Verdict)
        worst = min(self.result.checks, key=lambda c: (verdicts.index(c.verdict), -c.severity))
        return f"{worst.phase} {ratio(worst)}" if worst.error else worst.phase


def plan(
    names: Sequence[str],
    *,
    every: bool = False,
    variants: bool = False,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Sequence[Any]] | None = None,
) -> list[Task]:
    """The tasks of a sweep: every pair with every seed and every combination of settings.

    Args:
        names: of pairs, as `xcheck run` takes them.
        every: all pairs under `models/`, after the named ones.
        variants: of each file named without an attribute, not only `PAIR` but every pair.
        seeds: of the checks.
        settings: name -> the values it takes in turn.

    Raises:
        PairError: nothing is named, a name or a seed is no good, or there are both variants and settings.
    """
    chosen: list[str] = list(dict.fromkeys([*names, *(named_pairs() if every else ())]))
    if not chosen:
        raise PairError("A sweep needs pairs.", todo="name some, or give --all for every pair under models/")
    if variants and settings:
        raise PairError(
            "Variants take no settings: each is a pair with settings of its own.",
            numbers=f"got --variants and {', '.join(settings)}",
            todo="leave out one of the two",
        )
    grid = settings or {}
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    found = [pair for name in chosen for pair in specs_in(name, variants).items()]
    return [
        Task(name, spec, seed, combination) for name, spec in found for seed in seeds for combination in combinations
    ]


def attempt(task: Task, options: Mapping[str, Any]) -> Outcome:
    """Run one check; whatever happens, there is an outcome.

    Args:
        task: to run.
        options: further arguments of `check`.
    """
    started = time.perf_counter()
    result, error = None, ""
    try:
        pair = load_pair(task.spec, task.settings)
        choose_backend(pair, options.get("keras_backend"))
        import_quietly(pair)
        result = check(pair, seed=task.seed, **options)
    except BadInput as mistake:
        result, error = mistake.result, str(mistake)
    except (Exception, SystemExit) as bug:  # noqa: BLE001 - a bug in one pair must not take the others' results
        result = result_of(bug)
        error = str(shortage(bug) or f"This is a bug of xcheck, and no verdict.\n{shown(traceback.format_exc())}")
    return Outcome(task, result, error, time.perf_counter() - started)


def sweep(
    tasks: Sequence[Task],
    out: Path,
    *,
    jobs: int | None = None,
    ray: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Generator[Outcome]:
    """Run tasks, and hand out each outcome as soon as it is there, its result written to `out`.

    Args:
        tasks: to run.
        out: gets a folder per task with its `result.json`.
        jobs: processes; None takes one per core. Without Ray, 1 is this one.
        ray: run on Ray, the cluster of RAY_ADDRESS or one of this machine; its workers need xcheck and the pair files.
        options: further arguments of `check`.

    Raises:
        SetupError: Ray is not installed.
        FileError: a result cannot be written.
    """
    for task in tasks:
        _writing(lambda path: path.unlink(missing_ok=True), out / task.folder / "result.json")  # of an earlier sweep
    with closing((_on_ray if ray else _on_joblib)(tasks, jobs, options or {})) as outcomes:
        for outcome in outcomes:
            if outcome.result is not None:
                _writing(outcome.result.to_json, out / outcome.task.folder / "result.json")
            yield outcome


def _on_joblib(tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any]) -> Generator[Outcome]:
    from joblib import Parallel, cpu_count, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    left = dict(enumerate(tasks))
    processes = min(len(tasks), jobs or cpu_count())
    one: Any = 1  # a task at a time, so that a process that dies takes none that was finished
    parallel = Parallel(n_jobs=processes, batch_size=one, return_as="generator_unordered")
    runs: Any = parallel(delayed(_numbered)(number, task, options, os.getpid()) for number, task in enumerate(tasks))
    try:
        for number, outcome in runs:
            del left[number]
            yield outcome
    except BrokenProcessPool:  # nobody tells which task it was: each that is left runs alone
        for task in left.values():
            yield _alone(task, options)
    finally:  # also where this process is told to end: no worker goes on without it
        if processes > 1:
            get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _alone(task: Task, options: Mapping[str, Any]) -> Outcome:
    """One task in a process of its own, which may die of it."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    executor = ProcessPoolExecutor(max_workers=1)
    try:
        numbered: Any = executor.submit(_numbered, 0, task, options, os.getpid())
        return numbered.result()[1]
    except BrokenProcessPool:
        return Outcome(task, None, DIED)
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def _numbered(number: int, task: Task, options: Mapping[str, Any], parent: int) -> tuple[int, Outcome]:
    if os.getppid() == parent:  # not where one process does it all
        _end_with(parent)
    return number, attempt(task, options)


@cache
def _end_with(parent: int) -> None:
    """Have this process end when the one that started it has ended, however that was."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        _LEAVE(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any]) -> Generator[Outcome]:
    """Ray by itself: its backend for joblib hands out results only when the last one is there."""
    try:
        import ray
        from ray.exceptions import WorkerCrashedError
    except ModuleNotFoundError as error:
        raise SetupError(
            "Ray is not installed here.", numbers="--ray", cause=str(error), todo="pip install 'xcheck-ports[ray]'"
        ) from error
    if not ray.is_initialized():
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": jobs, "include_dashboard": False}
        ray.init(log_to_driver=False, **local)
    remote: Any = ray.remote(max_retries=0)(attempt)
    left: dict[Any, Task] = {remote.remote(task, options): task for task in tasks}
    while left:
        (done,), _ = ray.wait(list(left), num_returns=1)
        task = left.pop(done)
        try:
            yield ray.get(done)
        except WorkerCrashedError:
            yield Outcome(task, None, DIED)


def _writing(change: Callable[[Path], Any], path: Path) -> None:
    try:
        change(path)
    except OSError as error:
        raise FileError("A result cannot be written.", where=str(path), cause=str(error)) from error


# What a sweep prints ---------------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row per outcome: pair, verdict, whether it is what the pair declares, worst phase, seconds."""
    made = Table(box=None, pad_edge=False)
    for column in ("pair", "verdict", "expectation", "worst phase"):
        made.add_column(column, no_wrap=True, overflow="ignore")
    made.add_column("seconds", justify="right", no_wrap=True)
    for outcome in outcomes:
        held = "held" if outcome.held else "NOT held"
        cells = outcome.task.label, outcome.verdict, held, outcome.worst, f"{outcome.seconds:.1f}"
        made.add_row(*map(Text, map(shown, cells)))
    return made


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """What is to be said besides the table: the errors, and why an expectation was not held."""
    found: list[str] = []
    for outcome in outcomes:
        if outcome.error:
            found.append(f"{outcome.task.label}: {outcome.error}")
        elif outcome.result is not None and (apart := apart_from(outcome.result)):
            found.append(f"{outcome.task.label}: {outcome.verdict} {apart}")
        if (
            not outcome.held
            and not outcome.error
            and outcome.result is not None
            and outcome.result.expectation is not None
        ):
            found.append(f"{outcome.task.label}: {outcome.result.expectation['why']}")
    return list(map(shown, found))


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many checks there were, of which verdict, and how many are not what their pairs declare."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("ERROR", *Verdict) if counts[verdict])
    wrong = sum(not outcome.held for outcome in outcomes)
    told = f"{wrong} NOT as expected" if wrong else "all as expected"
    return f"{len(outcomes)} checks: {parts}; {told}" if outcomes else "no check has ended"
