"""PyTorch in float64 throughout: functions that have no kernel for it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xcheck.frameworks.torch.patches.precision import Float64Throughout
from xcheck.records.islands import Islands


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this PyTorch has no grouped_mm")
def test_a_grouped_product_is_computed_in_float64_as_it_is_in_float32() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(9, 16, dtype=torch.float64), torch.randn(3, 16, 8, dtype=torch.float64)
    ends = torch.tensor([2, 2, 9], dtype=torch.int32)
    with pytest.raises(RuntimeError):
        F.grouped_mm(x, weight, offs=ends)
    with Float64Throughout(Islands(lambda *_: None)):
        made = F.grouped_mm(x.requires_grad_(), weight, offs=ends)
    wanted = torch.cat([x[:2] @ weight[0], x[2:] @ weight[2]])
    assert torch.equal(made, wanted)
    assert made.requires_grad
