"""Gradients that the step before has left: named where nothing else is wrong, and not where they are bent besides."""

from __future__ import annotations

from typing import Any

import pytest
from ports import mlp, torch_loss
from setups import run


@pytest.mark.parametrize("share", [1.0, 0.99])
def test_a_zero_grad_that_is_forgotten(share: float) -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        for p in model.parameters():
            if p.grad is not None:
                p.grad *= share
        loss = torch_loss(model(batch.inputs), batch.targets)
        loss.backward()
        optimizer.step()
        return loss

    result = run(mlp(torch={"step": step}), 3)
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("gradient", 2)
    found = [(c.id, c.confirmed) for c in result.causes]
    assert found == ([("gradient_not_reset", True)] if share == 1 else [])
    assert "the torch side" in result.causes[0].summary if found else True
