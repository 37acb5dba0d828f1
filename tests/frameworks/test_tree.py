"""Names for what a model returns."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from xcheck.frameworks.tree import named_tensors, outputs_record


class Tensor:
    """Stands for a tensor; equal only to itself."""


A, B, C = Tensor(), Tensor(), Tensor()


def named(value: Any, **options: Any) -> dict[str, Any]:
    return named_tensors(value, lambda v: isinstance(v, Tensor), **options)


@dataclass
class Output:
    logits: Any
    hidden: Any = None


Point = namedtuple("Point", "mean scale")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (A, {"output": A}),
        ((A, B), {"output_0": A, "output_1": B}),
        ([A], {"output_0": A}),
        ({"logits": A, "aux": B}, {"logits": A, "aux": B}),
        (OrderedDict(logits=A), {"logits": A}),
        (Output(A, (B, C)), {"logits": A, "hidden_0": B, "hidden_1": C}),
        (Output(A), {"logits": A}),
        (Point(A, B), {"mean": A, "scale": B}),
        ((A, {"k": B}), {"output_0": A, "output_1.k": B}),
        ({"enc": {"k": A}, "dec": {"k": B}}, {"enc.k": A, "dec.k": B}),
        ({1: A}, {"1": A}),
        (None, {}),
        ((A, None, B), {"output_0": A, "output_2": B}),
        ([], {}),
    ],
)
def test_every_tensor_is_named_after_its_place(value, names):
    assert named(value) == names


def test_the_root_names_a_lone_tensor_and_the_items_of_a_tuple():
    assert named((A, B), root="state") == {"state_0": A, "state_1": B}


@pytest.mark.parametrize("value", ["text", 3, (A, 0.5), {"a": object()}, Output])
def test_what_is_neither_a_tensor_nor_a_container_is_refused(value):
    with pytest.raises(TypeError, match="neither a tensor nor a container"):
        named(value)


@pytest.mark.parametrize(
    "value",
    [
        {"hidden": {"hidden_state": A}, "hidden_state": B},
        {"output": (A,), "output_0": B},
        {"a": {"b": A}, "a.b": B},
        {1: A, "1": B},
    ],
)
def test_no_tensor_is_lost_to_another_of_the_same_name(value):
    try:
        found = named(value)
    except TypeError:
        return
    assert set(found.values()) == {A, B}


def test_calls_that_share_out_a_batch_are_one_call():
    parts = [{"a": np.full((n, 3), n, np.float32), "b": np.full(n, n)} for n in (4, 1, 5)]
    record = outputs_record(parts, 10)
    assert list(record["b"]) == [4] * 4 + [1] + [5] * 5
    assert (record["a"].shape, record["a"].dtype) == ((10, 3), np.float32)


@pytest.mark.parametrize(
    ("other", "size"),
    [
        ({"output": np.ones((2, 3))}, 10),
        ({"output": np.ones((2, 4))}, 4),
        ({"output": np.ones((2, 3), np.float32)}, 4),
        ({"output": np.ones(())}, 3),
        ({"output": np.ones((2, 3)), "aux": np.ones((2, 3))}, 4),
    ],
    ids=["too-few-rows", "another-shape", "another-dtype", "no-rows", "another-name"],
)
def test_other_calls_stay_apart(other, size):
    first = {"output": np.zeros((2, 3))}
    record = outputs_record([first, other], size)
    assert set(record) == {"output"} | {f"{name} (call 2)" for name in other}
    assert np.array_equal(record["output"], first["output"])


def test_one_call_is_what_it_is_and_none_has_no_outputs():
    assert outputs_record([{"output": np.ones(())}], 7) == {"output": np.ones(())}
    assert outputs_record([], 7) == {}
