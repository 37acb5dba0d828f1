"""Collects matches and waivers into a plan; the rest has no counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..layouts import LAYOUTS, Layout
from ..layouts.kinds import between
from ..layouts.parts import WHOLE, Part, covered
from ..records.inventory import Entry, Inventory
from ..records.sides import SideName
from .layers import likeness, words_of
from .plan import Match, MatchPlan, Piece


class Builder:
    """Builds a plan.

    Args:
        torch, keras: inventories of the sides.
    """

    def __init__(self, torch: Inventory, keras: Inventory) -> None:
        self.torch, self.keras = torch, keras
        self._matches: dict[tuple[str, str], Match] = {}
        self._waived: dict[tuple[SideName, str], str] = {}
        self._waived_parts: dict[tuple[SideName, str], dict[Part, str]] = {}
        self._owners: dict[str, str] = {}
        self._copies: set[str] = set()

    def waive(self, side: SideName, path: str, reason: str, part: Part = WHOLE) -> None:
        """Leave out a parameter or a slice of it on purpose."""
        if part.cuts:
            self._waived_parts.setdefault((side, path), {})[part] = reason
        else:
            self._waived[side, path] = reason

    def is_waived(self, side: SideName, path: str) -> bool:
        """Whether a canonical path is left out."""
        return (side, path) in self._waived

    def add(self, match: Match, entries: Sequence[Entry], others: Sequence[Entry]) -> None:
        """Add a match of these entries."""
        self._owners.setdefault(entries[0].owner, others[0].owner)
        buffer = all(e.buffer for e in (*entries, *others))
        self._matches[match.torch_piece.name, match.keras_piece.name] = replace(match, buffer=buffer)

    def declare_copies(self, path: str) -> None:
        """Declare the Keras variables matched with a PyTorch parameter as copies that the user's code keeps equal."""
        self._copies.add(path)

    def add_buffers(self, *, likely: bool = False) -> None:
        """Match the buffers of the layers whose parameters are matched.

        Args:
            likely: also match buffers without a promise of the layer kinds, if the most similar name has the same
                shape.
        """
        taken = {path for m in self._matches.values() for path in m.torch_piece.paths} | self._left_out("torch")
        by_owner: dict[str, list[Entry]] = {}
        for other in self.keras.buffers():
            by_owner.setdefault(other.owner, []).append(other)
        for entry in self.torch.buffers():
            owner = self._owners.get(entry.owner)
            if entry.path in taken or owner is None:
                continue
            others = by_owner.get(owner, [])
            for other in others:
                layout = between(entry.kind, entry.role, other.kind, other.role)
                if layout is not None and layout.fits(entry.shape, other.shape):
                    self._add_buffer(entry, other, layout)
                    break
            else:
                alike = [
                    (likeness(words_of(entry.role), words_of(o.role)), o) for o in others if o.shape == entry.shape
                ]
                best = max(alike, key=lambda a: a[0], default=(0.0, entry))
                if likely and best[0] > 0:
                    self._add_buffer(entry, best[1], LAYOUTS["identity"])

    def _add_buffer(self, entry: Entry, other: Entry, layout: Layout) -> None:
        self.add(Match(Piece((entry.path,), entry.shape), Piece((other.path,), other.shape), layout), [entry], [other])

    def _left_out(self, side: SideName) -> set[str]:
        return {path for of, path in self._waived if of == side}

    def _done(self, side: SideName) -> set[str]:
        """Canonical paths with all elements matched or waived."""
        parts = {path: list(of) for (its, path), of in self._waived_parts.items() if its == side}
        shapes = {e.path: e.shape for e in (self.torch if side == "torch" else self.keras).entries}
        for m in self._matches.values():
            piece = m.piece(side)
            for path in piece.paths:
                parts.setdefault(path, []).append(piece.part)
        return self._left_out(side) | {path for path, of in parts.items() if covered(of, shapes[path])}

    def plan(self, reference: SideName) -> MatchPlan:
        """The current plan."""
        done = {"torch": self._done("torch"), "keras": self._done("keras")}
        left: list[tuple[SideName, str]] = []
        left.extend(("torch", e.path) for e in self.torch.buffers() if e.path not in done["torch"])
        left.extend(("keras", e.path) for e in self.keras.buffers() if e.path not in done["keras"])
        return MatchPlan(
            reference,
            tuple(sorted(self._matches.values(), key=lambda m: m.buffer)),
            {path: reason for (_, path), reason in self._waived.items()}
            | {f"{path}{part}": why for (_, path), of in self._waived_parts.items() for part, why in of.items()},
            tuple(e.path for e in self.torch.parameters() if e.path not in done["torch"]),
            tuple(e.path for e in self.keras.parameters() if e.path not in done["keras"]),
            tuple(left),
            frozenset(self._copies),
        )
