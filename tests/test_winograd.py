"""Winograd's convolutions against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from stylenet.winograd import FrozenConv2d, convolve, transform_filters


def by_winograd(channels: int, filters: int) -> FrozenConv2d:
    torch.manual_seed(0)
    convolution = FrozenConv2d(channels, filters)
    assert convolution.pays(torch.rand(1, channels, 8, 8))
    return convolution


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 8, 8), (2, 13, 22), (1, 3, 200), (5, 31, 30), (2, 70, 75)])
def test_convolves_as_pytorch_does_at_any_size(size: tuple[int, int, int]) -> None:
    convolution = by_winograd(128, 160)
    count, height, width = size
    x = torch.rand(count, 128, height, width, requires_grad=True)
    ours = convolution(x)
    theirs = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) < 1e-5
    above = torch.randn_like(theirs)
    (ours_back,), (theirs_back,) = (torch.autograd.grad(y, x, above) for y in (ours, theirs))
    assert relative_error(ours_back, theirs_back) < 1e-5


def test_is_exact_where_all_numbers_are() -> None:
    """Small whole numbers, with filters whose transforms have no thirds in them, leave nothing to round."""
    x = torch.randint(-4, 5, (1, 7, 9, 10)).float()
    weight = torch.zeros(5, 7, 3, 3)
    weight[..., 1, 1] = torch.randint(-3, 4, (5, 7)) * 36.0
    exact = F.conv2d(x, weight, padding=1)
    assert torch.allclose(convolve(x, transform_filters(weight)), exact, rtol=0, atol=1e-2)
    assert relative_error(convolve(x, transform_filters(weight)), exact) < 1e-6


def test_leaves_to_pytorch_what_it_cannot_or_should_not_do() -> None:
    x = torch.rand(1, 128, 16, 16)
    assert not FrozenConv2d(64, 64).pays(torch.rand(1, 64, 16, 16))
    assert not FrozenConv2d(128, 128, "reflect").pays(x)
    assert not FrozenConv2d(128, 128).pays(x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not FrozenConv2d(128, 128).pays(x)
    circular = FrozenConv2d(128, 128, "circular")
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), circular.weight, circular.bias)
    assert torch.allclose(circular(x), expected, rtol=1e-4, atol=1e-5)
