"""Evidence from the initial values of both sides: a port that loads weights may permute their rows.

A dense layer after a flatten gets its inputs in a different order in each framework. A correct port permutes the rows
of the kernel when it loads the weights; a wrong one does not. With random weights both look the same: only the loaded
weights show which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..layouts import Layout, pattern_layout
from ..records.trace import Array, State
from .fingerprints import EXACT
from .guess import Guess


def as_loaded(guess: Guess, torch: State, keras: State) -> None:
    """Let a guess permute the rows of a dense kernel if the initial values of the sides do.

    Args:
        guess: with the kernel as the transposed weight.
        torch, keras: the sides with their initial values.
    """
    cover = guess.group.covers[guess.variant.cover]
    mine = [e for unit in guess.group.torch for e in unit.entries]
    theirs = [e for unit in guess.group.keras for e in unit.entries]
    for i, joint in enumerate(cover.joints):
        if guess.variant.layouts[i].name != "transpose" or joint.packed or len(joint.torch) != 1:
            continue
        weight, kernel = torch.parameters.get(mine[joint.torch[0]].path), keras.parameters.get(theirs[joint.keras].path)
        if weight is None or kernel is None or _near(weight.T, kernel):
            continue
        found = [layout for layout in _orders(weight, kernel) if _near(layout.forward(weight, kernel.shape), kernel)]
        if len(found) == 1:
            layouts = (*guess.variant.layouts[:i], found[0], *guess.variant.layouts[i + 1 :])
            guess.variant = replace(guess.variant, layouts=layouts)


def _orders(weight: Array, kernel: Array) -> Iterator[Layout]:
    """Channels before positions in PyTorch and after them in Keras, for every number of channels."""
    inputs = weight.shape[1]
    if not _near(np.sort(weight[0]), np.sort(kernel[:, 0])):
        return
    for channels in (n for n in range(2, inputs) if inputs % n == 0):
        if _near(weight[0].reshape(channels, -1).T.reshape(-1), kernel[:, 0]):
            text = f"o (c={channels} p) -> (p c) o"
            yield pattern_layout(text, text, text)


def _near(one: Array, other: Array) -> bool:
    size = float(np.abs(one).max()) if one.size else 0.0
    return one.shape == other.shape and float(np.abs(one - other).max(initial=0.0)) <= EXACT * size
