"""Calling what a pair brings along: whatever it raises becomes one message that says where."""

from __future__ import annotations

import re
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserCodeError, XcheckError


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


@contextmanager
def calling(what: str, *, numbers: str | None = None, todo: str | None = None) -> Generator[None]:
    """Turn whatever the user's code raises into one message that says which part raised, where, and why.

    Raises:
        UserCodeError: the block raised.
    """
    try:
        yield
    except XcheckError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not is_library(f.filename)]
        at = own[-1] if own else None
        text = _COLOUR.sub("", str(error)).strip() or "no message"
        raise UserCodeError(
            f"The pair's {what} raised {type(error).__name__}.",
            where=_place(at) if at else None,
            numbers=numbers,
            cause="\n".join([line for line in text.splitlines() if line.strip()][:12]),
            todo=(_FLOATS if _TWO_FLOATS.search(text) else todo)
            or "correct the pair file; XCHECK_TRACEBACK=1 shows the whole traceback",
        ) from error


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
    "everything runs in float64 here: name no dtype, and make tensors in the default one; an operation that has "
    "float32 alone, such as a CTC loss of TensorFlow, runs under --keras-backend jax or torch"
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HERE = Path(__file__).parent.parent


def is_library(filename: str) -> bool:
    """Whether a file is none of the user's: of Python, of an installed package, or of xcheck."""
    library = "site-packages" in filename or "/lib/python" in filename or not Path(filename).is_absolute()
    return library or Path(filename).is_relative_to(_HERE)


def _place(frame: traceback.FrameSummary) -> str:
    line = f": {frame.line}" if frame.line else ""
    return f"{_short(frame.filename)}:{frame.lineno}, in {frame.name}{line}"


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
