"""For programs and coding agents: one JSON object on stdout, the next command, changes since an earlier result."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from io import UnsupportedOperation
from itertools import pairwise

from ..errors import BadInput, FileError, shown
from ..records.result import Verdict
from ..report.github import markdown, workflow_commands
from ..report.result import Result

STDOUT = "-"
"""Stands for standard output where a file is expected."""

PORT = "keras"


@contextmanager
def to_stderr(wanted: bool) -> Generator[None]:
    """While the block runs, standard output goes to standard error, also that of user code and C++ libraries."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = None
    with suppress(OSError, UnsupportedOperation):  # a stream without a file descriptor, as in a test
        kept, target = os.dup(1), sys.stderr.fileno()
        os.dup2(target, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def failed(pair: str, seed: int, steps: int, error: BaseException) -> Result:
    """The result of a run that ended early: INCONCLUSIVE, with the reason as `failure`.

    Args:
        pair, seed, steps: as requested.
        error: the exception that ended it.
    """
    if isinstance(error, BadInput):
        failure = str(error)
    elif isinstance(error, KeyboardInterrupt):
        failure = "The run was interrupted."
    elif isinstance(error, SystemExit):
        failure = f"Something ended this run by sys.exit({error.code!r})."
    else:
        failure = f"This is a bug in xcheck; there is no verdict. {type(error).__name__}: {error}"
    return Result(pair, Verdict.INCONCLUSIVE, seed, steps, failure=shown(failure))


def usage_failure(arguments: Sequence[str], message: str) -> Result | None:
    """The result of `xcheck run` with invalid arguments; None if no JSON was requested.

    Args:
        arguments: of the command line.
        message: the usage error.
    """
    wanted = "--json=-" in arguments or ("--json", STDOUT) in pairwise(arguments)
    if not wanted or arguments[0] != "run":
        return None
    pair = next((a for a in arguments[1:] if not a.startswith("-")), "")
    failure = f"Bad usage: {message} Next: xcheck run --help"
    return Result(pair, Verdict.INCONCLUSIVE, 0, 0, failure=shown(failure), next="xcheck run --help")


def with_next(result: Result, spec: str) -> Result:
    """The result with the command to run next, after its edits or the message of its failure.

    Args:
        result: of a run.
        spec: of the pair, as on the command line.
    """
    pair = shlex.quote(spec)
    again = f"xcheck run {pair} --json -"
    if result.coverage.get("parameters", {}).get("unmatched"):
        command = f"xcheck match {pair}"
    elif result.verdict in (Verdict.DIFFERENT, Verdict.INCONCLUSIVE):
        command = again
    else:  # what a run without options compares is complete
        settings = result.fingerprints.get("settings", {}).get("what", "")
        command = "" if "phases all, precision float64+float32" in settings else again
    return replace(result, next=command)


def changes(result: Result, earlier: Result) -> tuple[list[str], bool]:
    """The inputs of a verdict (code, batches, map ...) compared with those of an earlier result, one line each.

    Also returns whether anything except the port changed.

    Args:
        result: the newer one.
        earlier: of the same pair.
    """
    lines: list[str] = []
    suspicious = False
    for name in dict.fromkeys((*earlier.fingerprints, *result.fingerprints)):
        old, new = earlier.fingerprints.get(name), result.fingerprints.get(name)
        if old == new and old is not None:
            lines.append(f"same     {name}: {old['what']}")
            continue
        words = (" -> ".join((side or {}).get("what", "unknown") for side in (old, new))).strip()
        lines.append(f"changed  {name}: {words}")
        suspicious |= name != _port(result)
    if not lines:
        return ["unknown  neither result has fingerprints"], True
    return [f"verdict  {earlier.verdict} -> {result.verdict}", *map(shown, lines)], suspicious


def _port(result: Result) -> str:
    """The side that is the port, which the user edits."""
    return "torch" if result.fingerprints.get("reference", {}).get("what") == "keras" else PORT


def print_changes(results: Iterable[Result], earlier: Result) -> int:
    """Print the changes since an earlier result; returns 1 if more than the port changed, else 0."""
    code = 0
    for result in results:
        lines, suspicious = changes(result, earlier)
        print("\n".join(lines))
        code = max(code, int(suspicious))
    return code


def on_github(result: Result) -> None:
    """Print the annotations of a result to standard error, and append its summary to the job's summary, if there is
    one.

    GitHub reads workflow commands from both streams.

    Raises:
        FileError: the summary cannot be written.
    """
    print(*workflow_commands([result]), sep="\n", file=sys.stderr)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(markdown([result]))
    except OSError as error:
        raise FileError("The summary of the job cannot be written.", where=path, cause=str(error)) from error
