"""Which parameter of one side is which of the other: the match plan, and the ways to come by one."""

from .by_map import plan_from_map
from .plan import Match, MatchPlan, Piece, SideName, other_side

__all__ = ["Match", "MatchPlan", "Piece", "SideName", "other_side", "plan_from_map"]
