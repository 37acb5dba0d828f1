"""Why a file is not its model: each explanation is tried on the file or on the model, and confirmed if it accounts
for what was seen."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..frameworks.protocol import Runner
from ..onnx.files import load, nodes
from ..onnx.parameters import Located
from ..onnx.run import PLAIN, Export, Exports, in_onnxruntime
from ..phases.checks.export import agrees
from ..records.result import Cause
from ..records.trace import Array, Arrays, State
from .prove import read_off

CANDIDATES = 50
"""Weights of one shape that are tried in the place of a lost one."""


def explained(found: Exports, runners: Mapping[str, Runner]) -> list[Cause]:
    """The causes of what is wrong with the files.

    Args:
        found: by `run.exported`, the files still there.
        runners: side -> the one that wrote its files, still in the state that was exported.
    """
    causes: list[Cause] = []
    for file in found.files:
        if file.problem is None and file.structure is not None:
            causes += _training_mode(found, file)
            causes += _changed_weights(found, file)
            causes += _merged_weights(found, file, runners[file.side])
    return causes


def _cause(id_: str, file: Export, path: str | None, summary: str, evidence: Any, confirmed: bool, fix: str) -> Cause:
    torch, keras = (path or file.route, None) if file.side == "torch" else (None, path or file.route)
    cause = Cause(id_, "export", torch, keras, summary, {"route": file.route, **evidence}, fix=fix)
    return read_off(cause, shown=confirmed)


def _training_mode(found: Exports, file: Export) -> Iterator[Cause]:
    assert file.structure is not None
    left = file.structure.leftovers
    if left:
        quiet = file.path.with_suffix(".inference.onnx")
        _save_for_inference(file.path, quiet)
        yield _cause(
            "exported_in_training_mode",
            file,
            None,
            f"{file.route} exported an operation that belongs only to training: {left[0]}",
            {"nodes": list(left)},
            _is_the_model(found, file, _outputs(found, file, quiet)),
            "export the model in inference mode: model.eval() in PyTorch, training=False in Keras; and pass "
            "training=self.training to functional dropout",
        )


def _changed_weights(found: Exports, file: Export) -> Iterator[Cause]:
    for at in file.located:
        if at.suspect is None:
            continue
        name, right = at.suspect
        repaired = _outputs(found, file, file.path, {name: right})
        said = f"stored in {at.rounded}" if at.rounded else str(at.altered)
        yield _cause(
            "weights_rounded" if at.rounded else "initializer_altered",
            file,
            at.path,
            f"{file.route} does not store the exact values of {at.path}: {said}",
            {"initializer": name, "shape": list(right.shape)},
            _is_the_model(found, file, repaired),
            "export without a conversion to a narrower type"
            if at.rounded
            else "the file was changed after the export: export again, and compare both files with `xcheck onnx`",
        )


def _merged_weights(found: Exports, file: Export, runner: Runner) -> Iterator[Cause]:
    """A weight that is nowhere in the file, though the outputs are wrong: is it another one in its place?"""
    outputs = file.outputs.get((PLAIN, found.natives[0].batch.size))
    if not isinstance(outputs, Mapping) or _is_the_model(found, file, outputs):
        return
    held = [at.path for at in file.located if at.holders]
    values = runner.read().values()
    for lost in [at for at in file.located if _nowhere(at)]:
        alike = [path for path in held if values[path].shape == values[lost.path].shape]
        for path in alike[:CANDIDATES]:
            if agrees(found, file.side, _with(runner, found, lost.path, values[path]), outputs):
                yield _cause(
                    "initializers_merged",
                    file,
                    lost.path,
                    f"{file.route} uses {path} instead of {lost.path}",
                    {"used": path, "lost": lost.path},
                    True,
                    "the exporter, or an optimization pass, merged two different weights: export without that pass",
                )
                break


def _nowhere(at: Located) -> bool:
    return not (at.holders or at.pieces or at.rounded or at.altered)


def _with(runner: Runner, found: Exports, path: str, value: Array) -> Arrays:
    """The outputs of the model itself with another value of one weight."""
    kept = runner.read().values()[path]
    runner.write(State({path: value}))
    try:
        return runner.exporter().infer(found.natives[0].batch)
    finally:
        runner.write(State({path: kept}))


def _outputs(found: Exports, file: Export, path: Path, replaced: Mapping[str, Array] | None = None) -> Arrays | str:
    assert file.written is not None
    return in_onnxruntime(path, file.written, found.natives[0].batch, optimized=False, replaced=replaced)


def _is_the_model(found: Exports, file: Export, outputs: Arrays | str) -> bool:
    return not isinstance(outputs, str) and agrees(found, file.side, found.natives[0].outputs[file.side], outputs)


def _save_for_inference(path: Path, out: Path) -> None:
    """The file with its dropout idle and the statistics of its normalisations fixed."""
    import onnx
    from onnx import numpy_helper

    model = copy.deepcopy(load(path))
    idle = "xcheck/idle"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(False), idle))
    for node in nodes(model):
        if node.op_type == "Dropout" and len(node.input) > 2:
            node.input[2] = idle
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in [a for a in node.attribute if a.name == "training_mode"]:
                node.attribute.remove(attribute)
    onnx.save(model, out)
