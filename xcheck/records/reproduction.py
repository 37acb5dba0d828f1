"""An unexplained difference as arrays and a script that reproduces it without the models."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .trace import Arrays
from .writing import write_whole

SCRIPT, SAVED = "reproduce.py", "reproduce.npz"
"""Names of the files, beside `result.json`."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A script and its data.

    Attributes:
        script: Python source; it reads the arrays from its own folder.
        arrays: by name.
    """

    script: str
    arrays: Arrays

    def write(self, folder: str | Path) -> Path:
        """Write both files, making the folder; returns the path of the script.

        Args:
            folder: for both files.
        """
        folder = Path(folder)
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in self.arrays.items()}
        packed = io.BytesIO()
        np.savez(packed, **arrays)  # only numbers and booleans, which need no pickle
        write_whole(folder / SAVED, packed.getvalue())
        return write_whole(folder / SCRIPT, self.script)
