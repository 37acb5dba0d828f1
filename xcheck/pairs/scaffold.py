"""`xcheck new`: a pair file for the user's own port."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import PairError

AGENTS = "AGENTS.md"


def write_agents(folder: Path | None = None) -> Path:
    """Write `AGENTS.md`: the loop for coding agents, and what they must not do.

    Args:
        folder: for the file; None for the working directory.

    Raises:
        PairError: the file exists.
    """
    path = (folder or Path()) / AGENTS
    if path.exists():
        raise PairError("This file exists already.", where=str(path), todo="remove it, or add to it by hand")
    path.write_text((Path(__file__).parent / "templates" / AGENTS).read_text())
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
        raise PairError("This file exists already.", where=str(path), todo="choose another name, or remove it")
    environment = Environment(
        loader=PackageLoader("xcheck.pairs"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    path.write_text(environment.get_template("pair.py.jinja").render(name=name))
    return path
