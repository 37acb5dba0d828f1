"""The calls of both sides, aligned by value and dataflow: which tensor is which, and where they first part."""

from .alignment import Alignment, align, conditions_of, distance
from .pairing import Suspect, suspects
from .places import Place, Region, parting, region

__all__ = [
    "Alignment",
    "Place",
    "Region",
    "Suspect",
    "align",
    "conditions_of",
    "distance",
    "parting",
    "region",
    "suspects",
]
