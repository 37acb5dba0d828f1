"""Many checks: pairs x seeds x settings, in several processes.

Each check has its own outcome, yielded and written as soon as it exists. A mistake in one pair, or a bug, affects no
other outcome; a process that dies affects only unfinished ones.
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
from ..records.memory_needed import shortage
from ..records.result import Verdict
from ..report.result import Result
from ..report.views import apart_from
from ..report.words import ratio

DIED = "Its process died: out of memory? Run it with smaller settings, by --set, or where there is more memory."

_LEAVE = os._exit
"""Saved before user code can replace it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One check of a sweep.

    Attributes:
        name: of the pair in tables.
        spec: argument of `load_pair`, valid from any folder.
        seed: of the check.
        settings: for the function `pair(...)` of its file.
    """

    name: str
    spec: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """The name, with seed and settings that are not the default."""
        parts = [self.name, *([f"seed={self.seed}"] if self.seed else [])]
        return " ".join([*parts, *(f"{key}={value}" for key, value in self.settings.items())])

    @property
    def folder(self) -> str:
        """The label as a folder name."""
        return re.sub(r"[^\w.=+-]+", "-", self.label).strip("-.")


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """The outcome of a task.

    Attributes:
        task: the task.
        result: of the check, also if it ended early; None if there is none.
        error: why it ended early, or why there is no result; empty for a complete check.
        seconds: its duration.
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
        """Whether the verdict is the declared one, by default EQUIVALENT."""
        if self.error or self.result is None:
            return False
        if self.result.expectation is not None:
            return bool(self.result.expectation["held"])
        return self.result.verdict in (Verdict.EQUIVALENT, Verdict.NUMERIC)

    @property
    def worst(self) -> str:
        """The phase of the first divergence; for a passed check, the phase closest to its allowance."""
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
        names: of pairs, as for `xcheck run`.
        every: all pairs under `models/`, after the named ones.
        variants: every pair of each file named without an attribute, not only `PAIR`.
        seeds: of the checks.
        settings: name -> the values to try.

    Raises:
        PairError: no pair is named, a name or a seed is invalid, or there are both variants and settings.
    """
    all_names: list[str] = list(dict.fromkeys([*names, *(named_pairs() if every else ())]))
    if not all_names:
        raise PairError("A sweep needs pairs.", todo="name some, or give --all for every pair under models/")
    if variants and settings:
        raise PairError(
            "Variants take no settings: each is a pair with settings of its own.",
            numbers=f"got --variants and {', '.join(settings)}",
            todo="leave out one of the two",
        )
    setting_values = settings or {}
    combinations = [
        dict(zip(setting_values, values, strict=True)) for values in itertools.product(*setting_values.values())
    ]
    pairs = [pair for name in all_names for pair in specs_in(name, variants).items()]
    return [
        Task(name, spec, seed, combination) for name, spec in pairs for seed in seeds for combination in combinations
    ]


def attempt(task: Task, options: Mapping[str, Any]) -> TaskOutcome:
    """Run one check; always returns an outcome.

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
    return TaskOutcome(task, result, error, time.perf_counter() - started)


def sweep(
    tasks: Sequence[Task],
    out: Path,
    *,
    jobs: int | None = None,
    ray: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Generator[TaskOutcome]:
    """Run tasks, yield each outcome as soon as it exists, and write its result to `out`.

    Args:
        tasks: to run.
        out: receives a folder per task with its `result.json`.
        jobs: processes; None for one per core. Without Ray, 1 means this process.
        ray: run on Ray, the cluster of RAY_ADDRESS or a local one; its workers need xcheck and the pair files.
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


def _on_joblib(tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any]) -> Generator[TaskOutcome]:
    from joblib import Parallel, cpu_count, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    remaining = dict(enumerate(tasks))
    processes = min(len(tasks), jobs or cpu_count())
    batch_size: Any = 1  # one task at a time, so that a dying process loses no finished one
    parallel = Parallel(n_jobs=processes, batch_size=batch_size, return_as="generator_unordered")
    runs: Any = parallel(delayed(_numbered)(number, task, options, os.getpid()) for number, task in enumerate(tasks))
    try:
        for number, outcome in runs:
            del remaining[number]
            yield outcome
    except BrokenProcessPool:  # the failed task is unknown: run each remaining one alone
        for task in remaining.values():
            yield _run_in_own_process(task, options)
    finally:  # also when this process is terminated: no worker may outlive it
        if processes > 1:
            get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _run_in_own_process(task: Task, options: Mapping[str, Any]) -> TaskOutcome:
    """Run one task in a separate process, which may die."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    executor = ProcessPoolExecutor(max_workers=1)
    try:
        numbered: Any = executor.submit(_numbered, 0, task, options, os.getpid())
        return numbered.result()[1]
    except BrokenProcessPool:
        return TaskOutcome(task, None, DIED)
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def _numbered(number: int, task: Task, options: Mapping[str, Any], parent: int) -> tuple[int, TaskOutcome]:
    if os.getppid() == parent:  # not if a single process runs everything
        _end_with(parent)
    return number, attempt(task, options)


@cache
def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended, for any reason."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        _LEAVE(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any]) -> Generator[TaskOutcome]:
    """Run on Ray directly: its joblib backend returns results only when all are finished."""
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
    running: dict[Any, Task] = {remote.remote(task, options): task for task in tasks}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        task = running.pop(done)
        try:
            yield ray.get(done)
        except WorkerCrashedError:
            yield TaskOutcome(task, None, DIED)


def _writing(change: Callable[[Path], Any], path: Path) -> None:
    try:
        change(path)
    except OSError as error:
        raise FileError("A result cannot be written.", where=str(path), cause=str(error)) from error


# Output of a sweep ------------------------------------------------------------------------------------------------


def table(outcomes: Sequence[TaskOutcome]) -> Table:
    """One row per outcome: pair, verdict, whether it is the declared one, worst phase, seconds."""
    rows = Table(box=None, pad_edge=False)
    for column in ("pair", "verdict", "expectation", "worst phase"):
        rows.add_column(column, no_wrap=True, overflow="ignore")
    rows.add_column("seconds", justify="right", no_wrap=True)
    for outcome in outcomes:
        held_text = "held" if outcome.held else "NOT held"
        cells = outcome.task.label, outcome.verdict, held_text, outcome.worst, f"{outcome.seconds:.1f}"
        rows.add_row(*map(Text, map(shown, cells)))
    return rows


def complaints(outcomes: Sequence[TaskOutcome]) -> list[str]:
    """Messages in addition to the table: errors, accepted differences, and failed expectations."""
    messages: list[str] = []
    for outcome in outcomes:
        if outcome.error:
            messages.append(f"{outcome.task.label}: {outcome.error}")
        elif outcome.result is not None and (exceptions := apart_from(outcome.result)):
            messages.append(f"{outcome.task.label}: {outcome.verdict} {exceptions}")
        if (
            not outcome.held
            and not outcome.error
            and outcome.result is not None
            and outcome.result.expectation is not None
        ):
            messages.append(f"{outcome.task.label}: {outcome.result.expectation['why']}")
    return list(map(shown, messages))


def summary(outcomes: Sequence[TaskOutcome]) -> str:
    """The number of checks per verdict, and of checks without the declared verdict."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("ERROR", *Verdict) if counts[verdict])
    failed = sum(not outcome.held for outcome in outcomes)
    expectations = f"{failed} NOT as expected" if failed else "all as expected"
    return f"{len(outcomes)} checks: {parts}; {expectations}" if outcomes else "no check has ended"
