"""ONNX files that are damaged, hostile or endless: one message, no traceback, no waiting."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from xcheck.onnx import runtime

FLOAT = TensorProto.FLOAT


def model(weight: np.ndarray | None = None) -> onnx.ModelProto:
    """y = x @ w."""
    w = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3) if weight is None else weight, "w")
    x, y = (helper.make_tensor_value_info(n, FLOAT, [None, size]) for n, size in (("x", 2), ("y", 3)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "g", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless() -> onnx.ModelProto:
    """A Loop whose condition stays true, 2**62 times."""
    value = [helper.make_tensor_value_info(n, FLOAT, [1]) for n in ("before", "after")]
    again = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("again", "yes")]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["again"], ["yes"]), helper.make_node("Add", ["before", "one"], ["after"])]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    body = helper.make_graph(nodes, "body", [count, again[0], value[0]], [again[1], value[1]], [one])
    constants = [
        numpy_helper.from_array(np.array(2**62), "many"),
        numpy_helper.from_array(np.array(True), "true"),
    ]
    x, y = (helper.make_tensor_value_info(n, FLOAT, [1]) for n in ("x", "y"))
    loop = helper.make_node("Loop", ["many", "true", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(made: onnx.ModelProto, path: Path) -> str:
    onnx.save(made, str(path))
    return str(path)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.binary(max_size=5), st.booleans())
def test_damaged_bytes_are_a_verdict_or_one_message(tmp_path, monkeypatch, place, instead, cut) -> None:
    monkeypatch.setattr(runtime, "SECONDS", 5.0)
    whole = model().SerializeToString()
    place %= len(whole)
    (tmp_path / "a.onnx").write_bytes(whole)
    (tmp_path / "b.onnx").write_bytes(whole[:place] if cut else whole[:place] + instead + whole[place + len(instead) :])
    assert run("onnx", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")) in (0, 1, 2, 3)
    assert run("retie", str(tmp_path / "b.onnx")) in (0, 2)


@pytest.fixture(autouse=True)
def _no_traceback(capsys):
    yield
    assert "Traceback" not in capsys.readouterr().err


def test_a_loop_without_an_end_is_ended(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(runtime, "SECONDS", 0.5)
    path = saved(endless(), tmp_path / "endless.onnx")
    assert run("onnx", path, path) == 3
    out = capsys.readouterr().out
    assert out.startswith("INCONCLUSIVE")
    assert "did not finish in time" in out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_no_equal_ones(value, tmp_path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight[0, 1] = value
    good, bad = saved(model(), tmp_path / "good.onnx"), saved(model(weight), tmp_path / "bad.onnx")
    assert run("onnx", good, bad) in (1, 3)
    assert run("onnx", bad, bad) in (0, 3)
    assert run("retie", bad) == 0


def test_weights_in_a_pipe_are_not_waited_for(tmp_path, capsys) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert run("onnx", str(path), str(path)) == 0
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    for command in (["onnx", str(path), str(path)], ["retie", str(path)]):
        assert run(*command) == 2
        assert "weights.bin is not a regular file" in capsys.readouterr().err
