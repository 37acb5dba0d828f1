"""Atomic file writing: a full disk or an interrupt leaves no partial file; and reading of regular files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a temporary file in the same folder, then move it to `path`; creates the folder, replaces an old file.

    Args:
        path: the file.
        content: text is written in UTF-8, with escapes for characters that UTF-8 lacks.

    Raises:
        OSError: the file cannot be written; the old file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # only the owner can read a temporary file
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: it cannot be read, or is not a regular file, such as a pipe.
        ValueError: it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    return path.read_text(encoding="utf-8")
