"""Names for what a model returns."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from xcheck.sides.tree import named_tensors


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
