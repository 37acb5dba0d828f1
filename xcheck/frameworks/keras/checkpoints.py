"""Keras files of weights: `.weights.h5`, and `.keras`, which holds one beside the config of the model.

Keras itself walks through the model, here as when it saves, and hands each variable to a store; ours takes the values
of the variables from elsewhere, one at a time, or notes where each of them lies in the file.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
from keras.src.saving.saving_lib import H5IOStore, _save_state

from ...errors import FileError
from ...pairs.user_code import calling
from ...records.trace import Array
from ..checkpoints import Stored, Value, damaged
from .variables import canonical

_WEIGHTS = "model.weights.h5"
"""Member of a `.keras` file."""

_OF_TRAINING = (keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss)


class _Store(H5IOStore):
    """Writes other values than those of the variables.

    Args:
        target: the file.
        value: id of a variable -> array; None keeps the variable's.

    Attributes:
        where: key in the file -> id of the variable.
    """

    def __init__(self, target: Any, value: Any) -> None:
        super().__init__(target, mode="w")
        self._value, self.where = value, dict[str, int]()

    def __setitem__(self, key: str, value: Any) -> None:
        self.where[f"{self._h5_entry_path}/vars/{key}".lstrip("/")] = id(value)
        array = self._value(id(value))
        super().__setitem__(key, value if array is None else np.array(array, order="C"))


class KerasCheckpoints:
    """Reads and writes the weights of a `KerasRunner`, without the optimizer's state."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def keys(self) -> Mapping[str, str]:
        paths = {key: place.path for key, place in canonical(self._runner.model).items()}
        nothing = np.zeros((), np.int8)
        where = self._walk(io.BytesIO(), lambda _: nothing)
        return {key: paths[variable] for key, variable in where.items() if variable in paths}

    def _walk(self, target: Any, value: Any) -> Mapping[str, int]:
        model = self._runner.model
        skipped = {id(held) for held in vars(model).values() if isinstance(held, _OF_TRAINING)}
        with self._runner._scope(), calling("keras model, saved,"):
            store = _Store(target, value)
            try:
                _save_state(model, store, None, "", skipped)
            finally:
                store.close()
        return store.where

    @contextmanager
    def open(self, file: Path, inside: str | None) -> Generator[Stored]:
        with ExitStack() as files:
            try:
                source: Any = file
                if file.suffix == ".keras":
                    source = files.enter_context(files.enter_context(zipfile.ZipFile(file)).open(_WEIGHTS))
                opened = files.enter_context(h5py.File(source, "r"))
                stored = _datasets(opened)
            except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise damaged(file, error) from error
            if not stored.shapes:
                raise FileError(
                    "This file contains no Keras 3 weights.",
                    where=str(file),
                    numbers=f"groups: {', '.join(opened) or 'none'}",
                    cause="Keras 2 wrote it, or another program",
                    todo="load it with the program that wrote it, and save it with Keras 3: "
                    "model.save_weights('NAME.weights.h5')",
                )
            yield stored

    def save(self, file: Path, value: Value) -> None:
        held = canonical(self._runner.model)
        paths = {variable: place.path for variable, place in held.items()}
        for place in held.values():  # a layer may write what it computes from its variables
            array = value(place.path)
            if array is not None:
                place.variable.assign(array)
        weights = file.with_name(_WEIGHTS) if file.suffix == ".keras" else file
        self._walk(weights, lambda variable: value(paths[variable]) if variable in paths else None)
        if file.suffix == ".keras":
            model = self._runner.model
            compiled = vars(model).pop("_compile_config", None)  # the file is about weights, not about training
            try:
                with self._runner._scope(), calling("keras model, saved,"):
                    model.save(file)
            finally:
                vars(model).update({} if compiled is None else {"_compile_config": compiled})
            _exchange(file, weights)

    def load(self, file: Path) -> None:
        todo = (
            "register each class of your own with @keras.saving.register_keras_serializable(), and give it a "
            "get_config; or write a .weights.h5, which needs neither"
        )
        with self._runner._scope(), calling(f"keras model, given what was written to {file.name},", todo=todo):
            if file.suffix == ".keras":
                keras.saving.load_model(file)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
                self._runner.model.load_weights(file)


def _datasets(opened: Any) -> Stored:
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "/vars/" in f"/{name}" and not name.startswith("optimizer/"):
            found[name] = item

    opened.visititems(note)
    dtypes = {key: str(item.attrs.get("dtype", item.dtype)) for key, item in found.items()}

    def get(key: str) -> Array:
        array = np.array(found[key])
        return array.view(ml_dtypes.bfloat16) if dtypes[key] == "bfloat16" else array

    return Stored({key: tuple(item.shape) for key, item in found.items()}, dtypes, get)


def _exchange(file: Path, weights: Path) -> None:
    """Put other weights into a `.keras` file."""
    whole = file.with_name("whole.keras")
    file.rename(whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            if name != _WEIGHTS:
                new.writestr(name, old.read(name))
        new.write(weights, _WEIGHTS)
    whole.unlink()
    weights.unlink()
