"""Writing a file whole or not at all: a full disk or an interrupt leaves no half of one that could be read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file beside its place, then move it there; its folder is made, an old file is replaced.

    Args:
        path: the file.
        content: what it is to hold; text in UTF-8, what UTF-8 does not have in escapes.

    Raises:
        OSError: the file cannot be written; then there is none of the new and the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # a temporary file is its owner's alone
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
