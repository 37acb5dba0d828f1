"""Parameters that the reference alone has: with a value that changes nothing, all else can be matched.

A scale of ones, and a shift of zeros, computes as if it were not there. The port that lacks it is then the reference
in everything else, and what it lacks is its one difference.
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
"""Parameters of the reference without a counterpart up to which their values are tried."""


def without_lone(matcher: Matcher, look: Look) -> Look | None:
    """Match all else with the parameters that the reference alone has at values that change nothing.

    Args:
        matcher: whose guesses are as good as they get; where this helps, its reference keeps these values.
        look: the last one.

    Returns:
        The look under which everything is known; None where there is none.
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
