"""How a command ends: only a verdict exits with 0, partial results are written, output has no control characters."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from ..errors import FileError, Terminated, result_of, shown
from ..frameworks.importing import import_quietly
from ..frameworks.sides import choose_backend
from ..pairs.pair import Pair
from ..records.reproduction import SAVED, SCRIPT
from ..records.result import Verdict
from ..report.result import Result
from ..report.terminal import as_text, print_result
from .activity import Activity, showing
from .agents import STDOUT, failed, to_stderr, usage_failure, with_next
from .onnx import EXIT_CODES

NO_VERDICT = 3
QUIET_WIDTH = 400
JsonOption = Annotated[
    str | None,
    typer.Option("--json", help="Also write the result to this file; - prints only the JSON, to stdout."),
]
WRITTEN = ("result.json", "report.html", SCRIPT, SAVED)
"""The files a run can write to its folder."""


USAGE: Any = typer.BadParameter.__mro__[1]
"""Typer's base class of usage errors; typer exports only a subclass."""


class Ending(TyperGroup):
    """The commands. A command that ends without a verdict prints a message and exits with a code other than 0."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        arguments = [*getattr(ctx, "_protected_args", ()), *ctx.args]
        try:
            with _terminated():
                return super().invoke(ctx)
        except USAGE as error:
            result = usage_failure(arguments, error.format_message())
            if result is not None:
                print(result.json_text())
            raise
        except KeyboardInterrupt as error:
            number = error.signal if isinstance(error, Terminated) else signal.SIGINT
            print(f"Interrupted by {signal.Signals(number).name}: there is no verdict.", file=sys.stderr)
            raise typer.Exit(128 + number) from error
        except SystemExit as error:  # xcheck itself raises typer.Exit
            print(f"Something ended this run by sys.exit({error.code!r}): there is no verdict.", file=sys.stderr)
            raise typer.Exit(NO_VERDICT) from error


@contextmanager
def _terminated() -> Generator[None]:
    """SIGTERM and SIGHUP end the block by an exception, so that findings are written and workers end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: Any) -> None:
        raise Terminated(number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


class _Stream:
    """A stream that may fail: its reader ends, as in `| head`, or its disk is full. The run continues."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # takes buffered and later output
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                print(f"The output cannot be written: {error}", file=sys.stderr)


@contextmanager
def safe_streams() -> Generator[None]:
    """While the block runs, a failing output stream changes no exit code."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        out, err = (_Stream(stream or nowhere) for stream in before)  # None for a closed stream
        for stream in filter(None, before):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # such as an ASCII terminal
        sys.stdout, sys.stderr = out, err
        try:
            yield
        finally:
            out.flush()
            sys.stdout, sys.stderr = before


def with_progress(
    pair: Pair,
    work: Any,
    keras_backend: str | None,
    out: Path | None,
    quiet: bool,
    silent: bool = False,
    writes: bool = True,
) -> Any:
    """Run the check under a status line; if it ends early, write the findings, and print them unless `silent`.

    Args:
        writes: the command writes a result, in place of that of an earlier run.
    """
    if writes:
        clear(folder_of(pair.name, out))
    try:
        with showing(Activity(pair.name), quiet=quiet) as progress:
            progress("importing the frameworks")
            choose_backend(pair, keras_backend)
            import_quietly(pair)
            _keep_frameworks()
            return work(pair, progress)
    except BaseException as error:
        partial = result_of(error)
        if partial is not None:
            with suppress(FileError):  # the error that ended the run is the one to report
                write(partial, out)
            if partial.checks and not silent:
                print_verdict(partial, quiet=quiet)
        raise


@cache
def _keep_frameworks() -> None:
    """Exempt what is imported from garbage collection: searching it again and again took a sixth of a small check.

    Once per process, so that no model of an earlier pair is kept with it.
    """
    gc.freeze()


@contextmanager
def json_of_an_error(json: str | None, pair: str, seed: int, steps: int) -> Generator[None]:
    """While the block runs, what ends it also becomes a result: INCONCLUSIVE, with its message as `failure`.

    Nothing that runs in the block prints to standard output if the result does.

    Args:
        json: the file; None to write none.
        pair, seed, steps: as requested.
    """
    try:
        with to_stderr(json == STDOUT):
            yield
    except BaseException as error:
        if json is not None:
            write_json(with_next(result_of(error) or failed(pair, seed, steps, error), pair), json)
        raise


def write_json(result: Result, json: str) -> None:
    """Write a result to a file, or to standard output.

    Raises:
        FileError: the file cannot be written.
    """
    if json == STDOUT:
        print(result.json_text())
        return
    try:
        result.to_json(Path(json))
    except OSError as error:
        raise FileError(
            "The result cannot be written.",
            where=json,
            cause=str(error),
            todo="choose a file in a folder that exists and that you may write to: --json FILE",
        ) from error


def folder_of(name: str, out: Path | None) -> Path:
    """The output folder of a run."""
    return out or Path("xcheck-results") / name


def clear(folder: Path | None) -> None:
    """Remove the files of an earlier run from a folder, so that nobody takes them for those of this run.

    Raises:
        FileError: a file cannot be removed.
    """
    if folder is None:
        return
    try:
        for name in WRITTEN:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        told = "remove it, or choose a different folder: --out FOLDER"
        raise FileError(
            "An earlier result cannot be removed.", where=str(folder), cause=str(error), todo=told
        ) from error


def write(result: Result, out: Path | None) -> Path:
    """Write the files of a run; returns the folder.

    Raises:
        FileError: a file cannot be written.
    """
    folder = folder_of(result.pair, out)
    try:
        result.to_json(folder / "result.json")
        result.to_html(folder / "report.html")
        if result.reproduction is not None:
            result.reproduction.write(folder)
    except OSError as error:
        told = "choose a different folder: --out FOLDER"
        raise FileError("The result cannot be written.", where=str(folder), cause=str(error), todo=told) from error
    return folder


def print_verdict(result: Result, *, quiet: bool = False, verbose: bool = False) -> None:
    """Print a result, or only its first line."""
    if quiet:
        print(as_text(result, width=QUIET_WIDTH).partition("\n")[0])
    else:
        print_result(result, Console(), verbose=verbose)


def finish(
    result: Result,
    out: Path | None,
    *,
    strict: bool,
    quiet: bool,
    verbose: bool,
    expect: bool,
    json: str | None = None,
) -> None:
    """Print the verdict, write the files and exit."""
    if json != STDOUT:
        print_verdict(result, quiet=quiet, verbose=verbose)
    if json is not None:
        write_json(result, json)
    folder = write(result, out)
    if not quiet and json != STDOUT:
        print(shown(f"\nwritten: {folder / 'result.json'}, {folder / 'report.html'}"))
    raise typer.Exit(exit_code(result, strict=strict, expect=expect))


def exit_code(result: Result, *, strict: bool = False, expect: bool = False) -> int:
    """The exit code of a result.

    Args:
        result: of a run.
        strict: NUMERIC counts as a failure.
        expect: the declared expectation decides, if there is one.
    """
    if expect and result.expectation is not None:
        return 0 if result.expectation["held"] else 1
    if strict and result.verdict is Verdict.NUMERIC:
        return 1
    return EXIT_CODES[result.verdict]
