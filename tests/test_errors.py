"""The messages of errors and the tree they form."""

import re

import pytest

import xcheck
from xcheck import errors
from xcheck.errors import BadInput, FileError, InequivalenceError, InternalError, PairError, XcheckError


def test_a_message_has_its_parts_in_order_whatever_the_order_they_are_given_in():
    error = PairError("It broke.", todo="fix it", numbers="3 of 4", cause="a typo", where="Pair.torch")
    assert str(error).splitlines() == [
        "It broke.",
        "  where:   Pair.torch",
        "  numbers: 3 of 4",
        "  cause:   a typo",
        "  next:    fix it",
    ]


def test_a_part_that_is_not_known_is_left_out():
    assert str(BadInput("It broke.")) == "It broke."
    assert str(BadInput("It broke.", where="", cause="a typo")) == "It broke.\n  cause:   a typo"


def test_further_lines_of_a_part_stand_below_its_first():
    assert str(BadInput("It broke.", todo="one\ntwo")) == "It broke.\n  next:    one\n           two"


def test_a_part_can_be_filled_in_later():
    error = FileError("Damaged.")
    error.parts["where"] = "here.json"
    assert "  where:   here.json" in str(error)


def test_a_fresh_error_carries_no_result():
    assert BadInput("It broke.").result is None


def test_the_docstring_draws_the_tree_that_the_classes_form():
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.split("```")[1].strip().splitlines():
        found = re.match(r"([│ ├└─]*)(\w+)", line)
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        drawn[found[2]] = path[depth - 1] if depth else "Exception"
    defined = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, XcheckError)}
    assert drawn == {name: cls.__bases__[0].__name__ for name, cls in defined.items()}


def test_inequivalence_is_an_assertion_and_no_mistake_of_the_user():
    assert issubclass(InequivalenceError, AssertionError)
    assert not issubclass(InequivalenceError, BadInput)
    assert not issubclass(InternalError, BadInput | AssertionError)


@pytest.mark.parametrize("name", ["XcheckError", "BadInput", "InequivalenceError"])
def test_what_a_caller_catches_is_exported(name):
    assert getattr(xcheck, name) is getattr(errors, name)
