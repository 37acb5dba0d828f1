"""What an optimizer remembers in a form that the other side does not have: judged by what it does to later updates.

A momentum with or without the learning rate in it, a second moment in two factors, a slot that nothing reads: a name
says little of these where the optimizer is the user's own, and another form is no other computation. Such a slot is
not carried over. Each side goes on with what it made of the same gradients, and its updates are compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records.result import Check, Verdict

KEPT_APART = "not compared as such, but by the updates of the next steps, for which each side kept its own: "
"""Begins the note on such slots."""


def unjudged(names: Iterable[str]) -> list[Check]:
    """Checks for a run that ended before the slots could have an effect.

    Args:
        names: of the slots, or their roles.
    """
    detail = (
        "the other side does not keep this in the same form, so it is judged by what it does to the updates of the "
        "next steps, and the run made only one step: run with --steps 2 or more"
    )
    return [Check("update", "float64", 1, name, None, None, Verdict.INCONCLUSIVE, detail=detail) for name in names]
