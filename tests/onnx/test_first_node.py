"""Parameters are found among the constants of a file by value, in any layout, or it is said what became of them."""

import numpy as np
import pytest

from xcheck.onnx.files import Weight
from xcheck.onnx.parameters import arrangement, fingerprint, locate

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def located(value, *constants):
    (at,) = locate({"w": value}, [Weight(f"c{i}", c) for i, c in enumerate(constants)])
    return at


KERNEL = draw(2, 3, 5, 7)
MATRIX = draw(4, 4)


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        (MATRIX, MATRIX, "identity"),
        (MATRIX, MATRIX.T, "transpose"),
        (KERNEL, KERNEL.transpose(2, 3, 1, 0), "conv"),
        (KERNEL.transpose(2, 3, 1, 0), KERNEL, "conv"),
        (KERNEL, KERNEL.transpose(1, 0, 3, 2), "axes (1, 0, 3, 2)"),
        (MATRIX, MATRIX.reshape(2, 8), "reshaped"),
        (MATRIX[:3], MATRIX[:3].T.reshape(2, 6), "transpose, reshaped"),
        (KERNEL[:, :, 0, 0], KERNEL[::-1, :, 0, 0], None),
    ],
)
def test_a_layout_is_named(source, target, name):
    assert arrangement(source, target) == name


def test_a_fingerprint_sees_every_element_and_no_order():
    assert fingerprint(MATRIX) == fingerprint(MATRIX.T) == fingerprint(np.sort(MATRIX.reshape(-1)))
    changed = MATRIX.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    assert fingerprint(changed) != fingerprint(MATRIX)
    swapped = MATRIX.copy()
    swapped[0, 0] = swapped[0, 1]
    assert fingerprint(swapped) != fingerprint(MATRIX)
    large = draw(300_000)
    assert fingerprint(large) == fingerprint(large[::-1])


def test_every_copy_is_a_holder_and_the_first_is_no_waste():
    at = located(MATRIX, draw(4, 4), MATRIX, MATRIX.T)
    assert [(h.name, h.layout) for h in at.holders] == [("c1", "identity"), ("c2", "transpose")]
    assert at.wasted == MATRIX.nbytes


def test_two_parameters_are_never_taken_for_each_other():
    left, right = draw(4, 4), draw(4, 4)
    a, b = locate({"a": left, "b": right}, [Weight("only", left)])
    assert [h.name for h in a.holders] == ["only"]
    assert b == type(b)("b")


def test_gates_in_another_order_are_found_as_rearranged():
    gates = draw(12, 3)
    at = located(gates, np.concatenate([gates[:3], gates[9:], gates[3:9]])[None])
    assert [h.layout for h in at.holders] == ["rearranged"]


def test_a_parameter_among_others_or_cut_in_parts_is_found():
    one, two = draw(6), draw(6)
    assert located(one, np.concatenate([two, one])).pieces == ("c0",)
    assert located(MATRIX, MATRIX[:2], MATRIX[2:]).pieces == ("c0", "c1")
    assert located(MATRIX, MATRIX[:2]).pieces == ()  # half of it is not the whole


@pytest.mark.parametrize("turned", [MATRIX, MATRIX.T], ids=["as it is", "transposed"])
def test_an_altered_constant_is_told_with_its_right_value(turned):
    wrong = turned.copy()
    wrong[1, 2] += 0.5
    at = located(MATRIX, wrong)
    assert at.altered == "c0 should store it, but 1 of 16 elements differ"
    assert at.suspect[0] == "c0"
    assert np.array_equal(at.suspect[1], turned)


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_rounded_weights_are_told_by_their_precision(stored):
    at = located(MATRIX, MATRIX.astype(np.float16).astype(stored))
    assert at.rounded == "float16 precision, in c0"
    assert not at.altered
    coarse = (MATRIX.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
    assert located(MATRIX, coarse).rounded == "bfloat16 precision, in c0"


def test_another_weight_of_the_same_size_is_not_an_altered_one():
    assert located(MATRIX, draw(4, 4)) == type(located(MATRIX))("w")


def test_an_altered_copy_is_told_though_another_one_is_whole():
    wrong = MATRIX.T.copy()
    wrong[0, 3] += 1
    at = located(MATRIX, MATRIX, wrong)
    assert [h.name for h in at.holders] == ["c0"]
    assert at.altered == "c1 should store it, but 1 of 16 elements differ"
