"""One planted situation for each way in which checkers of ports have turned green wrongly.

A run is green when it is EQUIVALENT or NUMERIC. The fourteenth trap, hooks that change the order in which
gradients accumulate, needs hooks: it is tested where PyTorch and Keras are watched.
"""

from dataclasses import replace

import numpy as np
import pytest
from fakes import WEIGHT_MAP, both, changed, dropped, entry, inventory, linear_pair, scaled

import xcheck
from xcheck.errors import InequivalenceError, MatchError, PairError, UserCodeError
from xcheck.matching import plan_from_map
from xcheck.pairs.loading import load_pair

KERNEL, BIAS = "dense/kernel", "dense/bias"


def run(pair: xcheck.Pair | None = None, steps: int = 2, **sides) -> xcheck.Result:
    return xcheck.check(pair or linear_pair(**sides), steps=steps)


def not_green(result: xcheck.Result, *wrong: tuple[str, int | None, str], verdict: str = "DIFFERENT") -> None:
    """The verdict is as given, the checks that say so are exactly these, and a caller cannot miss it."""
    found = [(c.phase, c.step, c.name) for c in result.checks if c.verdict != "EQUIVALENT"]
    assert found == list(wrong)
    assert result.verdict == verdict
    with pytest.raises(InequivalenceError):
        result.assert_equivalent()


def test_the_pair_that_the_traps_are_set_in_is_green_without_them():
    run().assert_equivalent(strict=True)


def test_trap_01_a_comparison_whose_outcome_nobody_reads():
    # Both sides run to the end without an error; only the values differ.
    result = run(keras={"fault": scaled("outputs", "output", by=1 + 1e-9)})
    not_green(result, ("forward", 1, "output (training)"), ("forward", 2, "output (training)"))


def lower_layer(side: str, by: float = 1.0) -> dict:
    """A second parameter, below the head: its gradient is a fixed pattern times `by`."""
    path = {"torch": "lower.scale", "keras": "lower/scale"}[side]
    gradient = np.array([1.0, -2.0, 0.5, 3.0])
    return {"extra": {path: (4,)}, "fault": changed("gradients", path, change=lambda _: gradient * by)}


@pytest.mark.parametrize("by", [1 + 1e-9, -1.0, 0.0])
def test_trap_02_gradients_below_the_top_are_never_compared(by):
    weight_map = {**WEIGHT_MAP, "lower.scale": "lower/scale"}
    sound = linear_pair(torch=lower_layer("torch"), keras=lower_layer("keras"), weight_map=weight_map)
    run(sound).assert_equivalent()
    faulty = replace(sound, keras=linear_pair(keras=lower_layer("keras", by)).keras)
    not_green(run(faulty), ("gradient", 1, "lower.scale"), ("gradient", 2, "lower.scale"))


@pytest.mark.parametrize("step", [2, 3, 5])
def test_trap_03_only_the_first_step_is_compared(step):
    fault = scaled("gradients", BIAS, by=1 + 1e-9, step=step)
    not_green(run(keras={"fault": fault}, steps=5), ("gradient", step, "linear.bias"))


@pytest.mark.parametrize(("side", "path"), [("torch", "zz.weight"), ("keras", "zz/kernel")])
def test_trap_04_a_surplus_parameter_vanishes_in_a_zip(side, path):
    result = run(**{side: {"extra": {path: (4,)}}})
    assert result.coverage["parameters"]["unused"] == 1  # nothing depends on it, so it is no difference, and is counted
    assert path in " ".join(c.name for c in result.checks if "unused" in c.detail) + " ".join(result.notes)


@pytest.mark.parametrize(("side", "lacking"), [("torch", "keras"), ("keras", "torch")])
def test_trap_05_an_output_that_one_side_lacks_is_skipped(side, lacking):
    fault = changed("outputs", "aux", change=lambda _: np.ones(3), step=2)
    result = run(**{side: {"fault": fault}})
    not_green(result, ("forward", 2, "aux (training)"))
    assert result.checks[-1 - [c.name for c in reversed(result.checks)].index("aux (training)")].detail == (
        f"missing only on the {lacking} side"
    )


def test_trap_06_a_weight_of_another_shape_is_reshaped_until_it_loads():
    torch = inventory(entry("linear.weight", (2, 3), "Linear"))
    for shape in ((2, 3), (6,), (3, 2, 1), (6, 1)):
        keras = inventory(entry("dense/kernel", shape, "Dense"))
        with pytest.raises(MatchError, match="does not convert one shape into the other"):
            plan_from_map(torch, keras, {"linear.weight": "dense/kernel"})
    with pytest.raises(MatchError, match="'identity' does not convert"):
        run(linear_pair(weight_map={**WEIGHT_MAP, "linear.weight": ("dense/kernel", "identity")}))
    ravelled = changed("outputs", "output", change=np.ravel)
    not_green(run(keras={"fault": ravelled}, steps=1), ("forward", 1, "output (training)"))


@pytest.mark.parametrize("suffix", ["weight", "inear.weight", ".weight", "linear.weigh"])
def test_trap_07_a_key_is_matched_by_its_ending(suffix):
    with pytest.raises(MatchError, match="does not exist") as caught:
        run(linear_pair(weight_map={suffix: "dense/kernel", "linear.bias": "dense/bias"}))
    assert repr(suffix) in str(caught.value)
    with pytest.raises(MatchError, match="does not exist"):
        run(linear_pair(weight_map={"linear.weight": "kernel", "linear.bias": "dense/bias"}))


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_trap_08_a_tolerance_relative_to_one_side_lets_the_other_grow(reference, side):
    path = {"torch": "linear.bias", "keras": BIAS}
    for by in (1e12, 1e-12):  # with rtol=1 relative to the larger side, both would pass
        pair = linear_pair(reference=reference, **{side: {"fault": scaled("gradients", path[side], by=by)}})
        not_green(run(pair, steps=1), ("gradient", 1, path[reference]))


