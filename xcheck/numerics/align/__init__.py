"""The calls of both sides, aligned by value and dataflow: matching tensors, and the first ones that differ."""

from .alignment import Alignment, align, conditions_of, distance
from .pairing import Suspect, suspects
from .places import Place, Region, region, unshared_places

__all__ = [
    "Alignment",
    "Place",
    "Region",
    "Suspect",
    "align",
    "conditions_of",
    "distance",
    "region",
    "suspects",
    "unshared_places",
]
