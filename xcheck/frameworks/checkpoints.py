"""Files of weights: what both sides say of them, whichever framework wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import FileError
from ..records.sides import SideName
from ..records.trace import Array

FLOATS: tuple[str, ...] = ("bfloat16", "float16", "float32", "float64")
"""Float types that a file may hold; NumPy knows the first by the package ml_dtypes."""

ENDINGS: Mapping[SideName, tuple[str, ...]] = {
    "torch": (".safetensors", ".safetensors.index.json", ".pt", ".pth", ".bin"),
    "keras": (".weights.h5", ".keras"),
}
"""Names of files of weights end so."""

Value = Callable[[str], Array | None]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file of weights holds.

    Attributes:
        shapes: key -> shape.
        dtypes: key -> float type or integer type, by its NumPy name.
        get: key -> array, read when it is asked for.
        others: keys of what is no array.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    get: Callable[[str], Array]
    others: tuple[str, ...] = ()


class Checkpoints(Protocol):
    """The files of weights of one side."""

    def keys(self) -> Mapping[str, str]:
        """Key in a file -> path in the inventory, of all that a file of this model holds; tied keys have tied paths."""
        ...

    def open(self, file: Path, inside: str | None) -> AbstractContextManager[Stored]:
        """Read a file, tensor by tensor where its format allows.

        Args:
            file: to read.
            inside: the key of a wrapped checkpoint that holds the weights; None if it is not wrapped.

        Raises:
            FileError: it cannot be read.
        """
        ...

    def save(self, file: Path, value: Value) -> None:
        """Write a file as the framework does.

        Args:
            file: to write; its ending is the format.
            value: path -> array to write in place of the model's; None keeps the model's.
        """
        ...

    def load(self, file: Path) -> None:
        """Load a file into the running model by the framework's own function, which must find all it needs.

        Raises:
            UserCodeError: the framework refuses it.
        """
        ...


def damaged(file: Path, error: BaseException) -> FileError:
    """The message on a file that its format's reader refuses."""
    cause = str(error).strip().splitlines()[:1]
    return FileError(
        "This checkpoint cannot be read.",
        where=str(file),
        cause=f"{type(error).__name__}: {cause[0] if cause else 'the file is damaged'}",
        todo="save or download it again; a Git LFS pointer is a small text file",
    )
