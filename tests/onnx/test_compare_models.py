"""Two files from anywhere: what computes the same passes, one planted fault at a time is found and named."""

import numpy as np
import onnx
import onnx_files
import pytest
from onnx import TensorProto, helper

from xcheck.cli import main
from xcheck.onnx.compare_models import compare_models

RNG = np.random.default_rng(0)
FIRST = RNG.standard_normal((6, 5)).astype(np.float32)
SECOND = RNG.standard_normal((5, 3)).astype(np.float32)


def net(activation="Tanh", first=FIRST, second=SECOND, names=("x", "y"), opset=20, batch="batch"):
    nodes = [
        helper.make_node("MatMul", [names[0], "first"], ["h"], name="lower"),
        helper.make_node(activation, ["h"], ["a"], name="active"),
        helper.make_node("MatMul", ["a", "second"], [names[1]], name="upper"),
    ]
    held = {"first": first, "second": second}
    return onnx_files.model(nodes, held, {names[0]: (batch, 6)}, {names[1]: (batch, 3)}, opset=opset)


def compared(tmp_path, left, right, **options):
    paths = [tmp_path / "left.onnx", tmp_path / "right.onnx"]
    for path, model in zip(paths, (left, right), strict=True):
        onnx.save(model, path)
    return compare_models(*paths, **options)


def bad(found):
    return [(c.name, c.verdict) for c in found.checks if c.verdict != "EQUIVALENT"]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["onnx", *map(str, arguments)])
    return ended.value.code


def spelled_out():
    """The same net from other operators, with other names, the weights transposed and the second in two parts."""
    nodes = [
        helper.make_node("Gemm", ["in", "w1"], ["g"], transB=1, name="g1"),
        helper.make_node("Mul", ["g", "two"], ["g2"], name="m"),
        helper.make_node("Sigmoid", ["g2"], ["s"], name="s1"),
        helper.make_node("Mul", ["s", "two"], ["s2"], name="m2"),
        helper.make_node("Sub", ["s2", "one"], ["t"], name="sub"),  # tanh(g) = 2 sigmoid(2 g) - 1
        helper.make_node("MatMul", ["t", "w2a"], ["ya"], name="a"),
        helper.make_node("MatMul", ["t", "w2b"], ["yb"], name="b"),
        helper.make_node("Concat", ["ya", "yb"], ["out"], axis=1, name="c"),
    ]
    held = {"w1": FIRST.T, "w2a": SECOND[:, :1], "w2b": SECOND[:, 1:], "two": np.float32(2), "one": np.float32(1)}
    return onnx_files.model(nodes, held, {"in": ("n", 6)}, {"out": ("n", 3)}, opset=17)


def test_the_same_computation_in_other_words_is_equivalent(tmp_path):
    found = compared(tmp_path, net(), spelled_out())
    assert found.verdict == "EQUIVALENT", bad(found)
    assert [(p.left.name, p.right.name) for p in (*found.inputs, *found.outputs)] == [("x", "in"), ("y", "out")]
    assert [at.holders[0].layout if at.holders else at.pieces for at in found.located] == ["transpose", ("w2a", "w2b")]
    assert found.first == (None, None)


def test_the_first_differing_node_is_named_in_both_files(tmp_path):
    found = compared(tmp_path, net(), net("Softsign"))
    assert bad(found) == [("y in onnxruntime", "DIFFERENT"), ("y in onnxruntime, optimized", "DIFFERENT")]
    left, right = found.first
    assert (left.operator, left.name, left.reads, left.output) == ("Tanh", "active", ("h",), "a")
    assert (right.operator, right.name, right.reads) == ("Softsign", "active", ("h",))
    assert left.nearest[0] == "a"


def test_the_first_node_is_found_across_other_words(tmp_path):
    other = spelled_out()
    other.graph.node[1].input[1] = "one"  # sigmoid(g) for sigmoid(2 g)
    left, right = compared(tmp_path, net(), other).first
    assert (left.operator, left.reads) == ("Tanh", ("h",))
    assert right.name == "s1"  # Mul by one still gives what the first MatMul gives
    assert right.reads == ("g2",)