def test_trap_08_only_the_first_of_several_failures_is_reported():
    fault = both(
        scaled("gradients", KERNEL, step=1),
        scaled("gradients", BIAS, step=1),
        scaled("gradients", BIAS, step=3),
        scaled("outputs", "output", step=3),
    )
    not_green(
        run(keras={"fault": fault}, steps=3),
        ("gradient", 1, "linear.weight"),
        ("gradient", 1, "linear.bias"),
        ("forward", 3, "output (training)"),
        ("gradient", 3, "linear.bias"),
    )


def test_trap_09_means_are_equal_and_elements_are_permuted():
    def permute(array):
        moved = array[np.random.default_rng(0).permutation(len(array))]
        assert np.array_equal(np.sort(moved, axis=None), np.sort(array, axis=None))
        return moved

    for where, wrong in ((("outputs", "output"), "output (training)"), (("gradients", KERNEL), "linear.weight")):
        result = run(keras={"fault": changed(*where, change=permute, step=2)})
        not_green(result, ("forward" if where[0] == "outputs" else "gradient", 2, wrong))


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("outputs", "output"), ("forward", 1, "output (training)")),
        (("losses", "data"), ("loss", 1, "data")),
        (("gradients", {"torch": "linear.bias", "keras": BIAS}), ("gradient", 1, "linear.bias")),
    ],
)
def test_trap_10_nan_on_one_side_zeroes_both(side, where, wrong):
    def spoil(array):
        array = np.array(array)
        array[(0,) * array.ndim] = np.nan
        return array

    place = (where[0], where[1][side] if isinstance(where[1], dict) else where[1])
    result = run(**{side: {"fault": changed(*place, change=spoil, step=1)}})
    not_green(result, wrong)
    (check,) = (c for c in result.checks if c.verdict == "DIFFERENT")
    assert check.detail.startswith(f"NaN only on the {side} side, 1 of ")


def test_trap_11_what_is_missing_is_returned_from_and_so_passes():
    with pytest.raises(PairError, match="must be an xcheck"):
        run(replace(linear_pair(), keras=None))
    with pytest.raises(PairError, match="no pair 'no_such_pair'"):
        load_pair("no_such_pair")

    def mute(record):
        return replace(record, inference={}, outputs={}, losses={}, gradients=dict.fromkeys(record.gradients))

    silent = linear_pair(torch={"fault": mute}, keras={"fault": mute})
    result = xcheck.check(silent, steps=1, precision=("float64",), phases=("forward", "loss", "gradient"))
    not_green(
        result,
        ("forward", 1, "outputs"),
        ("loss", 1, "loss"),
        ("gradient", 1, "linear.weight"),
        ("gradient", 1, "linear.bias"),
        verdict="INCONCLUSIVE",
    )
    not_green(xcheck.check(linear_pair(), phases=()), verdict="INCONCLUSIVE")


def square(weight_map=None, **keras) -> xcheck.Pair:
    def prepare(batch):
        return batch.inputs, np.concatenate([batch.targets, batch.targets[:, :1]], axis=1)

    sizes = {"inputs": 3, "outputs": 3, "prepare": prepare}
    return linear_pair(torch=sizes, keras={**sizes, **keras}, weight_map=weight_map or WEIGHT_MAP)


def test_trap_12_a_square_matrix_fits_transposed_as_well():
    run(square()).assert_equivalent()
    wrong = run(square({**WEIGHT_MAP, "linear.weight": ("dense/kernel", "identity")}), steps=1)
    assert wrong.first_divergence.phase == "forward"  # it loads, and is told by what it computes
    assert all(c.verdict == "EQUIVALENT" for c in wrong.checks if c.phase in ("inventory", "sync"))
    turned = square(fault=changed("gradients", KERNEL, change=np.transpose, step=1))
    not_green(run(turned, steps=1), ("gradient", 1, "linear.weight"))


@pytest.mark.parametrize("shape", [(3, 3), (4, 2)])
def test_trap_12_a_permutation_that_fits_the_shape_is_taken_for_the_right_one(shape):
    torch, keras = inventory(entry("a.weight", shape, "Mine")), inventory(entry("a/w", shape[::-1], "Port"))
    with pytest.raises(MatchError, match="No layout is known") as caught:
        plan_from_map(torch, keras, {"a.weight": "a/w"})
    assert "transpose" in str(caught.value)  # offered, not taken


def test_trap_13_an_assertion_is_caught_and_printed():
    def prepare(batch):
        raise AssertionError("shapes differ")

    with pytest.raises(UserCodeError, match="keras prepare raised AssertionError") as caught:
        run(keras={"prepare": prepare})
    assert caught.value.result.verdict == "INCONCLUSIVE"
    result = run(keras={"fault": dropped("gradients", BIAS)}, steps=1)
    with pytest.raises(InequivalenceError) as raised:
        result.assert_equivalent()
    assert not isinstance(raised.value, xcheck.BadInput)  # what catches mistakes does not catch this
    assert str(raised.value).startswith("DIFFERENT  linear: ")
