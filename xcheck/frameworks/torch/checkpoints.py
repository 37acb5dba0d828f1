"""PyTorch checkpoints: `.safetensors`, also in shards, and state dicts in `.pt`, `.pth` and `.bin`."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes  # of Keras
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_file

from ...errors import FileError
from ...pairs.user_code import calling
from ...records.trace import Array
from ..checkpoints import Stored, Value, damaged

_SHORT = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "BOOL": "bool",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8",
}  # fmt: skip
"""Names of dtypes in a safetensors file -> those of NumPy."""


class TorchCheckpoints:
    """Reads and writes the state dict of a `TorchRunner`."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def keys(self) -> Mapping[str, str]:
        inventory = self._runner.inventory()
        return {key: key for key in self._runner.model.state_dict() if inventory.find(key) is not None}

    @contextmanager
    def open(self, file: Path, inside: str | None) -> Generator[Stored]:
        if file.suffix in (".safetensors", ".json"):
            with ExitStack() as files:
                yield _tensors_of(_shards(file), files)
        else:
            yield _unpickled(file, inside)

    def save(self, file: Path, value: Value) -> None:
        inventory = self._runner.inventory()
        held: dict[str, Any] = self._runner.model.state_dict()
        tensors: dict[str, Any] = {}
        first: dict[str, str] = {}  # canonical path -> key
        kept: dict[str, str] = {}  # tied key -> the key it is stored under
        for key, tensor in held.items():
            path: str = inventory.canonical_path(key) if inventory.find(key) else key
            if path in first:
                kept[key] = first[path]
                continue
            first[path] = key
            array = value(path)
            tensors[key] = tensor if array is None else _tensor(array)
        if file.suffix == ".safetensors":  # which stores a tied tensor once, and says so as `save_model` does
            alone = {key: tensor.clone() for key, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
            save_file(alone, file, metadata={"format": "pt", **kept})
        else:
            torch.save({key: tensors[kept.get(key, key)] for key in held}, file)

    def load(self, file: Path) -> None:
        with self._runner._scope(), calling(f"torch model, given what was written to {file.name},"):
            if file.suffix == ".safetensors":
                load_model(self._runner.model, file)
            else:
                state = torch.load(file, map_location=self._runner.device, weights_only=True)
                self._runner.model.load_state_dict(state)


def _shards(file: Path) -> list[Path]:
    """The files that an index names, or the one file."""
    if file.suffix != ".json":
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FileError(
            "This file is not the index of a sharded checkpoint.",
            where=str(file),
            cause=f"{type(error).__name__}: {error}",
            todo='an index has {"weight_map": {key: file}}; give the .index.json beside the shards',
        ) from error
    missing = [name for name in names if not (file.parent / name).is_file()]
    if missing:
        raise FileError(
            "Shards of this checkpoint are missing.",
            where=str(file),
            numbers=f"{len(missing)} of {len(names)}: {', '.join(missing[:3])}",
            todo="put all shards into the folder of the index",
        )
    return [file.parent / name for name in names]


def _tensors_of(shards: list[Path], files: ExitStack) -> Stored:
    """Tensors are read one by one, when they are asked for."""
    held: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for shard in shards:
        try:
            opened: Any = files.enter_context(safe_open(shard, framework="pt"))
            for key in opened.keys():  # noqa: SIM118 - it is no mapping
                described = opened.get_slice(key)
                held[key], shapes[key] = opened, tuple(described.get_shape())
                short = str(described.get_dtype())
                dtypes[key] = _SHORT.get(short, short)
        except (SafetensorError, OSError, ValueError) as error:
            raise damaged(shard, error) from error
    return Stored(shapes, dtypes, lambda key: _array(held[key].get_tensor(key), key))


def _unpickled(file: Path, inside: str | None) -> Stored:
    try:
        data: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            "This checkpoint contains more than weights, and loading it would run code.",
            where=str(file),
            cause="a whole model or other objects were pickled, or the file is damaged",
            todo="where it was saved: torch.save(model.state_dict(), FILE), or safetensors.torch.save_model",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise damaged(file, error) from error
    wrapped = [key for key, held in _items(data) if _tensors(held)]
    if inside is not None:
        data = dict(_items(data)).get(inside)
    tensors = _tensors(data)
    if not tensors:
        raise FileError(
            "This checkpoint contains no weights" + (f" under {inside!r}." if inside else " at its top."),
            where=str(file),
            numbers=f"its keys: {', '.join(str(key) for key, _ in _items(data))[:200]}" if _items(data) else None,
            cause="the weights are wrapped in a dict with other training state" if wrapped else None,
            todo=f"add: --key {wrapped[0]}" if wrapped else "save it with torch.save(model.state_dict(), FILE)",
        )
    return Stored(
        {key: tuple(t.shape) for key, t in tensors.items()},
        {key: str(t.dtype).removeprefix("torch.") for key, t in tensors.items()},
        lambda key: _array(tensors[key], key),
        tuple(str(key) for key, _ in _items(data) if key not in tensors),
    )


def _items(data: Any) -> list[tuple[Any, Any]]:
    return list(data.items()) if isinstance(data, Mapping) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _tensors(data: Any) -> dict[str, Any]:
    return {key: held for key, held in _items(data) if isinstance(key, str) and isinstance(held, torch.Tensor)}


def _array(tensor: torch.Tensor, key: str) -> Array:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:  # such as a quantized or a sparse tensor
        raise FileError(
            "This checkpoint contains a tensor that cannot be converted.",
            where=key,
            numbers=f"{tensor.dtype}, {tensor.layout}",
            todo="save it as a dense tensor of a float or integer type",
        ) from error


def _tensor(array: Array) -> torch.Tensor:
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
