"""What can go wrong, as one tree.

```
XcheckError
├── BadInput               the user's mistake; exit code 2, one message, no traceback
│   ├── PairError          the pair definition: it fails to import, lacks a part, or contradicts itself
│   ├── BatchError         the data: wrong keys, not arrays, too few batches
│   ├── UserCodeError      a build, loss, optimizer, prepare or step of the pair raised
│   ├── MatchError         the weight map: an unknown path, or a layout that does not fit
│   │   └── UnprovenError  the parameter match is not proven, and the command needs it; exit code 3
│   ├── SetupError         a framework, backend or device is missing
│   │   └── OutOfMemory    memory ran out; exit code 3
│   └── FileError          a result or a trace on disk cannot be read
├── InequivalenceError     the port is not the same computation (also an AssertionError)
└── InternalError          a bug in xcheck itself
```

A message has up to five parts, in this order: what went wrong, where, the numbers, the likely cause, what to do next.
An unknown part is left out, never guessed.
"""

from __future__ import annotations

from typing import Any


def shown(text: str) -> str:
    """A text with control characters escaped, except line breaks and tabs, so that it cannot control the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def result_of(error: BaseException) -> Any:
    """The partial result of a run that an exception ended; None if the run had not begun."""
    return vars(error).get("result")


EXTRAS = {
    "torch": "torch",
    "keras": "tensorflow",
    "tensorflow": "tensorflow",
    "jax": "jax",
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript", "onnx_ir", "tf2onnx"), "onnx"),
    "sklearn": "data",
    "keras_hub": "ports",
    "transformers": "ports",
    "ray": "ray",
}
"""Module -> the extra of this distribution that installs it."""


class XcheckError(Exception):
    """Base of everything xcheck raises on purpose."""


class BadInput(XcheckError):
    """A mistake in the user's input.

    Args:
        what: one sentence, what went wrong.
        where: the place: pair, side, step, parameter, file and line.
        numbers: the actual value and the required one.
        cause: the likely reason.
        todo: the next command or edit.

    Attributes:
        result: the partial `xcheck.Result`, for the caller to save; None if nothing was computed.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        numbers: str | None = None,
        cause: str | None = None,
        todo: str | None = None,
    ) -> None:
        self.what = what
        self.parts = {"where": where, "numbers": numbers, "cause": cause, "next": todo}
        self.result: Any = None
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in self.parts.items():
            if text:
                head, *rest = text.splitlines()
                lines.append(f"  {label + ':':<9}{head}")
                lines += [f"  {'':<9}{line}" for line in rest]
        return shown("\n".join(lines))


class PairError(BadInput):
    """The pair definition cannot be used."""


class BatchError(BadInput):
    """The batches cannot be used."""


class UserCodeError(BadInput):
    """Code of the pair raised."""


class MatchError(BadInput):
    """The weight map cannot be used."""


class UnprovenError(MatchError):
    """The parameter match is not proven, and the command needs it."""


class SetupError(BadInput):
    """Something that the run needs is missing on this machine."""


def not_installed(error: BaseException, where: str | None = None) -> SetupError | None:
    """The error that says what to install, if an import failed for a framework or an extra; else None.

    Args:
        error: the exception of the import.
        where: the place, for the message.
    """
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in EXTRAS:
        return None
    todo = f"pip install 'xcheck-ports[{EXTRAS[name]}]'"
    if name == "tensorflow":
        todo += ", or use a different Keras backend: --keras-backend jax or torch"
    return SetupError(f"{name} is not installed here.", where=where, cause=str(error), todo=todo)


class OutOfMemory(SetupError):
    """Memory ran out: this machine's, or that of its GPU."""


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT (Ctrl-C) asked the process to end.

    Args:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__(signal)


class FileError(BadInput):
    """A file written by xcheck cannot be read back."""


class InequivalenceError(XcheckError, AssertionError):
    """The two sides are not the same computation; the message is the report."""


class InternalError(XcheckError):
    """A bug in xcheck."""
