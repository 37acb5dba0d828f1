"""Tied weights are stored once, the outputs stay bit for bit, and nothing is merged that the user did not mean."""

import numpy as np
import onnx
import onnx_files
import pytest
from onnx import TensorProto, helper

from xcheck.cli import main
from xcheck.onnx import copies, retie
from xcheck.onnx.files import load, weights
from xcheck.records.result import Verdict
from xcheck.report.result import Result

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((11, 4)).astype(np.float32)


def language_model(head=None, more=None, tokens=("batch", "time")):
    """Table picked by tokens, and the table transposed as the head: two initializers of one weight."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["x"]),
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["logits"]),
    ]
    held = {"table": TABLE, "head": TABLE.T if head is None else head, **(more or {})}
    return onnx_files.model(
        nodes, held, {"tokens": tokens}, {"logits": (*tokens, 11)}, types={"tokens": TensorProto.INT64}
    )


def saved(tmp_path, model, name="model.onnx"):
    path = tmp_path / name
    onnx.save(model, path)
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def names(path):
    return [w.name for w in weights(load(path))]


def test_without_a_choice_candidates_are_listed_and_nothing_changes(tmp_path, capsys):
    path = saved(tmp_path, language_model())
    before = path.read_bytes()
    assert run("retie", path, "-o", tmp_path / "out.onnx") == 0
    told = capsys.readouterr().out
    assert "transposed" in told
    assert "176 bytes. Nothing was changed" in told
    assert path.read_bytes() == before
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("choice", [["--equal"], ["--tie", "table=head"], ["--tie", "head=table"]])
def test_a_transposed_copy_goes_and_the_outputs_stay(tmp_path, capsys, choice):
    path, out = saved(tmp_path, language_model()), tmp_path / "new" / "out.onnx"
    assert run("retie", path, "-o", out, *choice) == 0
    told = capsys.readouterr().out
    assert "copies removed: 1, bytes saved: 176; " in told
    assert "outputs bit-equal in onnxruntime, optimizations and prepacking off: 1 of 1 on 3 random inputs" in told
    assert len(names(out)) == 1
    assert retie.prove(path, out).unequal == ()
    assert path.stat().st_size > out.stat().st_size


def test_the_same_weight_twice_needs_no_transpose(tmp_path):
    model = language_model(more={"again": TABLE})
    model.graph.node.append(helper.make_node("Gather", ["again", "tokens"], ["unused"]))
    path, out = saved(tmp_path, model), tmp_path / "out.onnx"
    assert run("retie", path, "-o", out, "--tie", "table=again") == 0
    assert names(out) == ["table", "head"]
    assert [n.op_type for n in load(out).graph.node] == ["Gather", "Tanh", "MatMul", "Gather"]
    assert run("retie", path, "-o", out, "--equal") == 0
    assert names(out) == ["table"]


def test_constants_and_weights_of_one_number_are_left_alone(tmp_path):
    zeros = np.zeros((3, 3), np.float32)
    path = saved(tmp_path, language_model(head=TABLE.T[:, ::-1], more={"a": zeros, "b": zeros, "one": zeros[:1, :1]}))
    assert copies.equal_ones(weights(load(path))) == []


def storage(paths, *held):
    return {"paths": [paths], "names": list(held), "layouts": ["identity"] * len(held), "wasted": 0}


def exported(side, storages):
    counts = {"opset": {"": 20}, "operators": {"Gather": 1}, "weights": 1, "weight_bytes": 1, "wasted_bytes": 0}
    return {"side": side, "route": "r", "producer": "p", **counts, "leftovers": [], "storages": list(storages)}


def planned(tmp_path, *storages):
    result = Result("p", Verdict.EQUIVALENT, 0, 1, exports=(exported("torch", storages),))
    return result.to_json(tmp_path / "result.json")


def test_a_plan_merges_what_its_run_saw_in_one_storage(tmp_path):
    model = language_model(more={"apart": TABLE})
    model.graph.node.append(helper.make_node("Gather", ["apart", "tokens"], ["unused"]))
    path, out = saved(tmp_path, model), tmp_path / "out.onnx"
    plan = planned(tmp_path, storage("embedding.weight", "table", "renamed"), storage("other.weight", "apart"))
    assert run("retie", path, "-o", out, "--plan", plan) == 0
    assert sorted(names(out)) == ["apart", "table"]  # equal by value now, but another storage in the run


def test_a_plan_is_read_for_the_export_that_the_file_is(tmp_path):
    """A name that an exporter makes up is that of another storage in the next export of the same run."""
    path, out = saved(tmp_path, language_model(more={"apart": TABLE})), tmp_path / "out.onnx"
    other = storage("embedding.weight", "folded"), storage("other.weight", "table", "renamed")
    mine = storage("embedding.weight", "table", "apart"), storage("other.weight", "head")
    for order in (mine, other), (other, mine):
        exports = tuple(exported("keras", storages) for storages in order)
        plan = Result("p", Verdict.EQUIVALENT, 0, 1, exports=exports).to_json(tmp_path / "result.json")
        assert run("retie", path, "-o", out, "--plan", plan) == 0
        assert sorted(names(out)) == ["head", "table"]


def test_a_plan_of_another_model_is_refused(tmp_path, capsys):
    path = saved(tmp_path, language_model())
    for plan, said in (
        (planned(tmp_path, storage("w", "x", "y")), "a different model"),
        (Result("p", Verdict.EQUIVALENT, 0, 1).to_json(tmp_path / "none.json"), "no phase export"),
    ):
        assert run("retie", path, "-o", tmp_path / "out.onnx", "--plan", plan) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tie", "said"),
    [
        ("tabel=head", "did you mean 'table'"),
        ("table", "takes A=B"),
        ("table=other", "float32(11, 4) and float32(11, 4), 1 of 44 elements differ"),
        ("table=table", "one and the same"),
        ("table=small", "of different sizes"),
    ],
)
def test_a_tie_that_is_none_is_refused(tmp_path, capsys, tie, said):
    other = TABLE.copy()
    other[3, 2] += 1
    path = saved(tmp_path, language_model(more={"other": other, "small": TABLE[:2]}))
    assert run("retie", path, "-o", tmp_path / "out.onnx", "--tie", tie) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


def test_a_name_may_hold_the_sign_of_a_tie():
    held = [copies.Weight("a=b", TABLE), copies.Weight("c", TABLE.T)]
    assert [(c.kept, c.dropped, c.axes) for c in copies.named_ones(held, ["a=b=c"])] == [("a=b", "c", (1, 0))]


def test_bad_usage_and_bad_files_are_one_message(tmp_path, capsys):
    path = saved(tmp_path, language_model())
    assert run("retie", path, "--equal") == 2
    assert "is the input file" in capsys.readouterr().err
    assert run("retie", path, "-o", path, "--equal") == 2
    assert run("retie", path, "-o", tmp_path / "x", "--equal", "--tie", "a=b") == 2
    capsys.readouterr()
    short = tmp_path / "short.onnx"
    short.write_bytes(path.read_bytes()[:-30])
    for wrong in (short, tmp_path / "absent.onnx", tmp_path):
        assert run("retie", wrong) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert str(wrong) in said


def test_a_wrong_repair_is_not_written(tmp_path, capsys, monkeypatch):
    square = RNG.standard_normal((11, 11)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    model = onnx_files.model(nodes, {"a": square, "b": square.T}, {"x": ("n", 11)}, {"y": ("n", 11)})
    path, out = saved(tmp_path, model), tmp_path / "out.onnx"
    assert run("retie", path, "-o", out, "--equal") == 0
    out.unlink()
    monkeypatch.setattr(copies, "relation", lambda left, right: "same")
    assert run("retie", path, "-o", out, "--equal") == 1
    assert "DIFFERENT  the outputs y of the retied model differ; nothing was written" in capsys.readouterr().out
    assert not out.exists()


def test_inputs_may_be_given_and_are_needed_where_none_fit(tmp_path, capsys):
    model = language_model(tokens=(None, None))
    model.graph.node[0].input[1] = "flat"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 9], np.int64), "shape"))
    model.graph.node.insert(0, helper.make_node("Reshape", ["tokens", "shape"], ["flat"]))
    path, out = saved(tmp_path, model), tmp_path / "out.onnx"
    assert run("retie", path, "-o", out, "--equal") == 2
    assert "pass --inputs FILE.npz" in capsys.readouterr().err
    np.savez(tmp_path / "given.npz", tokens=np.arange(63).reshape(9, 7) % 11)
    assert run("retie", path, "-o", out, "--equal", "--inputs", tmp_path / "given.npz") == 0
    assert "1 of 1 on 1 inputs" in capsys.readouterr().out
    np.savez(tmp_path / "wrong.npz", words=np.zeros(3))
    assert run("retie", path, "-o", out, "--equal", "--inputs", tmp_path / "wrong.npz") == 2
    (tmp_path / "no.npz").write_text("no")
    assert run("retie", path, "-o", out, "--equal", "--inputs", tmp_path / "no.npz") == 2
