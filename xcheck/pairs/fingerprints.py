"""Hashes of the inputs of a verdict: the code of each side, the batches, the map, waivers, accepted differences.

They show whether a run became EQUIVALENT because its data shrank, a parameter was waived or the reference was edited.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from .pair import Batch, Pair, Waiver
from .user_code import is_library

Fingerprints = Mapping[str, Mapping[str, str]]
"""What -> {"what": in words, "sha256": its hash}."""

LARGEST = 1 << 20
"""At most this many elements of a container are hashed."""


def fingerprints(pair: Pair, batches: Sequence[tuple[int, str]], settings: Mapping[str, Any]) -> Fingerprints:
    """The fingerprints of a run.

    Args:
        pair: of the run.
        batches: (examples, digest) of each batch of the run.
        settings: of the run, such as the number of steps.
    """
    weight_map = pair.weight_map or {}
    waived = {path: target.reason for path, target in weight_map.items() if isinstance(target, Waiver)}
    mapped = {path: target for path, target in weight_map.items() if path not in waived}
    accepted = sorted(pair.accept)
    words = [f"{name} {value}" for name, value in settings.items()]
    sizes = sorted({size for size, _ in batches})
    return {
        "torch": _print(f"{type(pair.torch).__name__}", *_code(pair.torch)),
        "keras": _print(f"{type(pair.keras).__name__}", *_code(pair.keras)),
        "reference": _print(pair.reference, pair.reference),
        "batches": _print(f"{len(batches)} of {', '.join(map(str, sizes)) or 'no'} examples", *(d for _, d in batches)),
        "map": _print(f"{len(mapped)} entries", *(f"{path}={mapped[path]!r}" for path in sorted(mapped))),
        "waivers": _print(", ".join(sorted(waived)) or "none", *(f"{path}={waived[path]}" for path in sorted(waived))),
        "accepted": _print(", ".join(accepted) or "none", *accepted),
        "settings": _print(", ".join(words), *words),
    }


def size_and_digest(batch: Batch) -> tuple[int, str]:
    """The (examples, digest) of a batch, for `fingerprints`."""
    return batch.size, batch.digest()


def _print(what: str, *parts: str) -> Mapping[str, str]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode("utf-8", "backslashreplace"))
    return {"what": what, "sha256": digest.hexdigest()}


def _code(side: Any) -> list[str]:
    """A side's code, function by function, in a fixed order, without comments and line numbers."""
    return list(_walk(side, set()))


def _walk(thing: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(thing, str | bytes | int | float | complex | bool | type(None)):
        yield repr(thing)
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, types.FunctionType):
        yield from _function(thing, seen)
    elif isinstance(thing, types.CodeType):
        yield from _of_code(thing, seen)
    elif isinstance(thing, types.MethodType):
        yield from _walk(thing.__func__, seen)
        yield from _walk(thing.__self__, seen)
    elif isinstance(thing, type):
        yield from _class(thing, seen)
    elif isinstance(thing, types.ModuleType):
        path = getattr(thing, "__file__", None)
        yield f"module {thing.__name__.rpartition('.')[2]}"
        if path and not is_library(path) and Path(path).is_file():
            yield hashlib.sha256(Path(path).read_bytes()).hexdigest()
    elif isinstance(thing, Mapping):
        for key, value in sorted(cast(Any, thing).items(), key=lambda item: repr(item[0]))[:LARGEST]:
            yield repr(key)
            yield from _walk(value, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        items = sorted(cast(Any, thing), key=repr) if isinstance(thing, set | frozenset) else cast(Any, thing)
        for item in items[:LARGEST]:
            yield from _walk(item, seen)
    else:
        yield from _object(thing, seen)


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    code = function.__code__
    if is_library(code.co_filename):
        yield f"{function.__module__}.{function.__qualname__}"
        return
    yield from _of_code(code, seen)
    yield from _walk(function.__defaults__, seen)
    yield from _walk(function.__kwdefaults__, seen)
    for name in _names(code):
        if name in function.__globals__:
            yield name
            yield from _walk(function.__globals__[name], seen)
    for cell in function.__closure__ or ():
        try:
            yield from _walk(cell.cell_contents, seen)
        except ValueError:  # not yet filled
            continue


def _of_code(code: types.CodeType, seen: set[int]) -> Iterator[str]:
    yield code.co_code.hex()
    yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars))
    for constant in code.co_consts:
        yield from _walk(constant, seen)


def _names(code: types.CodeType) -> list[str]:
    """The global names of a function and of the functions inside it."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return sorted({*code.co_names, *inner})


def _class(kind: type, seen: set[int]) -> Iterator[str]:
    yield f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    if path is not None and is_library(path):
        return
    for base in kind.__bases__:
        yield from _walk(base, seen)
    for name, value in sorted(vars(kind).items()):
        held: Any = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(held, types.FunctionType | str | int | float | tuple) and name not in ("__module__", "__doc__"):
            yield name
            yield from _walk(held, seen)


def _object(thing: Any, seen: set[int]) -> Iterator[str]:
    """An object: its class, and its fields if the class is from xcheck or the user."""
    kind = cast(Any, type(thing))
    yield from _walk(kind, seen)
    module = kind.__module__.partition(".")[0]
    own = module == "xcheck" or ("__init__" in kind.__dict__ and not is_library(_file_of(kind)))
    slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
    if own:
        held = {**getattr(thing, "__dict__", {}), **{n: getattr(thing, n) for n in slots if hasattr(thing, n)}}
        yield from _walk({name: value for name, value in held.items() if not name.startswith("__")}, seen)
    elif kind.__name__ == "partial":
        yield from _walk((thing.func, thing.args, thing.keywords), seen)


def _file_of(kind: type) -> str:
    return str(getattr(sys.modules.get(kind.__module__), "__file__", ""))
