"""Arguments and options shared by several commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import PairError
from ..frameworks.sides import Device
from ..phases.reach import Reach
from ..records.version import __version__

PairArgument = Annotated[str, typer.Argument(help="Name of a folder under models/, or file.py, or file.py:ATTRIBUTE.")]
StepsOption = Annotated[int, typer.Option(help="Training steps, each from the reference's state.")]
SeedOption = Annotated[int, typer.Option(help="Seed of initial weights, batches and perturbations.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BackendOption = Annotated[str | None, typer.Option(help="tensorflow, jax or torch.")]
PhasesOption = Annotated[
    str | None, typer.Option(help="Phases, comma-separated, or all; by default those the pair needs.")
]
OutOption = Annotated[Path | None, typer.Option(help="Folder for result.json and report.html.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for the file's pair(...); repeatable.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="NUMERIC also exits with 1.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print only the first line.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Print every failing check.")]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Accept a known, intended difference: CAUSE, CAUSE@PLACE, or a quantity such as 'buffer running_var'; "
        "repeatable. It is listed, and everything else is still judged."
    ),
]
ReachOption = Annotated[
    str,
    typer.Option(
        help="Also check batches derived from the given ones: none, default (the 6 most informative), or full."
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(help="Start no new check after this time, such as 60s or 5m; the most informative checks run first."),
]
ExpectOption = Annotated[bool, typer.Option("--expect", help="Exit with 0 if the pair's declared expectation held.")]


def print_version(wanted: bool) -> None:
    """Print the version and end, if requested."""
    if wanted:
        print(f"xcheck {__version__}")
        raise typer.Exit


def device_of(device: str) -> Device:
    """The value of `--device`.

    Raises:
        PairError: the device is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise PairError("Unknown device.", numbers=f"--device {device}; devices: auto, cpu, cuda")
    return device


def settings_of(items: list[str] | None) -> Mapping[str, Any]:
    """The values of `--set`.

    Raises:
        PairError: one is not KEY=VALUE.
    """
    settings: dict[str, Any] = {}
    for item in items or ():
        key, separator, text = item.partition("=")
        if not separator or not key.isidentifier():
            raise PairError("--set takes KEY=VALUE.", numbers=f"--set {item}", todo="for example: --set image_size=299")
        try:
            settings[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[key] = text  # a word without quotes
    return settings


def seconds_of(budget: str | None) -> float | None:
    """The value of `--budget`, in seconds.

    Raises:
        PairError: it is no time.
    """
    if budget is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", budget)
    if found is None:
        raise PairError("A budget is a time.", numbers=f"--budget {budget}", todo="for example: --budget 60s, or 5m")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def reach_of(reach: str) -> Reach:
    """The value of `--reach`.

    Raises:
        PairError: the reach is unknown.
    """
    if reach not in ("none", "default", "full"):
        raise PairError("Unknown reach.", numbers=f"--reach {reach}; choose none, default or full")
    return reach
