"""Many checks: pairs x seeds x settings, in several processes.

Each check has its own outcome, yielded and written as soon as it exists. A mistake in one pair, or a bug, affects no
other outcome; a process that dies affects only its own check.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
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
from ..records.writing import write_whole
from ..report.result import Result
from ..report.views import apart_from
from ..report.words import ratio
from .workers import in_workers

OPTIONS = "sweep.json"
"""The options of a sweep, in its folder."""

WRITTEN = ("result.json", "report.html")
"""The files of a task. If the first one exists, the task is done."""


@dataclass(frozen=True, slots=True)
class Task:
    """One check of a sweep.

    Attributes:
        name: of the pair in tables.
        spec: argument of `load_pair`, valid from any folder.
        seed: of the check.
        settings: for the function `pair(...)` of its file.
        suffix: of the folder, if two tasks would share one.
    """

    name: str
    spec: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    suffix: str = ""

    @property
    def label(self) -> str:
        """The name, with seed and settings that are not the default."""
        parts = [self.name, *([f"seed={self.seed}"] if self.seed else [])]
        return " ".join([*parts, *(f"{key}={value}" for key, value in self.settings.items())])

    @property
    def folder(self) -> str:
        """The label as a folder name."""
        return re.sub(r"[^\w.=+-]+", "-", self.label).strip("-.") + self.suffix


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

    def without_result(self) -> TaskOutcome:
        """The outcome for a result that cannot be sent to the parent process."""
        return replace(
            self, result=None, error=self.error or "The result cannot be pickled, so the worker could not return it."
        )

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
            "--variants and --set cannot be combined: each variant has its own settings.",
            numbers=f"got --variants and {', '.join(settings)}",
            todo="leave out one of them",
        )
    setting_values = settings or {}
    combinations = [
        dict(zip(setting_values, values, strict=True)) for values in itertools.product(*setting_values.values())
    ]
    pairs = {spec: name for given in reversed(all_names) for name, spec in reversed(specs_in(given, variants).items())}
    tasks = [
        Task(name, spec, seed, combination)
        for spec, name in reversed(pairs.items())  # if one pair has two names, the first
        for seed in dict.fromkeys(seeds)
        for combination in combinations
    ]
    counts = Counter(task.folder.casefold() for task in tasks)
    return [replace(task, suffix=f"-{_digest(task)}") if counts[task.folder.casefold()] > 1 else task for task in tasks]


def _digest(task: Task) -> str:
    return hashlib.sha256(f"{task.spec} {task.seed} {sorted(task.settings.items())!r}".encode()).hexdigest()[:8]


def attempt(task: Task, options: Mapping[str, Any], accept: Sequence[str] = ()) -> TaskOutcome:
    """Run one check; always returns an outcome.

    Args:
        task: to run.
        options: further arguments of `check`.
        accept: accepted differences, beside those of the pair.
    """
    started = time.perf_counter()
    result, error = None, ""
    try:
        pair = load_pair(task.spec, task.settings)
        pair = replace(pair, accept=(*pair.accept, *accept))
        choose_backend(pair, options.get("keras_backend"))
        import_quietly(pair)
        result = check(pair, seed=task.seed, **options)
    except BadInput as mistake:
        result, error = mistake.result, str(mistake)
    except (Exception, SystemExit) as bug:  # noqa: BLE001 - a bug in one pair must not take the others' results
        result = result_of(bug)
        error = str(shortage(bug) or f"This is a bug in xcheck; there is no verdict.\n{shown(traceback.format_exc())}")
    return TaskOutcome(task, result, error, time.perf_counter() - started)


def sweep(
    tasks: Sequence[Task],
    out: Path,
    *,
    jobs: int | None = None,
    ray: bool = False,
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Generator[TaskOutcome]:
    """Run tasks, yield each outcome as soon as it exists, and write its result to `out`.

    Args:
        tasks: to run.
        out: receives a folder per task with its `result.json` and `report.html`.
        jobs: processes; None for one per core, 0 to run all in this process.
        ray: run on Ray, the cluster of RAY_ADDRESS or a local one; its workers need xcheck and the pair files.
        options: further arguments of `check`.
        resume: yield the outcomes that an earlier sweep has written, and run only the other tasks.

    Raises:
        PairError: the sweep to resume had different options.
        SetupError: Ray is not installed, or cannot start.
        FileError: a result cannot be written.
    """
    options = options or {}
    finished = _finished(tasks, out, options) if resume else {}
    remaining = [task for task in tasks if task not in finished]
    for task in remaining:
        for name in WRITTEN:
            _writing(lambda path: path.unlink(missing_ok=True), out / task.folder / name)  # of an earlier sweep
    _writing(lambda path: write_whole(path, _text(options)), out / OPTIONS)
    yield from finished.values()
    running = _on_ray(remaining, jobs, options) if ray else _on_workers(remaining, jobs, options, out)
    with closing(running) as outcomes:
        for outcome in outcomes:
            _write(outcome, out)
            yield outcome


def _write(outcome: TaskOutcome, out: Path) -> None:
    """Write the result of an outcome unless that is done, so it survives this process."""
    folder = out / outcome.task.folder
    if outcome.result is not None and not (folder / WRITTEN[0]).is_file():
        _writing(outcome.result.to_json, folder / WRITTEN[0])
        _writing(outcome.result.to_html, folder / WRITTEN[1])


def _attempt_and_write(task: Task, options: Mapping[str, Any], out: Path) -> TaskOutcome:
    """The function that a worker runs."""
    outcome = attempt(task, options)
    with suppress(FileError):  # the parent gets the same error, and reports it
        _write(outcome, out)
    return outcome


def _finished(tasks: Sequence[Task], out: Path, options: Mapping[str, Any]) -> dict[Task, TaskOutcome]:
    """The outcomes of an earlier sweep, without the checks that ended early: they run again."""
    path = out / OPTIONS
    try:
        earlier = path.read_text()
    except OSError as error:
        raise PairError(
            "There is no sweep to resume.", where=str(out), cause=str(error), todo="run it without --resume"
        ) from error
    if earlier != _text(options):
        raise PairError(
            "The sweep to resume was run with different options.",
            where=str(path),
            numbers=f"earlier: {earlier}; now: {_text(options)}",
            todo="give the same options, or a different --out",
        )
    found: dict[Task, TaskOutcome] = {}
    for task in tasks:
        written = out / task.folder / WRITTEN[0]
        if written.is_file():
            result = Result.from_json(written)
            if result.failure is None:
                found[task] = TaskOutcome(task, result, seconds=sum(result.timings.values()))
    return found


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(sorted(options.items())), default=str)


def _on_workers(
    tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any], out: Path
) -> Generator[TaskOutcome]:
    if jobs == 0:
        yield from (attempt(task, options) for task in tasks)
        return
    with closing(in_workers(_attempt_and_write, tasks, (dict(options), out), jobs or os.cpu_count() or 1)) as answers:
        for task, outcome, reason in answers:
            yield outcome if outcome is not None else died(task, reason, options)


def died(task: Task, reason: str, options: Mapping[str, Any]) -> TaskOutcome:
    """The outcome of a task whose process ended."""
    steps = int(options.get("steps", 0))
    return TaskOutcome(task, Result(task.name, Verdict.INCONCLUSIVE, task.seed, steps, failure=reason))


def _on_ray(tasks: Sequence[Task], jobs: int | None, options: Mapping[str, Any]) -> Generator[TaskOutcome]:
    """Run on Ray directly: its joblib backend returns results only when all are finished."""
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        raise SetupError(
            "Ray is not installed here.", numbers="--ray", cause=str(error), todo="pip install 'xcheck-ports[ray]'"
        ) from error
    if not ray.is_initialized():
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": jobs, "include_dashboard": False}
        try:
            ray.init(log_to_driver=False, **local)
        except (RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
            raise SetupError(
                "Ray cannot start here.",
                numbers=f"RAY_ADDRESS {os.environ.get('RAY_ADDRESS', 'is not set')}",
                cause=f"{type(error).__name__}: {error}",
                todo="run without --ray: --jobs N uses processes of this machine",
            ) from error
    remote: Any = ray.remote(max_retries=0)(attempt)
    running: dict[Any, Task] = {remote.remote(task, options): task for task in tasks}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        task = running.pop(done)
        try:
            yield ray.get(done)
        except RayError as error:
            yield died(task, f"The worker of this check died: {type(error).__name__}: {error}", options)


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
    """Messages below the table: errors, accepted differences, and failed expectations."""
    messages: list[str] = []
    for outcome in outcomes:
        if outcome.error:
            messages.append(f"{outcome.task.label}: {outcome.error}")
        elif outcome.result is not None and outcome.result.failure is not None:
            messages.append(f"{outcome.task.label}: {outcome.result.failure}")
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
    """The number of checks per verdict, and of those with a verdict that was not declared."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("ERROR", *Verdict) if counts[verdict])
    failed = sum(not outcome.held for outcome in outcomes)
    expectations = f"{failed} NOT as expected" if failed else "all as expected"
    return f"{len(outcomes)} checks: {parts}; {expectations}" if outcomes else "no check finished"
