"""Calls of the pair's code: any exception becomes one message with its location."""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..errors import SetupError, UserCodeError, XcheckError, not_installed
from ..records.memory_needed import shortage


def describe(value: Any) -> str:
    """Shapes and dtypes of the arrays in a container, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in value.items()) + "}"  # pyright: ignore
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(v) for v in value) + ")"  # pyright: ignore
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    return type(value).__name__  # pyright: ignore[reportUnknownArgumentType]


def got(value: Any) -> dict[str, str | None]:
    """Message parts for an invalid return value of a user's function."""
    cause = "the function returns None: a `return` is missing" if value is None else None
    return {"numbers": f"got {describe(value)}", "cause": cause}


class Passing(BaseException):
    """Raised by xcheck through the user's code, to end a call of it early."""


@contextmanager
def calling(what: str, *, numbers: str | None = None, todo: str | None = None) -> Generator[None]:
    """Turn any exception or process exit of the user's code into one message with location and reason.

    Raises:
        UserCodeError: the block raised anything but Ctrl-C, or asked the process to end.
        SetupError: it needs a framework or an extra that is not installed.
        OutOfMemory: memory ran out in the block.
    """
    try:
        with _catching_exit(what):
            yield
    except (XcheckError, Passing, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if type(error).__module__.startswith("_pytest."):
            raise  # such as pytest.skip
        text = _COLOUR.sub("", _message(error)).strip() or "no message"
        out_of_memory = None if isinstance(error, SystemExit) else shortage(error, f"in the pair's {what}")
        if out_of_memory is not None:
            raise out_of_memory from error
        frames = traceback.extract_tb(error.__traceback__)
        user_frames = [f for f in frames if not is_library(f.filename)]
        frame = user_frames[-1] if user_frames else None
        missing = not_installed(error, _place(frame) if frame else f"the pair's {what}")
        if missing is not None:
            raise missing from error
        if _NO_KERNEL.search(text):
            raise SetupError(
                f"The pair's {what} needs an operation that the framework does not have on this device.",
                where=_place(frame) if frame else None,
                numbers=numbers,
                cause="\n".join([line for line in text.splitlines() if line.strip()][:12]),
                todo="the pair need not be wrong: use a different device, a different --keras-backend, or a layer of "
                "the framework for it, such as keras.layers.Conv1D(groups=...)",
            ) from error
        event = f"raised {type(error).__name__}"
        if isinstance(error, SystemExit):
            event, todo = f"asked for the end of the process, with exit code {error.code or 0!r}", _EXIT
            text = "a script that exits when it is done is imported or called here; only a verdict ends a run"
        raise UserCodeError(
            f"The pair's {what} {event}.",
            where=_place(frame) if frame else None,
            numbers=numbers,
            cause="\n".join([line for line in text.splitlines() if line.strip()][:12]),
            todo=(_FLOATS if _TWO_FLOATS.search(text) else todo)
            or "correct the pair file; XCHECK_TRACEBACK=1 shows the whole traceback",
        ) from error


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as nested:  # noqa: BLE001 - a user's exception may raise anything in __str__
        return f"its message cannot be shown: __str__ raised {type(nested).__name__}"


@contextmanager
def _catching_exit(what: str) -> Generator[None]:
    """While the block runs, `os._exit` raises SystemExit in this process; in other processes it exits."""
    real_exit, process, thread = os._exit, os.getpid(), threading.get_ident()

    def exit_at_once(status: int) -> NoReturn:
        if os.getpid() == process:
            if threading.get_ident() == thread:
                raise SystemExit(status)
            print(f"A thread of the pair's {what} ended the process, and there is no verdict.", file=sys.stderr)
            sys.stderr.flush()
        real_exit(status or (3 if os.getpid() == process else 0))

    os._exit = exit_at_once
    try:
        yield
    finally:
        os._exit = real_exit


@contextmanager
def leaving_out(remarks: list[str], what: str) -> Generator[None]:
    """Continue without an explanation if the user's code fails while it is observed, and add a remark.

    Args:
        remarks: receives the reason.
        what: the explanation that is left out.
    """
    try:
        yield
    except UserCodeError as error:
        remarks.append(f"{what}: {(error.parts['cause'] or str(error)).splitlines()[0]}")


_NO_KERNEL = re.compile(
    r"No OpKernel was registered|Could not run '.*' with arguments from|grouped convolutions? (is|are) not supported"
    r"|does not support grouped convolutions|not implemented for '(Double|Float|Half|BFloat16)'"
)
"""Error messages of both frameworks for an operation, or a gradient, that a device does not have.

Not those that a mistake also raises: for integers, for strings, or for shapes.
"""

_TWO_FLOATS = re.compile(
    r"a (double|float) tensor.* a (double|float) tensor|float64.*float32|float32.*float64"
    r"|(double|float) != (double|float)"
)
"""Error messages of both frameworks for mixed float64 and float32."""

_FLOATS = (
    "everything runs in float64 here: name no dtype, and make tensors in the default one; an operation that exists "
    "only in float32 may run under a different --keras-backend"
)

_EXIT = "take the exit out, or put it under: if __name__ == '__main__'"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PACKAGE = Path(__file__).parent.parent


@functools.cache
@functools.cache
def is_library(filename: str) -> bool:
    """Whether a file belongs to Python, an installed package, or xcheck, instead of the user."""
    library = "site-packages" in filename or "/lib/python" in filename or not Path(filename).is_absolute()
    return library or Path(filename).is_relative_to(PACKAGE)


def line_running() -> str:
    """The innermost running line of the user's files, such as "losses.py:41"; "" if there is none."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if not is_library(frame.f_code.co_filename):
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _place(frame: traceback.FrameSummary) -> str:
    line = f": {frame.line}" if frame.line else ""
    return f"{_short(frame.filename)}:{frame.lineno}, in {frame.name}{line}"


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
