"""A conversion as a standalone NumPy script, to be read and checked in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...errors import FileError, PairError
from ...layouts import Layout
from ...layouts.parts import Part
from ...layouts.patterns import Shape, parse_pattern
from ...matching import Match, Piece
from ...records.trace import Array
from ...records.writing import write_whole

MOST_WRITTEN_OUT = 1024
"""An array with at most this many elements is written into a script as numbers."""


def script_of(
    pair: str,
    source: Path,
    target: Path,
    script: Path,
    values: Any,
    names: Mapping[str, str],
    dtype: str | None,
    built: Mapping[str, Array],
    computed: Sequence[str],
) -> str:
    """The text of a script that does the conversion of `values`.

    Args:
        pair: its name.
        source, target, script: the files.
        values: of the conversion.
        names: key -> path of the target.
        dtype: float type to write; None keeps the type of each tensor.
        built: key in the target -> value from building the model.
        computed: paths of weights that layers compute when they are saved.

    Raises:
        PairError: a script cannot do this conversion.
    """
    _refuse(source, target, computed)
    plan, inventory = values.plan, values.target.inventory()
    steps: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for key, path in names.items():
        path = inventory.canonical_path(path)
        if path in first and plan.follower == "torch":
            continue  # a tied tensor is stored once
        first.setdefault(path, key)
        matches: Sequence[Match] = values.matches(path)
        step: dict[str, Any] = {"key": _quoted(key), "path": path, "parts": [], "code": "", "like": "", "note": ""}
        step["note"] = f"  # {path}" if path != key else ""
        if not matches:
            step["code"] = _literal(path, built[key])
        for m in matches:
            source_piece, piece = m.piece(plan.reference), m.piece(plan.follower)
            code = _moved(
                _read(source_piece, m.offset if plan.follower == "keras" else -m.offset, values), m, plan.follower
            )
            if path != (piece.trained or piece.paths)[0]:
                code = f"np.zeros_like({code})"
            step["like"] = f"get({_quoted(_key(source_piece.paths[0], values))})"
            if piece.part.cuts:
                step["parts"].append({"at": _index(piece.part, piece.whole), "code": _filling(code, piece)})
                step["shape"] = piece.whole
            else:
                step["code"] = code
        steps.append(step)
    environment = Environment(
        loader=PackageLoader("xcheck.cli.convert"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("script.py.jinja").render(
        pair=pair, source=source, target=target, script=script, steps=steps, dtype=dtype, to=plan.follower,
        tied={k: first[inventory.canonical_path(p)] for k, p in names.items() if k not in first.values()},
        bfloat16=dtype == "bfloat16" or "bfloat16" in values.stored.dtypes.values(),
        adds=any("add(" in str(step) for step in steps), every=any("every(" in str(step) for step in steps),
    )  # fmt: skip
    compile(text, str(script), "exec")
    return text


def write_script(script: Path, text: str) -> None:
    """Write the script.

    Raises:
        FileError: it cannot be written.
    """
    try:
        write_whole(script, text)
    except OSError as error:
        raise FileError("The script cannot be written.", where=str(script), cause=str(error)) from error


def _refuse(source: Path, target: Path, computed: Sequence[str]) -> None:
    if source.suffix in (".pt", ".pth", ".bin") or target.suffix in (".pt", ".pth", ".bin"):
        raise PairError(
            "A conversion script runs without PyTorch, so it cannot read or write a pickled checkpoint.",
            numbers=f"--from {source} --to {target}",
            todo="with --script use .safetensors (safetensors.torch.save_model writes it)",
        )
    if computed:
        raise PairError(
            "No script can be written: a layer computes some of its weights when it is saved.",
            where=", ".join(computed),
            todo="convert without --script",
        )
    if target.suffix == ".keras":
        raise PairError(
            "A conversion script writes only weights; a .keras file also holds the model.",
            numbers=f"--to {target}",
            todo=f"--to {target.with_suffix('.weights.h5')}, which model.load_weights reads",
        )


def _quoted(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _key(path: str, values: Any) -> str:
    keys: Sequence[str] = values.fitted.keys.get(path, ())
    if not keys:
        raise PairError(
            "No script can be written: the source file does not contain a tensor that the target needs.",
            where=path,
            cause="the target model computes this tensor when it is built, which a script without the model cannot do",
            todo="convert without --script",
        )
    return keys[0]


def _read(piece: Piece, offset: float, values: Any) -> str:
    terms = [f"get({_quoted(_key(path, values))})" for path in piece.paths]
    if piece.part.cuts:
        terms = [_sized(f"{term}[{_index(piece.part, piece.whole)}]", piece) for term in terms]
    terms += [f"{offset!r}"] if offset else []
    return terms[0] if len(terms) == 1 else f"add({', '.join(terms)})"


def _keeps_axes(piece: Piece) -> bool:
    """Whether an index of recurring rows keeps an axis of one element, which a plain index drops."""
    cuts = [cut for cut in piece.part.cuts if cut]
    return any(cut.every for cut in cuts) and any(cut.drop for cut in cuts)


def _sized(code: str, piece: Piece) -> str:
    """Code that reads a slice, in the shape of the slice."""
    return f"{code}.reshape({_tuple(piece.shape)})" if _keeps_axes(piece) else code


def _filling(code: str, piece: Piece) -> str:
    """Code of the values to assign to a slice, in the shape of the index."""
    sizes = tuple(n if cut is None else cut.indices(n).size for cut, n in piece.part.axes(piece.whole))
    return f"{code}.reshape({_tuple(sizes)})" if _keeps_axes(piece) else code


def _index(part: Part, whole: Shape) -> str:
    """A slice as a NumPy index."""
    recurring = [cut for cut in part.cuts if cut and cut.every]
    if len(recurring) > 1:
        raise PairError(
            "No script can be written: a weight is sliced at regular intervals along several axes.", where=str(part)
        )
    words: list[str] = []
    for cut, n in zip(part.cuts, whole[: len(part.cuts)], strict=True):
        if cut is None:
            words.append(":")
        elif cut.every:
            words.append(f"every({cut.start}, {cut.stop}, {cut.every}, {n})")
        else:
            words.append(f"{cut.start}:{cut.stop}" if not cut.drop or recurring else str(cut.start))
    return ", ".join(words)


def _moved(code: str, match: Match, to: str) -> str:
    """Code that converts to the layout of the other side."""
    layout, torch, keras = match.layout, match.torch_piece.shape, match.keras_piece.shape
    return code + (_to_keras(layout, torch, keras) if to == "keras" else _to_torch(layout, torch, keras))


def _runs(layout: Layout, torch: Shape, keras: Shape) -> list[tuple[int, int, bool, tuple[int, ...]]]:
    """Groups of axes in Keras order: position in PyTorch, size, whether reversed, order of blocks."""
    return list(parse_pattern(layout.pattern).order(torch, keras)) if layout.pattern else []


def _whole_axes(runs: Sequence[tuple[int, int, bool, tuple[int, ...]]], torch: Shape, keras: Shape) -> list[int]:
    """The PyTorch axis of each Keras axis; empty if axes are split, merged or reversed."""
    if 1 in (*torch, *keras) or any(backwards or order for *_, backwards, order in runs):
        return []
    axes: dict[int, list[int]] = {}
    at = 0
    for place, size, *_ in sorted(runs):
        axes[place] = []
        while at < len(torch) and math.prod(torch[i] for i in axes[place]) < size:
            axes[place].append(at)
            at += 1
    moved = [i for place, *_ in runs for i in axes[place]]
    return moved if tuple(torch[i] for i in moved) == keras else []


def _to_keras(layout: Layout, torch: Shape, keras: Shape) -> str:
    runs = _runs(layout, torch, keras)
    if moved := _whole_axes(runs, torch, keras):
        return _transpose(moved)
    split = tuple(size for _, size, *_ in sorted(runs))
    places = [place for place, *_ in runs]
    code = _reshape(torch, split) if runs else ""
    code += _transpose(places)
    for axis, (_, _, backwards, order) in enumerate(runs):
        code += _take(list(order), axis) if order else ""
        code += _flip(axis) if backwards else ""
    return code + _reshape(tuple(size for _, size, *_ in runs) if runs else torch, keras)


def _to_torch(layout: Layout, torch: Shape, keras: Shape) -> str:
    runs = _runs(layout, torch, keras)
    if moved := _whole_axes(runs, torch, keras):
        return _transpose(np.argsort(moved).tolist())
    code = _reshape(keras, tuple(size for _, size, *_ in runs)) if runs else ""
    for axis, (_, _, backwards, order) in enumerate(runs):
        code += _flip(axis) if backwards else ""
        code += _take(np.argsort(order).tolist(), axis) if order else ""
    code += _transpose(np.argsort([place for place, *_ in runs]).tolist())
    return code + _reshape(tuple(size for _, size, *_ in sorted(runs)) if runs else keras, torch)


def _reshape(shape: Shape, wanted: Shape) -> str:
    return "" if shape == wanted else f".reshape({_tuple(wanted)})"


def _transpose(places: Sequence[int]) -> str:
    if list(places) == sorted(places):
        return ""
    return ".T" if list(places) == [1, 0] else f".transpose{tuple(places)}"


def _take(order: Sequence[int], axis: int) -> str:
    return f".take({list(order)}, axis={axis})"


def _flip(axis: int) -> str:
    return f"[{':, ' * axis}::-1]"


def _tuple(shape: Shape) -> str:
    return ", ".join(map(str, shape)) or "()"


def _literal(path: str, array: Array) -> str:
    """The code of a tensor with its initial value."""
    name = str(array.dtype)
    if array.size and (array == array.flat[0]).all():
        return f"np.full({array.shape}, {array.flat[0].item()!r}, {name!r})"
    if array.size > MOST_WRITTEN_OUT:
        raise PairError(
            "No script can be written: a tensor keeps its initial value and is too large to write into a script.",
            where=path,
            numbers=f"{array.size} elements",
            todo="convert without --script",
        )
    return f"np.array({array.tolist()!r}, {name!r})"
