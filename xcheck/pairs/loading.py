"""Finding and importing pairs. A pair file is Python code and runs with the rights of the user."""

from __future__ import annotations

import difflib
import importlib.abc
import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, PairError
from .pair import Pair
from .user_code import calling

PAIR_FILE = "pair.py"
DEFAULT = "PAIR"


def models_folder() -> Path:
    """The folder of named pairs: `models/` of the working directory, or XCHECK_MODELS."""
    return Path(os.environ.get("XCHECK_MODELS", "models"))


def named_pairs() -> list[str]:
    """The names of the pairs under `models_folder()`."""
    return sorted(path.parent.name for path in models_folder().glob(f"*/{PAIR_FILE}"))


def load_pair(spec: str, settings: Mapping[str, Any] | None = None) -> Pair:
    """Import the pair named on a command line.

    Args:
        spec: name of a folder under `models/`, or a path of a Python file; either may end in ":ATTRIBUTE".
        settings: arguments for the file's function `pair(...)`, which then creates the pair.

    Raises:
        PairError: there is no such pair or attribute, or the attribute is not a Pair.
        UserCodeError: the import of the file or its function raised.
    """
    location, attribute = _split(spec)
    if settings and attribute != DEFAULT:
        raise PairError(
            "A pair is selected by name or by settings, not both.",
            numbers=f"got {spec} and {', '.join(settings)}",
            todo=f"leave out :{attribute} and give its settings as --set KEY=VALUE, or leave out --set",
        )
    path = _locate(location)
    module = _import(path)
    if settings:
        factory = getattr(module, "pair", None)
        if not callable(factory):
            raise PairError(
                "This pair takes no settings.",
                where=str(path),
                todo="define a function pair(...) in the file that returns the xcheck.Pair",
            )
        with calling("function pair(...)", numbers=", ".join(f"{k}={v!r}" for k, v in settings.items())):
            pair = factory(**settings)
    else:
        pair = getattr(module, attribute, None)
    if not isinstance(pair, Pair):
        pairs = [name for name, value in vars(module).items() if isinstance(value, Pair)]
        raise PairError(
            f"{attribute} is not an xcheck.Pair." if pair is not None else f"The file does not define {attribute}.",
            where=str(path),
            numbers=f"pairs in the file: {', '.join(pairs) or 'none'}",
            todo=f"define {attribute} = xcheck.Pair(...), or choose one: {location}:{pairs[0] if pairs else 'NAME'}",
        )
    return pair


def pairs_in(path: Path) -> dict[str, Pair]:
    """Every pair of a pair file, by attribute name.

    Raises:
        PairError: the file contains no pair.
        UserCodeError: the import of the file raised.
    """
    pairs = {name: value for name, value in vars(_import(path.resolve())).items() if isinstance(value, Pair)}
    if not pairs:
        raise PairError("The file defines no xcheck.Pair.", where=str(path), todo="define PAIR = xcheck.Pair(...)")
    return pairs


def specs_in(spec: str, variants: bool = False) -> dict[str, str]:
    """The pairs of a spec: display name -> spec that is valid in any folder.

    Args:
        spec: as for `load_pair`.
        variants: for a file without an attribute, every pair instead of only `PAIR`. A file that cannot be imported
            yields its `PAIR`, so that loading it reports the error.

    Raises:
        PairError: there is no such pair.
    """
    location, attribute = _split(spec)
    path = _locate(location)
    if not variants or location != spec:
        return {spec: f"{path}:{attribute}"}
    try:
        names = list(pairs_in(path))
    except BadInput:
        names = [DEFAULT]
    return {spec if name == DEFAULT else f"{spec}:{name}": f"{path}:{name}" for name in names}


def _split(spec: str) -> tuple[str, str]:
    location, separator, attribute = spec.rpartition(":")
    if separator and attribute.isidentifier():
        return location, attribute
    return spec, DEFAULT


def _locate(location: str) -> Path:
    path = Path(location)
    if path.suffix == ".py":
        if path.is_file():
            return path.resolve()
        raise PairError("The pair file does not exist.", where=location, todo="check the path, or run: xcheck list")
    if path.is_dir() and (path / PAIR_FILE).is_file():
        return (path / PAIR_FILE).resolve()
    named = models_folder() / location / PAIR_FILE
    if named.is_file():
        return named.resolve()
    known = named_pairs()
    close = difflib.get_close_matches(location, known, n=3, cutoff=0.4)
    raise PairError(
        f"There is no pair {location!r}.",
        where=str(models_folder().resolve()),
        numbers=f"pairs here: {', '.join(known) or 'none'}",
        cause=f"did you mean {' or '.join(close)}?" if close else None,
        todo="run xcheck list, or give the path of a pair file",
    )


def _import(path: Path) -> types.ModuleType:
    """Import a pair file as a module in a package of its folder, which is in a package of the parent folder.

    So `from .torch_model import ...` finds files beside the pair file, and `from ..common import ...` files beside
    its folder.
    """
    parent_package = f"xcheck_pairs.in_{abs(hash(path.parent.parent)):x}"
    package = f"{parent_package}.{path.parent.name.replace('-', '_').replace('.', '_')}"
    for name, folder in (("xcheck_pairs", None), (parent_package, path.parent.parent), (package, path.parent)):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = [str(folder)] if folder else []
            sys.modules[name] = module
    name = f"{package}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with calling(f"file {path.name}, imported,", todo="XCHECK_TRACEBACK=1 shows the whole traceback"):
            _execute(path, spec.loader, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _execute(path: Path, loader: importlib.abc.Loader, module: types.ModuleType) -> None:
    try:
        loader.exec_module(module)
    except ModuleNotFoundError as error:
        sibling = path.with_name(f"{error.name}.py")
        if not sibling.is_file():
            raise
        raise PairError(
            f"The pair file {path.name} imports {error.name}, which is beside it, as an installed module.",
            where=str(sibling),
            cause="xcheck imports a pair file as a module of a package, its folder",
            todo=f"from . import {error.name}, or put the folder on PYTHONPATH",
        ) from error
