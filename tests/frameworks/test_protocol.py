"""What every side is built from: the user's code called with care, projections, loss terms."""

import traceback
from pathlib import Path

import numpy as np
import pytest

import xcheck
from xcheck.errors import BatchError, UserCodeError
from xcheck.frameworks.protocol import Prepared, losses_record, prepared, projection
from xcheck.pairs.pair import Batch
from xcheck.pairs.user_code import calling, describe

BATCH = Batch({"x": np.ones((4, 3), np.float32)}, np.arange(4))


def test_without_prepare_a_side_eats_the_neutral_layout_in_arrays_of_its_own():
    ready = prepared(None, BATCH, "torch")
    assert isinstance(ready, Prepared)
    for made, given in ((ready.inputs["x"], BATCH.inputs["x"]), (ready.targets, BATCH.targets)):
        assert np.array_equal(made, given)
        assert made.dtype == given.dtype
        assert not np.shares_memory(made, given)
    assert (list(ready.inputs), ready.sample_weight) == (["x"], None)


def test_prepare_gives_inputs_targets_and_perhaps_weights():
    assert prepared(lambda b: (b.inputs["x"].T, b.targets), BATCH, "keras").inputs.shape == (3, 4)
    assert prepared(lambda b: (1, 2, 3), BATCH, "keras").sample_weight == 3


@pytest.mark.parametrize("made", [None, (1,), (1, 2, 3, 4), [1, 2], np.ones(2)])
def test_prepare_that_returns_something_else_is_shown_what(made):
    with pytest.raises(UserCodeError, match="keras side's prepare did not return") as caught:
        prepared(lambda _: made, BATCH, "keras")
    assert describe(made) in str(caught.value)


def test_prepare_that_raises_is_shown_what_it_was_given():
    def broken(batch):
        raise KeyError("image")

    with pytest.raises(UserCodeError, match="torch prepare raised KeyError") as caught:
        prepared(broken, BATCH, "torch")
    assert "{'x': float32(4, 3)}" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ones((2, 3)), "float64(2, 3)"),
        ((np.ones(2, bool), [np.arange(3)]), "(bool(2,), (int64(3,)))"),
        ({"a": np.ones(()), 1: None}, "{'a': float64(), 1: NoneType}"),
        ("text", "str"),
    ],
)
def test_a_value_is_described_by_shapes_and_types(value, words):
    assert describe(value) == words


def test_code_that_raises_nothing_is_left_alone():
    with calling("build"):
        result = 1 + 1
    assert result == 2


def test_an_error_is_placed_at_the_users_own_line_below_the_library_that_raised_it():
    def build():
        return np.reshape(np.ones(3), (2, 2))  # raises inside NumPy

    with pytest.raises(UserCodeError) as caught, calling("torch build", numbers="1 of 2", todo="think"):
        build()
    line = build.__code__.co_firstlineno + 1
    assert caught.value.what == "The pair's torch build raised ValueError."
    assert f"test_protocol.py:{line}, in build: return np.reshape" in caught.value.parts["where"]
    assert "cannot reshape array" in caught.value.parts["cause"]
    assert (caught.value.parts["numbers"], caught.value.parts["next"]) == ("1 of 2", "think")
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_xcheck_passes_as_it_is():
    error = BatchError("No data.")
    with pytest.raises(BatchError) as caught, calling("batches"):
        raise error
    assert caught.value is error


def test_what_the_user_of_the_program_asks_for_ends_it():
    with pytest.raises(KeyboardInterrupt), calling("build"):
        raise KeyboardInterrupt


def test_colours_empty_lines_and_endless_messages_are_cut():
    with pytest.raises(UserCodeError) as caught, calling("build"):
        raise ValueError("\x1b[31mred\x1b[0m\n\n" + "\n".join(f"line {i}" for i in range(99)))
    lines = caught.value.parts["cause"].splitlines()
    assert lines[:2] == ["red", "line 0"]
    assert len(lines) == 12
    with pytest.raises(UserCodeError) as caught, calling("build"):
        raise ValueError
    assert caught.value.parts["cause"] == "no message"


def test_a_users_file_next_to_the_package_is_the_users():
    beside = Path(xcheck.__file__).parent.with_name("xcheck_ports") / "pair.py"
    code = compile("def build():\n    raise ValueError('here')\n", str(beside), "exec")
    names = {}
    exec(code, names)
    with pytest.raises(UserCodeError) as caught, calling("build"):
        names["build"]()
    assert "xcheck_ports/pair.py:2, in build" in caught.value.parts["where"]
    assert traceback.extract_tb(caught.value.__cause__.__traceback__)[-1].filename == str(beside)


def test_a_projection_depends_on_name_and_shape_alone():
    first = projection("output", (4, 3))
    assert np.array_equal(first, projection("output", (4, 3)))
    assert not np.array_equal(first, projection("aux", (4, 3)))
    assert not np.array_equal(first.reshape(-1), projection("output", (12,)))
    assert projection("output", ()).shape == ()
    assert projection("output", (0, 2)).shape == (0, 2)


def test_a_projection_of_outputs_of_size_one_is_about_one():
    values = [float((projection(f"o{i}", (50, 20)) * 1.0).sum()) for i in range(200)]
    assert 0.8 < np.std(values) < 1.2


def test_unnamed_terms_go_by_their_kind_and_named_ones_by_both():
    record = losses_record({"": np.array(2.0)}, {"l2": np.array(0.5), "l1": np.array(0.25)}, None)
    assert {k: float(v) for k, v in record.items()} == {
        "data": 2.0, "penalty": 0.75, "penalty/l2": 0.5, "penalty/l1": 0.25, "total": 2.75
    }  # fmt: skip


def test_the_total_is_what_was_differentiated_where_it_is_known():
    record = losses_record({"": np.array(2.0)}, {}, np.array(3.0))
    assert float(record["total"]) == 3.0
    assert "penalty" not in record


def test_a_side_that_reported_no_loss_has_no_total_to_agree_on():
    assert "total" not in losses_record({}, {}, None)
