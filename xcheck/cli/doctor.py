"""`xcheck doctor`: whether this installation can be trusted, in seconds."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ..errors import EXTRAS, BadInput
from ..frameworks.canary import Outcome
from ..frameworks.quiet import quiet
from ..frameworks.sides import BACKENDS, canaries, choose_backend, choose_device
from ..pairs.pair import Batch, KerasSide, Pair, TorchSide
from ..records.tested_versions import TESTED, span, within
from ..records.version import __version__

NEEDED = ("python", "numpy", "torch", "keras")
"""Packages that every pair needs."""

TITLES = {"version": "Versions", "backend": "Keras backends", "device": "Devices", "canary": "Canaries"}


@dataclass(frozen=True)
class Line:
    """One item that was examined.

    Attributes:
        kind: "version", "backend", "device" or "canary".
        name, found: the item and its state.
        todo: how to repair it; None if it works.
    """

    kind: str
    name: str
    found: str
    todo: str | None = None


def examine(keras_backend: str | None = None) -> list[Line]:
    """Examine versions, backends, devices and canaries.

    Args:
        keras_backend: to try; None for KERAS_BACKEND, or the first that is installed.
    """
    lines = [Line("version", "xcheck", __version__), *map(_version, TESTED)]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():  # C++ code prints during import
        backends = list(map(_backend, BACKENDS))
    usable = [line.name for line in backends if line.todo is None]
    wanted = keras_backend or os.environ.get("KERAS_BACKEND", "tensorflow")
    if keras_backend is None and usable and wanted not in usable:
        keras_backend = wanted = usable[0]
    lines += [b if b.name == wanted else replace(b, todo=None) for b in backends]  # one backend is enough
    return lines + _canaries_and_devices(keras_backend)


def _canaries_and_devices(keras_backend: str | None) -> list[Line]:
    sides = TorchSide(build=lambda: None), KerasSide(build=lambda: None)
    pair = Pair("doctor", *sides, lambda _: iter(list[Batch]()))
    lines: list[Line] = []
    for side in ("torch", "keras"):
        try:
            if side == "keras":
                choose_backend(pair, keras_backend)
            lines += [_canary(outcome) for outcome in canaries(pair, side)]
            lines.append(Line("device", side, choose_device(pair, "auto", side)))
        except BadInput as error:
            lines.append(Line("canary", side, f"not tried: {error.what}", error.parts["next"]))
    return lines


def _version(name: str) -> Line:
    try:
        version = platform.python_version() if name == "python" else importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        todo = f"pip install 'xcheck-ports[{EXTRAS[name]}]'"
        return Line("version", name, "not installed", todo if name in NEEDED else None)
    if within(name, version):
        return Line("version", name, f"{version}, tested")
    todo = f"install {span(name)}, or rely on the canaries below"
    return Line("version", name, f"{version}, not tested (tested: {span(name)})", todo)


def _backend(name: str) -> Line:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return Line("backend", name, f"not installed: {error}", f"pip install 'xcheck-ports[{EXTRAS[name]}]'")
    except (ImportError, OSError) as error:
        return Line("backend", name, f"cannot be imported: {error}", f"install {name} again")
    return Line("backend", name, "can be imported")


def _canary(outcome: Outcome) -> Line:
    name = f"{outcome.framework}: {outcome.name}"
    if outcome.reason is None:
        return Line("canary", name, "ok")
    todo = f"phases that need it are INCONCLUSIVE ({', '.join(outcome.phases)}): install a tested version"
    return Line("canary", name, outcome.reason, todo)


def show(lines: Sequence[Line]) -> None:
    """Print all items, then the repairs."""
    width = max(len(line.name) for line in lines)
    for kind, title in (
        ("version", "Versions"),
        ("backend", "Keras backends"),
        ("device", "Devices"),
        ("canary", "Canaries"),
    ):
        print(title)
        for line in lines:
            if line.kind == kind:
                print(f"  {'!' if line.todo else ' '} {line.name:<{width}}  {line.found}")
    problems = [line for line in lines if line.todo]
    print(f"\n{len(problems)} things to fix" if problems else "\nAll is well.")
    for line in problems:
        print(f"  {line.name}: {line.todo}")


def as_json(lines: Sequence[Line]) -> str:
    """The items as JSON."""
    return json.dumps(
        {"well": not any(line.todo for line in lines), "lines": [asdict(line) for line in lines]}, indent=1
    )
