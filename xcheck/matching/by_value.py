"""Matching without a map: guesses by layer kinds, shapes and order of use; decisions by value.

Both sides get unique random weights, matched by a first guess from the order of the layers. Each activation of the
follower is searched for among those of the reference. At the first call that is not found, the guess or the port is
wrong, and other guesses are tried for the layers before it (`search.py`). The resulting plan is proven with new random
weights and inputs, or stays open (`proof.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..pairs.pair import Batch, WeightTarget
from .alternatives import Tried, by_names, decided, unclaimed
from .evidence import settled
from .lone import without_lone
from .matchable import Matchable
from .matcher import Matcher
from .plan import MatchPlan
from .proof import Prover
from .search import Repairs
from .without_functions import plan_without_functions


def plan_by_value(
    reference: Matchable,
    follower: Matchable,
    batch: Batch,
    weight_map: Mapping[str, WeightTarget] | None = None,
    seed: int = 0,
) -> MatchPlan:
    """Match the two sides; both are restored at the end.

    Args:
        reference, follower: the sides, built.
        batch: to run them on.
        weight_map: the matches that the user gives.
        seed: of the random weights.

    Raises:
        MatchError: the map is wrong.
        UserCodeError: a model cannot be called.
    """
    kept = reference.snapshot(), follower.snapshot()
    try:
        matcher = Matcher(reference, follower, batch, weight_map or {}, seed)
        repairs = Repairs(matcher)
        look = repairs.run()
        look = without_lone(matcher, look) or look
        prover = Prover(reference, follower, batch, seed)
        tried = Tried(look, prover.judge(matcher.plan()), repairs)
        if tried.proof.agrees is False:
            tried = decided(matcher, repairs, look, tried.proof, prover)
        if tried.proof.agrees:
            tried = by_names(matcher, tried.repairs, tried, prover)
        plan = settled(matcher, tried.repairs, tried.look)
        proof = prover.judge(plan)
        if proof.agrees is not True:
            plan = unclaimed(plan, matcher, tried.repairs, tried.look)
            other = (
                None
                if tried.packed
                else plan_without_functions(reference, follower, batch, weight_map or {}, seed, plan)
            )
            if other is not None:
                plan, proof = other, prover.judge(other)
        plan = replace(plan, proven=proof.agrees, unproven=proof.detail)
        return replace(plan, tried=tried.many, exhausted=tried.all, packed=tried.packed)
    finally:
        reference.restore(kept[0])
        follower.restore(kept[1])
