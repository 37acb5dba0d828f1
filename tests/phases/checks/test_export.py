"""The export phase on a model without a framework, with one fault planted in a file at a time."""

import fakes
import numpy as np
import onnx
import onnx_files
import pytest
from onnx import helper

import xcheck

PHASES = ("inventory", "sync", "export")


def run(torch=None, keras=None, **options):
    """The linear pair, exported by the functions given per side, or as it is."""
    pair = fakes.linear_pair(
        torch={"exports": {"by hand": torch or onnx_files.writes()}, **options},
        keras={"exports": {"by hand": keras or onnx_files.writes()}},
    )
    return xcheck.check(pair, steps=1, free_steps=0, phases=PHASES)


def found(result, name):
    return next(c for c in result.checks if c.phase == "export" and name in c.name)


def causes(result):
    return [(c.id, c.torch or c.keras, c.confirmed) for c in result.causes]


def test_a_faithful_export_passes_every_comparison():
    result = run()
    assert result.verdict == "EQUIVALENT", result.report()
    names = [c.name for c in result.checks if c.phase == "export"]
    assert [n for n in names if n.startswith("output:")] == [
        "output: by hand in onnxruntime",
        "output: by hand in onnxruntime, optimized",
        "output: by hand in onnx.reference, float64",
    ] * 2 + ["output: models in float32", "output: exports in onnxruntime", "output: exports in onnxruntime, optimized"]
    assert names.count("by hand: batch of 7") == 2
    assert found(result, "by hand: linear.weight").detail == "linear.weight (identity)"
    assert [(e["side"], e["opset"], e["operators"], e["wasted_bytes"]) for e in result.exports] == [
        ("torch", {"ai.onnx": 20}, {"Gemm": 1}, 0),
        ("keras", {"ai.onnx": 20}, {"Gemm": 1}, 0),
    ]
    again = xcheck.Result.from_dict(result.to_dict())
    assert list(again.exports) == result.to_dict()["exports"]


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_one_altered_element_is_found_where_no_output_shows_it(side):
    def nudge(w):
        w.flat[1] *= 1 + 1e-6
        return w

    name = {"torch": "linear.weight", "keras": "dense/kernel"}[side]
    result = run(**{side: onnx_files.writes(onnx_files.with_weight(name, nudge))})
    assert result.verdict == "DIFFERENT"
    bad = [c for c in result.checks if c.verdict != "EQUIVALENT"]
    assert [(c.name, c.verdict) for c in bad] == [(f"by hand: {name}", "DIFFERENT")]
    assert bad[0].detail == f"{name} should store it, but 1 of 6 elements differ"
    assert causes(result) == [("initializer_altered", name, True)]


def test_another_computation_is_found_in_every_runtime():
    wrong = onnx_files.writes(onnx_files.before_output("Mul", np.float32(1.01)))
    result = run(torch=wrong)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "export"
    bad = {c.name for c in result.checks if c.verdict == "DIFFERENT"}
    assert bad == {
        "output: by hand in onnxruntime",
        "output: by hand in onnxruntime, optimized",
        "output: by hand in onnx.reference, float64",
        "by hand: batch of 7",
        "output: exports in onnxruntime",
        "output: exports in onnxruntime, optimized",
    }


def test_a_loss_of_precision_is_told_from_a_difference():
    big = np.float32(2.0**12)

    def lossy(made):
        onnx_files.before_output("Add", big)(made)
        made.graph.initializer[-1].name = made.graph.node[-1].input[1] = "big"
        onnx_files.before_output("Sub", big)(made)
        made.graph.node[-2].output[0] = made.graph.node[-1].input[0] = "larger"
        made.graph.node[-2].name = "add"

    result = run(torch=onnx_files.writes(lossy))
    assert found(result, "by hand in onnxruntime").verdict == "NUMERIC"
    assert "the file agrees with the model in float64" in found(result, "by hand in onnxruntime").detail
    assert found(result, "by hand in onnx.reference").verdict == "EQUIVALENT"


def test_weights_stored_with_fewer_digits_are_named():
    rounded = onnx_files.with_weight("linear.weight", lambda w: w.astype(np.float16).astype(np.float32))
    result = run(torch=onnx_files.writes(rounded))
    assert found(result, "by hand: linear.weight").verdict == "NUMERIC"
    assert found(result, "by hand: linear.weight").detail == "stored in float16 precision, in linear.weight"
    assert result.verdict == "DIFFERENT"
    assert causes(result) == [("weights_rounded", "linear.weight", True)]


def test_an_altered_weight_does_not_explain_what_something_else_breaks():
    def nudge(made):
        onnx_files.with_weight("linear.weight", lambda w: np.where(np.arange(6).reshape(2, 3) == 4, 9, w))(made)
        onnx_files.before_output("Mul", np.float32(1.01))(made)

    result = run(torch=onnx_files.writes(nudge))
    assert causes(result) == [("initializer_altered", "linear.weight", False)]