def test_an_altered_weight_is_named_with_the_node_that_reads_it(tmp_path):
    wrong = SECOND.copy()
    wrong[1, 1] += 0.5
    found = compared(tmp_path, net(), net(second=wrong))
    assert bad(found)[0] == ("weight second", "DIFFERENT")
    assert "1 of 15 elements differ" in found.checks[4].detail
    assert [f.name for f in found.first] == ["upper", "upper"]
    assert found.first[0].weights == ("second",)


def test_an_altered_weight_is_found_where_no_output_shows_it(tmp_path):
    wrong = SECOND.copy()
    wrong[1, 1] = np.nextafter(wrong[1, 1], np.float32(9))
    assert bad(compared(tmp_path, net(), net(second=wrong))) == [("weight second", "DIFFERENT")]


def test_two_different_models_differ_and_share_no_weight(tmp_path):
    found = compared(tmp_path, net(), net(first=FIRST[::-1] * 2, second=SECOND + 1))
    assert found.verdict == "DIFFERENT"
    assert not any(at.holders for at in found.located)
    assert [f.name for f in found.first] == ["lower", "lower"]


def test_a_square_weight_the_wrong_way_round_is_different(tmp_path):
    square = RNG.standard_normal((6, 6)).astype(np.float32)
    found = compared(tmp_path, net(first=square, second=square), net(first=square, second=square.T))
    assert found.verdict == "DIFFERENT"
    assert [f.name for f in found.first] == ["upper", "upper"]


def test_an_export_taken_in_training_mode_is_named(tmp_path):
    model = net()
    onnx_files.before_output("Dropout", np.float32(0.5), np.bool_(True))(model)
    found = compared(tmp_path, net(), model)
    assert ("right.onnx: operators", "DIFFERENT") in bad(found)
    assert "Dropout extra drops at random" in next(c.detail for c in found.checks if c.name == "right.onnx: operators")


def test_lost_precision_is_told_from_a_difference_where_memory_allows(tmp_path, monkeypatch):
    big = np.float32(2.0**12)
    model = net()
    model.graph.node[2].output[0] = "sum"
    model.graph.initializer.append(onnx.numpy_helper.from_array(big, "big"))
    model.graph.node.append(helper.make_node("Add", ["sum", "big"], ["more"], name="add"))
    model.graph.node.append(helper.make_node("Sub", ["more", "big"], ["y"], name="sub"))
    found = compared(tmp_path, net(), model)
    assert found.verdict == "NUMERIC"
    assert all("both files agree in float64" in c.detail for c in found.checks if c.verdict == "NUMERIC")
    monkeypatch.setattr("xcheck.onnx.compare_models.available", lambda: 1)
    found = compared(tmp_path, net(), model)
    assert found.verdict == "DIFFERENT"
    assert all("not evaluated in float64" in c.detail for c in found.checks if c.verdict == "DIFFERENT")


def test_in_a_file_that_is_too_large_the_first_node_is_said_not_to_be_looked_for(tmp_path, monkeypatch):
    changed = net("Sigmoid")
    told = "the first differing node is not searched for"
    found = compared(tmp_path, net(), changed)
    assert found.first != (None, None)
    assert not any(told in c.detail for c in found.checks)
    monkeypatch.setattr("xcheck.onnx.compare_models.LARGEST", 0)
    found = compared(tmp_path, net(), changed)
    assert found.first == (None, None)
    assert [told in c.detail for c in found.checks if c.verdict == "DIFFERENT" and "onnxruntime" in c.name] == [
        True,
        True,
    ]


def convolution(last):
    kernel = np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["a", "k"], ["b"], name="conv")]
    shapes = ((1, 2, 6, 5), (1, 3, 4, 3))
    if last:
        nodes = [
            helper.make_node("Transpose", ["image"], ["a"], perm=[0, 3, 1, 2]),
            *nodes,
            helper.make_node("Transpose", ["b"], ["map"], perm=[0, 2, 3, 1]),
        ]
        shapes = ((1, 6, 5, 2), (1, 4, 3, 3))
    ends = ("image", "map") if last else ("a", "b")
    return onnx_files.model(nodes, {"k": kernel}, {ends[0]: shapes[0]}, {ends[1]: shapes[1]})


