"""Check a pair again each time that one of its files changes: a porter edits, looks, and edits again.

Each check has a process of its own, so that nothing of an earlier one is left in it: neither code nor what a framework
keeps. While the files stay as they are the next process imports the frameworks, so that a change need not wait for it.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..errors import shown
from ..frameworks.importing import import_modules
from ..pairs.loading import specs_in
from .ending import print_verdict, write, write_json
from .sweep import Task, TaskOutcome, attempt, died
from .workers import Worker

POLL = 0.3
"""Seconds between two looks at the files."""

FRAMEWORKS = ("torch", "tensorflow", "jax", "keras")


class Watched(NamedTuple):
    """One check, and what it used.

    Attributes:
        outcome: of the check.
        files: of the modules that it imported, without installed ones.
        frameworks: that it imported.
    """

    outcome: TaskOutcome
    files: Sequence[str] = ()
    frameworks: Sequence[str] = ()

    def without_result(self) -> Watched:
        """As for `TaskOutcome`."""
        return self._replace(outcome=self.outcome.without_result())


def watch(
    spec: str,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    accept: Sequence[str],
    *,
    out: Path | None,
    json: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check a pair, print the verdict and write the files, again after each change; Ctrl-C ends it.

    Args:
        spec, settings: of the pair.
        options: of `check`.
        accept: further accepted differences.
        out, json, quiet, verbose: as for `xcheck run`.

    Raises:
        PairError: there is no such pair.
        FileError: a result cannot be written.
    """
    ((path, name),) = specs_in(spec).items()
    task = Task(path, name, int(options["seed"]), settings)
    options = {key: value for key, value in options.items() if key != "seed"}
    for outcome in checks(task, options, accept, lambda why: print(shown(why), file=sys.stderr, flush=True)):
        if outcome.error:
            print(shown(outcome.error), file=sys.stderr)
        if outcome.result is not None:
            print_verdict(outcome.result, quiet=quiet, verbose=verbose)
            write(outcome.result, out)
            if json is not None:
                write_json(outcome.result, json)


def checks(
    task: Task, options: Mapping[str, Any], accept: Sequence[str], begin: Callable[[str], None]
) -> Generator[TaskOutcome]:
    """The outcome of a check, and of another one after each change of a file; no process outlives the generator.

    Args:
        task: the check.
        options: further arguments of `check`.
        accept: further accepted differences.
        begin: called with why a check begins.
    """
    folder, worker = Path(task.spec.rpartition(":")[0]).parent, Worker()
    files: Sequence[str] = ()
    frameworks: Sequence[str] = ()
    begin(f"{task.name}: checking")
    try:
        while True:
            started = time.time_ns()
            found, reason = worker.run((_watched, task, dict(options), tuple(accept)))
            worker.end()
            if found is None:
                found = Watched(died(task, reason, options), files, frameworks)
            yield found.outcome
            files, frameworks = found.files, found.frameworks
            worker = Worker()
            ahead = threading.Thread(target=worker.run, args=((import_modules, frameworks),), daemon=True)
            ahead.start()
            while (changed := _changed({*map(Path, files), *folder.glob("*.py")}, started)) is None:
                time.sleep(POLL)
            ahead.join()
            begin(f"\n{task.name}: {changed.name} changed, checking")
    finally:
        worker.end()


def _watched(task: Task, options: Mapping[str, Any], accept: Sequence[str]) -> Watched:
    """What the process of a check runs."""
    outcome = attempt(task, options, accept)
    return Watched(outcome, own_files(), [name for name in FRAMEWORKS if name in sys.modules])


def own_files() -> list[str]:
    """The Python files of the modules that are imported, without those that are installed, or xcheck's."""
    installed = [*map(Path, sysconfig.get_paths().values()), Path(__file__).parents[1]]
    files = (vars(module).get("__file__") for module in [*sys.modules.values()] if isinstance(module, ModuleType))
    found = (Path(file) for file in files if isinstance(file, str) and file.endswith(".py"))
    return [str(file) for file in found if not any(file.is_relative_to(folder) for folder in installed)]


def _changed(files: Collection[Path], since: int) -> Path | None:
    """A file that was written after a time, in nanoseconds; one that is away is about to be written."""
    for file in files:
        try:
            if file.stat().st_mtime_ns > since:
                return file
        except FileNotFoundError:
            continue
    return None
