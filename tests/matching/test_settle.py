"""What is settled in the end: which guesses stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from xcheck.matching.settle import within_calls
from xcheck.matching.units import Unit


@dataclass(eq=False)
class Guessed:
    torch: tuple[Unit, ...]
    keras: tuple[Unit, ...]
    by_value: bool = False

    def units(self, side: str) -> tuple[Unit, ...]:
        return self.torch if side == "torch" else self.keras


def unit(name: str, *calls: int) -> Unit:
    return Unit(name, "Linear", (), calls)


def kept(*guesses: Any) -> list[Any]:
    return within_calls(guesses, "torch", "keras")


@pytest.mark.parametrize(("calls", "stays"), [((3,), False), ((3, 5), True)])
def test_a_layer_has_no_more_counterparts_than_calls(calls: tuple[int, ...], stays: bool) -> None:
    layer = unit("body.0", *calls)
    proven = Guessed((layer,), (unit("dense_7", 9),), by_value=True)
    alike = Guessed((layer,), (unit("dense_2", 2),))
    assert kept(alike, proven) == ([alike, proven] if stays else [proven])


def test_where_no_value_tells_which_it_is_every_guess_stays() -> None:
    layer = unit("body.0", 3)
    guesses = [Guessed((layer,), (unit(name, 1),)) for name in ("dense_1", "dense_2")]
    assert kept(*guesses) == guesses


def test_copies_that_values_prove_stay_however_often_the_layer_is_called() -> None:
    layer = unit("body.0", 3)
    guesses = [Guessed((layer,), (unit(name, 1),), by_value=True) for name in ("dense_1", "dense_2")]
    assert kept(*guesses) == guesses