def test_channels_first_and_channels_last_are_matched_and_said(tmp_path):
    found = compared(tmp_path, convolution(last=False), convolution(last=True))
    assert found.verdict == "EQUIVALENT", bad(found)
    assert [p.layout for p in (*found.inputs, *found.outputs)] == ["channels last", "channels last"]


def two_inputs(order):
    nodes = [helper.make_node("Gather", ["table", "ids"], ["g"]), helper.make_node("Mul", ["g", "scale"], ["y"])]
    shapes = {"ids": ("n",), "scale": ("n", 5)}
    shapes = {name: shapes[name] for name in order}
    return onnx_files.model(nodes, {"table": FIRST}, shapes, {"y": ("n", 5)}, types={"ids": TensorProto.INT64})


def test_inputs_are_matched_by_name_and_else_by_what_fits(tmp_path):
    assert compared(tmp_path, two_inputs(["ids", "scale"]), two_inputs(["scale", "ids"])).verdict == "EQUIVALENT"
    renamed = two_inputs(["scale", "ids"])
    for value in renamed.graph.input:
        value.name += "_1"
    renamed.graph.node[0].input[1], renamed.graph.node[1].input[1] = "ids_1", "scale_1"
    found = compared(tmp_path, two_inputs(["ids", "scale"]), renamed)
    assert found.verdict == "EQUIVALENT"
    assert [(p.left.name, p.right.name) for p in found.inputs] == [("ids", "ids_1"), ("scale", "scale_1")]


def test_other_inputs_are_inconclusive_and_the_rest_is_told(tmp_path, capsys):
    found = compared(tmp_path, net(), two_inputs(["ids", "scale"]))
    assert found.verdict == "INCONCLUSIVE"
    (said,) = (c.detail for c in found.checks if c.name == "outputs")
    assert "x float32(batch, 6) against ids int64(n), scale float32(n, 5)" in said
    assert run(tmp_path / "left.onnx", tmp_path / "right.onnx") == 3
    told = capsys.readouterr().out
    assert told.startswith("INCONCLUSIVE")
    assert "MatMul" in told


def test_a_file_that_onnxruntime_does_not_run_is_inconclusive(tmp_path):
    found = compared(tmp_path, net(), net(opset=999))
    assert found.verdict == "INCONCLUSIVE"
    assert "onnxruntime cannot load this model" in found.checks[-1].detail


def test_a_fixed_batch_of_one_file_is_taken(tmp_path):
    found = compared(tmp_path, net(), net(batch=7))
    assert found.verdict == "EQUIVALENT"
    assert found.sizes == {"x": (7, 6)}


def test_given_inputs_are_used(tmp_path):
    given = tmp_path / "x.npz"
    np.savez(given, x=np.zeros((2, 6), np.float32))
    found = compared(tmp_path, net(), net("Softsign"), inputs_file=given)
    assert [c.verdict for c in found.checks if c.error is not None] == ["EQUIVALENT"] * 2  # both are zero at zero


def test_the_command_prints_the_answer_first_and_exits_with_it(tmp_path, capsys):
    compared(tmp_path, net(), net("Softsign"))
    assert run(tmp_path / "left.onnx", tmp_path / "right.onnx") == 1
    told = capsys.readouterr().out
    assert told.startswith("DIFFERENT")
    assert "left.onnx: Tanh active\n  reads    h\n  gives    a; nearest in the other file: a, " in told
    compared(tmp_path, net(), spelled_out())
    assert run(tmp_path / "left.onnx", tmp_path / "right.onnx") == 0
    assert "1 of 2 of left.onnx are in right.onnx: 1 transpose" in capsys.readouterr().out
    (tmp_path / "right.onnx").write_bytes((tmp_path / "right.onnx").read_bytes()[:-9])
    assert run(tmp_path / "left.onnx", tmp_path / "right.onnx") == 2
    assert "not a complete ONNX model" in capsys.readouterr().err