def test_a_transposed_copy_is_counted_in_bytes_and_is_no_failure():
    def twice(made):
        made.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ascontiguousarray(onnx_files.weight_of(made, "linear.weight").T), "again")
        )
        made.graph.node.append(helper.make_node("MatMul", ["x", "again"], ["unused"]))

    result = run(torch=onnx_files.writes(twice), copies=2)
    assert result.verdict == "EQUIVALENT", result.report()
    told = found(result, "by hand: linear.weight").detail
    assert told == "2 copies, 24 bytes wasted: linear.weight (identity), again (transpose)"
    assert found(result, "torch: tie of linear.weight after by hand").detail == told
    assert found(result, "keras: tie of dense/kernel after by hand").detail == "stored once: dense/kernel (identity)"
    assert [t.status for t in result.ties if len(t.torch) > 1] == ["duplicated"]
    assert result.exports[0]["wasted_bytes"] == 24
    assert [
        n for n in result.notes if "stores linear.weight more than once, wasting 24 bytes" in n and "xcheck retie" in n
    ]


def test_dropout_left_active_is_different_though_it_drops_nothing():
    nothing, active = np.float32(0.0), np.bool_(True)
    result = run(torch=onnx_files.writes(onnx_files.before_output("Dropout", nothing, active)))
    bad = [c for c in result.checks if c.verdict != "EQUIVALENT"]
    assert [c.name for c in bad] == ["by hand: operators"]
    assert bad[0].detail == "1 nodes from training: Dropout extra drops at random"
    idle = run(torch=onnx_files.writes(onnx_files.before_output("Dropout", nothing, np.bool_(False))))
    assert idle.verdict == "EQUIVALENT"
    assert causes(result) == [("exported_in_training_mode", "by hand", True)]


def test_an_export_taken_in_training_mode_is_explained():
    half, active = np.float32(0.5), np.bool_(True)
    result = run(torch=onnx_files.writes(onnx_files.before_output("Dropout", half, active)))
    assert found(result, "output: by hand in onnxruntime").verdict == "DIFFERENT"
    assert causes(result) == [("exported_in_training_mode", "by hand", True)]


def test_a_fixed_batch_is_different():
    result = run(keras=onnx_files.writes(batch=8))
    bad = [c for c in result.checks if c.verdict != "EQUIVALENT"]
    assert [(c.name, c.verdict) for c in bad] == [("by hand: batch of 7", "DIFFERENT")]
    assert "given x float32(7, 3); the model takes x float32(8, 3)" in bad[0].detail


def truncated(path, parameters):
    onnx_files.writes()(path, parameters)
    path.write_bytes(path.read_bytes()[:-20])


def raising(path, parameters):
    raise NotImplementedError("no operator for frobnicate")


def apart(**exports):
    """A pair whose models differ, since one of them is given other inputs."""

    def prepare(batch):
        return 2 * batch.inputs, batch.targets

    def written(side):
        return {"exports": {"by hand": exports.get(side, onnx_files.writes())}}

    pair = fakes.linear_pair(torch=written("torch"), keras={**written("keras"), "prepare": prepare})
    result = xcheck.check(pair, steps=1, free_steps=0, phases=("inventory", "forward", "export"), precision=["float64"])
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"
    return result


def test_where_the_models_differ_each_file_is_told_from_its_own():
    result = apart()
    exports = [c for c in result.checks if c.phase == "export"]
    bad = [(c.name, c.verdict.value) for c in exports if c.verdict != "EQUIVALENT"]
    assert bad == [("one side's against the other's", "INCONCLUSIVE")]
    assert "the models themselves differ in output (training) at step 1" not in exports[-1].detail
    assert "the models themselves differ in output (inference) at step 1" in exports[-1].detail
    for path in ("output", "dense/kernel"):
        assert [c for c in exports if c.keras == path and c.verdict == "EQUIVALENT"]
    assert [e["side"] for e in result.exports] == ["torch", "keras"]
    assert [c.id for c in result.causes] == ["other_inputs"]  # why the models differ


@pytest.mark.parametrize(("side", "path"), [("torch", "linear.weight"), ("keras", "dense/kernel")])
def test_where_the_models_differ_a_wrong_file_is_named_all_the_same(side, path):
    altered = onnx_files.writes(onnx_files.with_weight(path, lambda a: np.where(a == a.max(), 2 * a, a)))
    result = apart(**{side: altered})
    assert causes(result)[1:] == [("initializer_altered", path, True)]  # the first is why the models differ
    other = "keras" if side == "torch" else "torch"
    wrong = [c for c in result.checks if c.phase == "export" and c.verdict == "DIFFERENT"]
    assert wrong
    assert not [c for c in wrong if getattr(c, other)]


def test_what_cannot_be_exported_or_read_is_inconclusive_and_the_rest_goes_on():
    for writer, said in ((truncated, "not a complete ONNX model"), (raising, "no operator for frobnicate")):
        result = run(torch=writer)
        assert result.verdict == "INCONCLUSIVE"
        bad = [c for c in result.checks if c.verdict != "EQUIVALENT"]
        assert [c.name for c in bad] == ["by hand"]
        assert bad[0].detail.startswith("not exported: ")
        assert said in bad[0].detail
        assert "\n" not in bad[0].detail
        assert [c for c in result.checks if c.keras and c.name == "output: by hand in onnxruntime"]


