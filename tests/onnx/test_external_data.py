"""Weights in a file beside the model, as those of more than 2 GB are: read, compared, retied, and missed by name."""

import numpy as np
import onnx
import onnx_files
import pytest
from onnx import helper

from xcheck.cli import main
from xcheck.onnx import retie
from xcheck.onnx.files import load, weights

TABLE = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)


def model():
    nodes = [helper.make_node("MatMul", ["x", "table"], ["h"]), helper.make_node("MatMul", ["h", "head"], ["y"])]
    return onnx_files.model(nodes, {"table": TABLE, "head": TABLE.T}, {"x": ("n", 16)}, {"y": ("n", 16)})


@pytest.fixture
def beside(tmp_path):
    """The model, its weights in weights.bin."""
    path = tmp_path / "beside.onnx"
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(model(), str(path), **options)
    assert (tmp_path / "weights.bin").stat().st_size >= 2 * TABLE.nbytes
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_a_model_is_the_same_with_its_weights_beside_it(beside, tmp_path, capsys):
    onnx.save(model(), tmp_path / "whole.onnx")
    assert run("onnx", beside, tmp_path / "whole.onnx") == 0
    assert "2 of 2 of beside.onnx are in whole.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("largest", [retie.LARGEST, TABLE.nbytes // 2])
def test_it_is_retied_and_stays_beside_where_it_does_not_fit_into_one_file(
    beside, tmp_path, capsys, monkeypatch, largest
):
    monkeypatch.setattr(retie, "LARGEST", largest)
    out = tmp_path / "new" / "out.onnx"
    assert run("retie", beside, "-o", out, "--equal") == 0
    told = capsys.readouterr().out
    assert f"copies removed: 1, bytes saved: {TABLE.nbytes}" in told
    assert "outputs bit-equal" in told
    assert (out.parent / "out.onnx.data").exists() == (largest < TABLE.nbytes)
    assert [w.value.shape for w in weights(load(out))] in ([TABLE.shape], [TABLE.T.shape])


def test_weights_that_are_not_there_are_one_message(beside, tmp_path, capsys):
    (tmp_path / "weights.bin").unlink()
    for command in (("retie", beside), ("onnx", beside, beside)):
        assert run(*command) == 2
        said = capsys.readouterr().err
        assert "weights.bin" in said
        assert str(beside) in said
        assert "Traceback" not in said


def test_weights_that_end_early_are_one_message(beside, tmp_path, capsys):
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[: TABLE.nbytes // 2])
    for command in (("retie", beside), ("onnx", beside, beside)):
        assert run(*command) == 2
        said = capsys.readouterr().err
        assert str(beside) in said
        assert "Traceback" not in said


def test_a_file_elsewhere_is_not_read(beside, tmp_path, capsys):
    model = onnx.load(str(beside), load_external_data=False)
    (tmp_path / "weights.bin").rename(tmp_path.parent / "elsewhere.bin")
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "../elsewhere.bin"
    beside.write_bytes(model.SerializeToString())
    for command in (("retie", beside), ("onnx", beside, beside)):
        assert run(*command) == 2
        assert "elsewhere.bin" in capsys.readouterr().err


def test_weights_beside_a_model_are_mapped_and_not_read(beside):
    model = load(beside, weights=False)
    held = weights(model, beside)
    assert all(np.array_equal(w.value, value) for w, value in zip(held, (TABLE, TABLE.T), strict=True))
    assert not any(w.value.flags.owndata or w.value.flags.writeable for w in held)
    assert not any(tensor.raw_data for tensor in model.graph.initializer)
