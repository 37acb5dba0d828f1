"""The command that converts a checkpoint: convert."""

from __future__ import annotations

import json as json_module
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ...errors import BadInput, FileError, InequivalenceError, shown
from ...frameworks.sides import Progress
from ...pairs.loading import load_pair
from ...pairs.pair import Pair
from ...records.writing import write_whole
from ..ending import STDOUT, JsonOption, with_progress
from ..options import BackendOption, DeviceOption, PairArgument, SeedOption, SetOption, device_of, settings_of
from .conversion import Conversion
from .conversion import convert as converted

DIFFERENT = 1


def convert(
    pair: PairArgument,
    source: Annotated[Path, typer.Option("--from", help="The checkpoint to convert; for a sharded one, its index.")],
    target: Annotated[
        Path, typer.Option("--to", help="The file to write, for the other side; its ending sets the format.")
    ],
    script: Annotated[Path | None, typer.Option(help="Also write a conversion script that needs no xcheck.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Float type to write; by default each tensor keeps its type.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix that the keys have in the file, but not in the model.")] = "",
    key: Annotated[str | None, typer.Option(help="Key of a wrapped checkpoint that holds the weights.")] = None,
    waive: Annotated[
        list[str] | None, typer.Option(help="Keys that may be missing or left over, such as 'head.*'; repeatable.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    keras_backend: BackendOption = None,
    settings: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Convert a checkpoint (.safetensors or .pt to .weights.h5 or .keras, or back) and prove the result."""

    def work(loaded: Pair, progress: Progress) -> Conversion:
        return converted(
            loaded, source, target, dtype=dtype, script=script, prefix=prefix, key=key, waive=waive or (), seed=seed,
            device=device_of(device), keras_backend=keras_backend, progress=progress,
        )  # fmt: skip

    try:
        loaded = load_pair(pair, settings_of(settings))
        done = with_progress(loaded, work, keras_backend, None, quiet=json == STDOUT, writes=False)
    except (BadInput, InequivalenceError) as error:
        _write_json(json, {"pair": pair, "source": str(source), "target": None, "failure": str(error)})
        if isinstance(error, BadInput):
            raise
        print(error, file=sys.stderr)
        raise typer.Exit(DIFFERENT) from error
    if json != STDOUT:
        _show(done)
    _write_json(json, done.as_dict())


def _write_json(json: str | None, data: object) -> None:
    text = json_module.dumps(data, indent=1)
    if json == STDOUT:
        print(text)
    elif json is not None:
        try:
            write_whole(Path(json), text + "\n")
        except OSError as error:
            raise FileError("The result cannot be written.", where=json, cause=str(error)) from error


def _show(done: Conversion) -> None:
    counts = Counter(t.dtype for t in done.tensors)
    lines = [("written", f"{done.target}: {', '.join(f'{n} tensors in {name}' for name, n in counts.items())}")]
    if done.script:
        lines.append(("", done.script))
    lines += [("as built", t.key + (f" ({t.path})" if t.key != t.path else "")) for t in done.tensors if not t.source]
    lines += [("left out", f"{key}: {why}") for key, why in done.left_out.items()]
    rounded = [t for t in done.tensors if t.rounded]
    lines += [("rounded", f"{t.path} (from {t.source}): relative error {t.rounded:.1e}") for t in rounded[:SHOWN]]
    if len(rounded) > SHOWN:
        lines.append(
            ("", f"{len(rounded)} tensors in all, relative error at most {max(t.rounded for t in rounded):.1e}")
        )
    back = "every tensor" if not rounded else "every tensor that is not rounded"
    lines.append(("proven", f"loads as written; {back} converts back bit by bit"))
    lines += [
        ("", f"{c.name}: error {c.error:.1e}, rounding explains {c.allowed:.1e}")
        for c in done.outputs
        if c.error is not None and c.allowed is not None
    ]
    for label, text in lines:
        print(shown(f"{label:<9} {text}"))


SHOWN = 5
"""At most this many rounded tensors are listed."""
