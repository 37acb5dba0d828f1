"""The match plan, which says which parameters of the two sides correspond, and the ways to find it."""

from ..records.sides import SIDES, SideName, other_side
from .by_map import plan_from_map
from .by_value import plan_by_value
from .plan import Doubt, Match, MatchPlan, Piece

__all__ = ["SIDES", "Doubt", "Match", "MatchPlan", "Piece", "SideName", "other_side", "plan_by_value", "plan_from_map"]
