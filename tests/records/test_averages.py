"""What is an average of a weight is told from what a step makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.records.averages import StoredArray, averages, copies

RNG = np.random.default_rng(0)
OLD = {"w": RNG.standard_normal((3, 2)), "v": RNG.standard_normal((3, 2)), "b": np.zeros(2)}
NEW = {path: w + 0.1 * RNG.standard_normal(w.shape) for path, w in OLD.items()}


def kept(arrays: dict[str, np.ndarray], known: bool = False) -> dict[str, StoredArray]:
    return {at: StoredArray(array, at.partition("[")[0], known) for at, array in arrays.items()}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("of", [OLD, NEW], ids=["old", "new"])
def test_averages_of_weights_are_found_with_their_weights(share: float, of: dict[str, np.ndarray]) -> None:
    start = {p: RNG.standard_normal(w.shape) for p, w in OLD.items()}
    before = kept({f"ema[{p}]": s for p, s in start.items()})
    after = kept({f"ema[{p}]": share * s + (1 - share) * of[p] for p, s in start.items()})
    assert averages(before, after, OLD, NEW) == [{f"ema[{p}]": p for p in OLD}]


@pytest.mark.parametrize("start", [OLD, {p: np.zeros_like(w) for p, w in OLD.items()}], ids=["initial", "zero"])
def test_what_a_step_makes_anew_is_an_average_from_the_initial_weights_or_zero(start: dict[str, np.ndarray]) -> None:
    after = kept({f"ema[{p}]": 0.9 * s + 0.1 * NEW[p] for p, s in start.items()})
    assert averages({}, after, OLD, NEW) == [{f"ema[{p}]": p for p in OLD}]


def test_two_sets_of_averages_are_two() -> None:
    after = {
        f"{name}[{p}]": share * OLD[p] + (1 - share) * NEW[p] for name, share in (("a", 0.9), ("b", 0.5)) for p in OLD
    }
    assert [set(found.values()) for found in averages({}, kept(after), OLD, NEW)] == [set(OLD), set(OLD)]


@pytest.mark.parametrize("share", [1.0, 1.5, -0.5])
def test_what_does_not_move_towards_a_weight_is_no_average(share: float) -> None:
    start = RNG.standard_normal((3, 2))
    assert averages(kept({"x": start}), kept({"x": share * start + (1 - share) * NEW["w"]}), OLD, NEW) == []


def test_a_momentum_is_no_average_and_what_is_known_is_not_looked_at() -> None:
    start = RNG.standard_normal((3, 2))
    momentum = 0.9 * start + 0.1 * RNG.standard_normal((3, 2))
    assert averages(kept({"m": start}), kept({"m": momentum}), OLD, NEW) == []
    assert averages(kept({"a": start}, True), kept({"a": 0.9 * start + 0.1 * NEW["w"]}, True), OLD, NEW) == []


def test_copies_are_told_by_their_bits_and_what_says_nothing_by_its_place() -> None:
    found = kept({f"shadow[{p}]": w.copy() for p, w in OLD.items()})
    assert copies(found, OLD) == {f"shadow[{p}]": p for p in OLD}
    assert copies(kept({"zeros[0]": np.zeros(2)}), OLD) == {}  # nothing beside it is a weight
    assert copies(kept({"near[0]": OLD["w"] * (1 + 1e-15)}), {"w": OLD["w"]}) == {}


def test_a_weight_that_the_step_made_is_left_out() -> None:
    after = kept({"ema[w]": 0.9 * OLD["w"] + 0.1 * NEW["w"]})
    assert averages({}, after, {"w": OLD["w"]}, NEW) == [{"ema[w]": "w"}]


def test_averages_that_float32_cannot_tell_apart_are_told_by_their_names_or_their_order() -> None:
    """After one step from ones and from zeros: each is within rounding of a small step towards the other weight."""
    rng = np.random.default_rng(0)
    old = {name: np.full(24, start, np.float32) for name, start in (("norm.weight", 1), ("norm.bias", 0))}
    towards = {"norm.weight": -1e-4, "norm.bias": 1e-4}
    new = {name: (w + towards[name] * rng.uniform(0.5, 1, 24)).astype(np.float32) for name, w in old.items()}
    made = {name: (0.99 * old[name] + 0.01 * new[name]).astype(np.float32) for name in old}
    for names in (["norm.weight", "norm.bias"], ["norm.bias", "norm.weight"]):
        for form in ("ema['{}']", "ema.module.{}"):
            before, after = ({form.format(n): StoredArray(of[n], "ema") for n in names} for of in (old, made))
            assert averages(before, after, old, new) == [{form.format(name): name for name in names}]
    before, after = ({f"list[{i}]": StoredArray(of[n], "list") for i, n in enumerate(old)} for of in (old, made))
    assert averages(before, after, old, new) == [{"list[0]": "norm.weight", "list[1]": "norm.bias"}]
