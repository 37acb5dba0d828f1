"""Parameters that only the reference has: set to a neutral value, they let everything else be matched.

A scale of ones or a shift of zeros has no effect. A port without it then agrees with the reference everywhere else, and
the missing parameter is its only difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserCodeError
from ..records.trace import State
from .activations import Look
from .search import Repairs

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_LONE = 8
"""At most this many parameters of the reference without a counterpart are tried with neutral values."""


def without_lone(matcher: Matcher, look: Look) -> Look | None:
    """Match everything else with the unmatched parameters of the reference at neutral values.

    Args:
        matcher: with its final guesses; if this helps, its reference keeps these values.
        look: the last one.

    Returns:
        The look under which everything is known; None if there is none.
    """
    plan = matcher.plan()
    lone = plan.unmatched(plan.reference)
    if look.solved or not lone or len(lone) > MOST_LONE or plan.unmatched(plan.follower):
        return None
    before = {path: matcher.state.value(path) for path in lone}
    back = matcher.mark()
    for neutral in (1.0, 0.0):
        try:
            matcher.renew(State({path: np.full_like(array, neutral) for path, array in before.items()}))
        except UserCodeError:
            continue
        matcher.forced.clear()
        again = Repairs(matcher)
        again.most = matcher.looks + again.most // 4
        found = again.run()
        if found.solved:
            return found
        back()
    matcher.renew(State(before))
    return None