def renamed(made):
    made.graph.node[0].op_type = "Frobnicate"


def test_an_operator_that_the_exporter_left_as_it_is_is_one_message():
    result = run(keras=onnx_files.writes(renamed))
    assert result.verdict == "INCONCLUSIVE"
    bad = [(c.name, c.keras, c.detail) for c in result.checks if c.verdict != "EQUIVALENT"]
    told = "not exported: the exporter cannot translate Frobnicate; the file contains it, but ONNX has no such operator"
    assert bad == [("by hand", "by hand", told)]
    assert [c for c in result.checks if c.torch and c.name == "output: by hand in onnxruntime"]
    assert not result.causes


def test_a_function_of_the_file_itself_is_no_missing_operator():
    def with_function(made):
        renamed(made)
        gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        opset = [helper.make_opsetid("", 20)]
        made.functions.append(helper.make_function("own", "Frobnicate", ["x", "w", "b"], ["y"], [gemm], opset))
        made.graph.node[0].domain = "own"
        made.opset_import.append(helper.make_opsetid("own", 1))
        del made.graph.node[0].attribute[:]

    result = run(torch=onnx_files.writes(with_function))
    assert not [c.detail for c in result.checks if "lacks" in c.detail]
    assert found(result, "by hand in onnxruntime").verdict == "EQUIVALENT"


def test_inputs_that_are_not_those_of_the_model_are_inconclusive():
    def other(made):
        made.graph.input.append(helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, ("batch", 5)))

    result = run(keras=onnx_files.writes(other))
    bad = [c for c in result.checks if c.verdict != "EQUIVALENT"]
    assert {c.verdict.value for c in bad} == {"INCONCLUSIVE"}
    assert {c.keras for c in bad} >= {"by hand in onnxruntime", "by hand in onnxruntime, optimized"}
    assert all("the model takes x float32('batch', 3), scale float32('batch', 5)" in c.detail for c in bad)
    assert [c for c in result.checks if c.torch and c.name == "output: by hand in onnxruntime"]


def test_an_opset_that_does_not_run_is_inconclusive():
    def future(made):
        made.opset_import[0].version = 999

    result = run(torch=onnx_files.writes(future))
    assert found(result, "by hand in onnxruntime").verdict == "INCONCLUSIVE"
    assert "onnxruntime cannot load this model" in found(result, "by hand in onnxruntime").detail
    assert {c.verdict for c in result.checks if c.phase == "export"} == {"INCONCLUSIVE", "EQUIVALENT"}


def test_a_side_without_an_exporter_is_inconclusive():
    result = xcheck.check(fakes.linear_pair(), steps=1, free_steps=0, phases=PHASES)
    assert result.verdict == "INCONCLUSIVE"
    assert found(result, "export").detail == "this side has no way to be exported"


def test_a_missing_package_is_inconclusive(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    result = run()
    assert result.verdict == "INCONCLUSIVE"
    assert "onnxruntime is not installed" in found(result, "by hand").detail


def test_a_large_model_takes_one_route_that_works_and_skips_the_slow_evaluator(monkeypatch):
    from xcheck.onnx import run as module

    monkeypatch.setattr(module, "SMALL", 5)
    pair = fakes.linear_pair(
        torch={"exports": {"broken": truncated, "usual": onnx_files.writes(), "other": onnx_files.writes()}},
        keras={"exports": {"usual": onnx_files.writes()}},
    )
    result = xcheck.check(pair, steps=1, free_steps=0, phases=PHASES)
    assert [(e["side"], e["route"]) for e in result.exports] == [("torch", "usual"), ("keras", "usual")]
    assert any(n.startswith("torch other was not tried: ") for n in result.notes)
    assert any(n.startswith("torch usual is too large for onnx.reference") for n in result.notes)
    assert not [c for c in result.checks if "onnx.reference" in c.name]


EQUAL = "EQUIVALENT"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dilated_conv", "submodel_regularizer"])
def test_both_sides_of_a_pair_are_exported_by_every_route(name, capfd):
    import keras
    import ports
    import torch

    assert keras
    assert torch
    capfd.readouterr()  # of the imports
    result = xcheck.check(getattr(ports, name)(), steps=1, free_steps=0, phases=PHASES)
    assert result.verdict == EQUAL, result.report()
    assert [(e["side"], e["route"]) for e in result.exports] == [
        ("torch", "torch.onnx.export"),
        ("keras", "Model.export"),
        ("keras", "tf2onnx"),
    ]
    batches = {c.name: c.verdict for c in result.checks if "batch of" in c.name}
    assert batches == {f"{e['route']}: batch of 15": EQUAL for e in result.exports}
    assert any(c.name.startswith("output: exports in onnxruntime") for c in result.checks)
    assert capfd.readouterr() == ("", "")
