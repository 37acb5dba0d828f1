"""A difference that nothing explains, as arrays and a script that shows it without the models."""

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
    """What shows a difference.

    Attributes:
        script: that reads the arrays from beside itself.
        arrays: by name.
    """

    script: str
    arrays: Arrays

    def write(self, folder: str | Path) -> Path:
        """Write both files, making the folder; returns the path of the script.

        Args:
            folder: where to.
        """
        folder = Path(folder)
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in self.arrays.items()}
        packed = io.BytesIO()
        np.savez(packed, **arrays)  # numbers and truth values alone, which need no pickle
        write_whole(folder / SAVED, packed.getvalue())
        return write_whole(folder / SCRIPT, self.script)
