"""`xcheck new`: a pair file for the user's own port."""

from __future__ import annotations

import ast
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import FileError, PairError

AGENTS = "AGENTS.md"


def write_agents(folder: Path | None = None) -> Path:
    """Write `AGENTS.md`: the work loop for coding agents, and what they must not do.

    Args:
        folder: for the file; None for the working directory.

    Raises:
        PairError: the file exists.
    """
    path = (folder or Path()) / AGENTS
    if path.exists():
        raise PairError("This file already exists.", where=str(path), todo="remove it, or extend it by hand")
    path.write_text((Path(__file__).parent / "templates" / AGENTS).read_text())
    return path


EXAMPLES = Path(__file__).parent / "templates" / "examples"
SUFFIX = ".py.txt"
"""The suffix of an example: a template for a file of the user, not a module of xcheck."""


def examples() -> dict[str, str]:
    """The examples by name, with the first line of each."""
    paths = sorted(EXAMPLES.glob(f"*{SUFFIX}"))
    return {
        p.name.removesuffix(SUFFIX): (ast.get_docstring(ast.parse(p.read_text())) or "").partition("\n")[0]
        for p in paths
    }


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example to a folder, unless it exists there; returns the path.

    Args:
        name: one of `examples()`.
        folder: is created.

    Raises:
        PairError: there is no such example.
        FileError: the file cannot be written.
    """
    if name not in examples():
        raise PairError(f"There is no example {name!r}.", numbers=f"examples: {', '.join(examples())}")
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text((EXAMPLES / f"{name}{SUFFIX}").read_text())
    except OSError as error:
        raise FileError("The example cannot be copied.", where=str(path), cause=str(error)) from error
    return path


def write_scaffold(name: str, folder: Path | None = None) -> Path:
    """Write `<name>.py` with a runnable pair and comments on the parts to replace.

    Args:
        name: a Python identifier.
        folder: for the file; None for the working directory.

    Raises:
        PairError: the name is not an identifier, or the file exists.
    """
    if not name.isidentifier():
        raise PairError("A pair's name must be a Python identifier.", numbers=f"got {name!r}")
    path = (folder or Path()) / f"{name}.py"
    if path.exists():
        raise PairError(
            "This file already exists.", where=str(path), todo="choose a different name, or remove the file"
        )
    environment = Environment(
        loader=PackageLoader("xcheck.pairs"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    path.write_text(environment.get_template("pair.py.jinja").render(name=name))
    return path
