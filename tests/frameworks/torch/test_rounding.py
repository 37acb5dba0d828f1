"""What is rounded is off by one more rounding error, forward, backward and in place; what is exact is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xcheck.frameworks.torch.patches.rounding import POOL, rounding

EPS = 2.0**-52
F64 = torch.float64


def moved(compute: Callable[[], torch.Tensor], seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    """By how much the result is off."""
    plain = compute()
    with rounding(nn.Identity(), dtype, np.random.default_rng(seed)):
        return compute() - plain


def numbers(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape))


X, Y = numbers(40, 5), numbers(40, 5)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: X * Y,
        lambda: X.exp(),
        lambda: X.clone().add_(Y),
        lambda: torch.stack(torch._foreach_mul([X, Y], 1.1)),
        lambda: torch.fft.rfft(X).real,
        lambda: X.to(torch.float32).double() / 3,
    ],
)
def test_each_element_of_a_result_is_off_by_one_rounding_error(compute: Callable[[], torch.Tensor]) -> None:
    off = (moved(compute) / compute()).abs()
    assert (off > 0).all()
    assert off.max() <= EPS


@pytest.mark.parametrize(
    "compute",
    [
        lambda: torch.where(X > 0, X, -1e30),
        lambda: X.masked_fill(X > 0, -1e30),
        lambda: torch.cat([X, Y]).relu().flip(0)[3:].t(),
        lambda: X.clone().index_put_((torch.tensor([3]),), Y[0]),
        lambda: X.sort().values.clamp(-1, 1).abs().neg(),
        lambda: F.max_pool2d(X[None, None], 2),
        lambda: F.one_hot(torch.arange(4)).to(F64),
        lambda: F.pad(X, (1, 1)) * 0.0,
        lambda: X * 1024.0 / torch.tensor(-0.5, dtype=F64),
        lambda: torch.stack(torch._foreach_mul([X, Y], 2.0)),
        lambda: torch.tensor(41.0, dtype=F64) + 1.0,  # a count of steps
        lambda: torch.histc(X, 7),
        lambda: (X > 0).to(F64).sum(0).cumsum(0) / 1.0,
        lambda: torch.zeros(3, dtype=F64).scatter_add_(0, torch.arange(40) % 3, torch.ones(40, dtype=F64)),
        lambda: F.one_hot(torch.arange(40) % 3).to(F64).T @ torch.arange(40, dtype=F64)[:, None],
    ],
)
def test_what_chooses_moves_and_counts_is_exact(compute: Callable[[], torch.Tensor]) -> None:
    assert not moved(compute).any()


def test_a_count_with_one_fraction_in_it_is_rounded() -> None:
    counts = torch.arange(1, 7, dtype=F64)
    assert not moved(lambda: counts * 3.0).any()
    assert moved(lambda: counts / 3.0).all()  # of whole numbers, and not whole
    counts[4] = 0.3
    assert moved(lambda: counts * 3.0).all()
    assert moved(lambda: counts.clone().add_(0.7)).all()  # 0.3 + 0.7 is whole, and rounded


def test_what_is_kept_for_the_way_back_is_moved_as_well() -> None:
    """A saturated tanh passes back 1 - y^2, which is a matter of the last digit of y; no weight moves that."""

    def gradient(size: float = 25.0) -> torch.Tensor:
        x = torch.full((50,), size, dtype=F64, requires_grad=True)
        x.tanh().sum().backward()
        assert x.grad is not None
        return x.grad

    assert not gradient().any()
    off = moved(gradient)
    assert off.abs().max() >= EPS
    assert off.abs().max() < 8 * EPS


@pytest.mark.parametrize("compute", [F.gelu, lambda x: F.log_softmax(torch.stack([x, x + 40], -1), -1)[..., 1]])
def test_what_is_added_to_one_inside_an_operation_is_off_by_a_rounding_error_of_one(compute: Any) -> None:
    x = torch.full((50,), -8.0, dtype=F64)
    assert compute(x).abs().max() < 1e-14
    off = moved(lambda: compute(x)).abs()
    assert EPS / 2 < off.max() <= 16 * EPS


def test_a_mean_of_almost_equal_numbers_shows_that_their_differences_have_lost_digits() -> None:
    def normalized() -> torch.Tensor:
        return F.layer_norm(1 + 1e-6 * X, (5,), eps=1e-14)

    off = moved(normalized).abs().max()
    assert 1e-11 < off < 1e-8


def test_a_number_of_size_one_never_grows() -> None:
    ones = [moved(lambda: torch.sigmoid(torch.full((9,), 50.0, dtype=F64)), seed) for seed in range(5)]
    assert all(torch.allclose(off / -EPS, torch.full((9,), 0.5, dtype=F64)) for off in ones)


def test_the_seed_says_which_way_and_nothing_is_moved_outside_of_the_block() -> None:
    one, same, other = (moved(lambda: X * Y, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(X * Y, X * Y)


def test_numbers_of_another_float_type_are_left_alone() -> None:
    narrow = X.float()
    assert not moved(lambda: narrow * narrow).any()
    assert moved(lambda: narrow * narrow, dtype=torch.float32).any()


def test_single_numbers_are_rounded_where_a_loss_is_made_of_them_and_not_among_the_settings_of_an_optimizer() -> None:
    share = torch.tensor(0.999, dtype=F64)

    def rest() -> torch.Tensor:
        return 1.0 - share**1.0

    assert moved(rest).abs() > 1e-17
    with torch.no_grad():
        assert not moved(rest).any()


def test_an_optimizer_keeps_its_count_and_its_weights_are_rounded() -> None:
    layer = nn.Linear(5, 3, dtype=F64)
    optimizer = torch.optim.Adam(layer.parameters())
    with rounding(layer, F64, np.random.default_rng(0)):
        for _ in range(3):
            optimizer.zero_grad()
            layer(X).square().mean().backward()
            optimizer.step()
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}


def test_more_numbers_than_there_are_random_signs_go_up_and_down_independently() -> None:
    off = moved(lambda: torch.full((3, POOL // 2), 0.3, dtype=F64) / 0.7).sign()
    assert off.abs().all()
    rows = off @ off.T / off.shape[1]  # the correlation of each two rows
    assert torch.allclose(rows, torch.eye(3, dtype=F64), atol=6 * off.shape[1] ** -0.5)


def test_infinities_and_numbers_of_the_largest_size_stay_finite_or_as_they_are() -> None:
    most = torch.finfo(F64).max
    with rounding(nn.Identity(), F64, np.random.default_rng(0)):
        large = torch.tensor([most, -most, torch.inf, -torch.inf, torch.nan, 1.0, 0.3], dtype=F64) + 0.0
    assert large[:2].isfinite().all()
    assert large[2:4].tolist() == [torch.inf, -torch.inf]
    assert large[4].isnan()
    assert large[5] == 1 - EPS / 2
    assert 0 < abs(large[6] - 0.3) <= EPS / 2
