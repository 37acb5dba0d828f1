"""A recurrent cell looped over time by hand, in PyTorch.

Hochreiter and Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU): one cell is applied to each row of an image in turn,
and the last state names the digit.

Shapes: B batch, T rows, D pixels of a row, H hidden, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `both_biases` of an LSTM are a usual mistake."""

    cell: Literal["lstm", "gru"] = "lstm"
    pixels: int = 8
    hidden: int = 6
    classes: int = 10
    both_biases: bool = False


class Unrolled(nn.Module):
    """One cell, called once per row."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden = config.hidden
        if config.cell == "lstm":
            self.cell = nn.LSTMCell(config.pixels, config.hidden)
            if not config.both_biases:
                # PyTorch adds two biases. Trained both, their sum moves twice as far as Keras's one.
                nn.init.zeros_(self.cell.bias_hh).requires_grad_(False)
        else:
            self.cell = nn.GRUCell(config.pixels, config.hidden)
            nn.init.zeros_(self.cell.bias_hh)  # as it starts in Keras, but trained
        self.head = nn.Linear(config.hidden, config.classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        # rows: (B, T, D)
        h = c = rows.new_zeros(rows.shape[0], self.hidden)  # (B, H)
        for row in rows.unbind(dim=1):  # the tie: the same cell for every row
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(row, (h, c))
            else:
                h = self.cell(row, h)
        return self.head(h)  # (B, K)


def build(config: Config) -> Unrolled:
    """The model, with PyTorch's own initial weights."""
    return Unrolled(config)
