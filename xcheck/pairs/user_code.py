"""Calling what a pair brings along: whatever it raises becomes one message that says where."""

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

from ..errors import UserCodeError, XcheckError, not_installed
from ..records.room import shortage


def describe(value: Any) -> str:
    """Shapes and dtypes of arrays in a container, in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in value.items()) + "}"  # pyright: ignore
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(v) for v in value) + ")"  # pyright: ignore
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    return type(value).__name__  # pyright: ignore[reportUnknownArgumentType]


def got(value: Any) -> dict[str, str | None]:
    """What a function of the user's gave that is none of what it should, as parts of a message."""
    cause = "it returns nothing: a `return` is missing" if value is None else None
    return {"numbers": f"got {describe(value)}", "cause": cause}


class Passing(BaseException):
    """What xcheck itself sends through the user's code, to end a call of it early."""


@contextmanager
def calling(what: str, *, numbers: str | None = None, todo: str | None = None) -> Generator[None]:
    """Turn whatever the user's code raises, or ends the process by, into one message that says where and why.

    Raises:
        UserCodeError: the block raised anything but Ctrl-C, or asked the process to end.
        SetupError: it needs a framework or an extra that is not installed.
        OutOfMemory: memory ran out in the block.
    """
    try:
        with _going_on(what):
            yield
    except (XcheckError, Passing, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if type(error).__module__.startswith("_pytest."):
            raise  # such as pytest.skip
        text = _COLOUR.sub("", _message(error)).strip() or "no message"
        short = None if isinstance(error, SystemExit) else shortage(error, f"in the pair's {what}")
        if short is not None:
            raise short from error
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not is_library(f.filename)]
        at = own[-1] if own else None
        lacking = not_installed(error, _place(at) if at else f"the pair's {what}")
        if lacking is not None:
            raise lacking from error
        did = f"raised {type(error).__name__}"
        if isinstance(error, SystemExit):
            did, todo = f"asked for the end of the process, with exit code {error.code or 0!r}", _EXIT
            text = "a script that exits when it is done is imported or called here; only a verdict ends a run"
        raise UserCodeError(
            f"The pair's {what} {did}.",
            where=_place(at) if at else None,
            numbers=numbers,
            cause="\n".join([line for line in text.splitlines() if line.strip()][:12]),
            todo=(_FLOATS if _TWO_FLOATS.search(text) else todo)
            or "correct the pair file; XCHECK_TRACEBACK=1 shows the whole traceback",
        ) from error


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as other:  # noqa: BLE001 - it is the user's, whatever its __str__ does
        return f"its message cannot be shown: __str__ raised {type(other).__name__}"


@contextmanager
def _going_on(what: str) -> Generator[None]:
    """While the block runs `os._exit`, which asks nobody, raises SystemExit instead; in other processes it does not."""
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def exit_at_once(status: int) -> NoReturn:
        if os.getpid() == process:
            if threading.get_ident() == thread:
                raise SystemExit(status)
            print(f"A thread of the pair's {what} ended the process, and there is no verdict.", file=sys.stderr)
            sys.stderr.flush()
        leave(status or (3 if os.getpid() == process else 0))

    os._exit = exit_at_once
    try:
        yield
    finally:
        os._exit = leave


@contextmanager
def leaving_out(remarks: list[str], what: str) -> Generator[None]:
    """Go on without an explanation where the user's code does not bear being looked into, and say so.

    Args:
        remarks: receives the reason.
        what: is left out.
    """
    try:
        yield
    except UserCodeError as error:
        remarks.append(f"{what}: {(error.parts['cause'] or str(error)).splitlines()[0]}")


_TWO_FLOATS = re.compile(
    r"a (double|float) tensor.* a (double|float) tensor|float64.*float32|float32.*float64"
    r"|(double|float) != (double|float)"
)
"""What both frameworks say of a float64 that meets a float32."""

_FLOATS = (
    "everything runs in float64 here: name no dtype, and make tensors in the default one; an operation that exists "
    "only in float32 may run under a different --keras-backend"
)

_EXIT = "take the exit out, or put it under: if __name__ == '__main__'"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HERE = Path(__file__).parent.parent


@functools.cache
def is_library(filename: str) -> bool:
    """Whether a file is none of the user's: of Python, of an installed package, or of xcheck."""
    library = "site-packages" in filename or "/lib/python" in filename or not Path(filename).is_absolute()
    return library or Path(filename).is_relative_to(_HERE)


def line_running() -> str:
    """ "losses.py:41" of the innermost line of the user's own files that is running; "" where there is none."""
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
