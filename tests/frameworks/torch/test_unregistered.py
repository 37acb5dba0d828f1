"""What a PyTorch model computes with and does not know of is found by effect: only what would learn, and does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from xcheck.frameworks.torch.unregistered import learning, unregistered


class Net(nn.Module):
    def __init__(self, held: Any, forward: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.own = nn.Linear(3, 3)
        self.held = held
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, self.own(x))


def reached(net: nn.Module, optimizer: Any = None) -> set[str]:
    found = unregistered(net, [] if optimizer is None else [optimizer])
    return set(learning(found, lambda: net(torch.ones(2, 3)).square().sum())) if found else set()


@pytest.mark.parametrize(
    ("held", "forward", "expected"),
    [
        ([nn.Linear(3, 3)], lambda net, x: net.held[0](x), {"held[0].weight", "held[0].bias"}),
        ({"scale": [nn.Parameter(torch.ones(3))]}, lambda net, x: x * net.held["scale"][0], {"held['scale'][0]"}),
        (torch.ones(3, requires_grad=True), lambda net, x: x * net.held, {"held"}),
        ([nn.Linear(3, 3)], lambda net, x: x, set()),  # nothing computes with it
        (nn.ModuleList([nn.Linear(3, 3)]), lambda net, x: net.held[0](x), set()),
        ([torch.ones(3)], lambda net, x: x * net.held[0], set()),  # wants no gradient
    ],
)
def test_what_is_hidden(held: Any, forward: Any, expected: set[str]) -> None:
    assert reached(Net(held, forward)) == expected


def test_a_teacher_that_is_kept_out_of_sight_on_purpose_is_none() -> None:
    def distilled(net: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = net.held[0](x)
        return x - wanted

    assert reached(Net([nn.Linear(3, 3)], distilled)) == set()


def test_what_is_registered_elsewhere_or_trained_is_known() -> None:
    net = Net(None, lambda net, x: net.held[0](x))
    net.held = [net.own]
    assert reached(net) == set()
    net.held = [nn.Linear(3, 3)]
    every = [*net.parameters(), *net.held[0].parameters()]
    assert reached(net, torch.optim.SGD(every, lr=0.1)) == set()
