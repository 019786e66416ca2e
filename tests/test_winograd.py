"""Winograd's convolutions against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from conftest import relative_error
from torch.nn import functional as F

from stylenet import winograd
from stylenet.winograd import FrozenConv2d, matrices


@pytest.fixture(autouse=True)
def _without_units_for_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers are tested on every processor."""
    monkeypatch.setattr(winograd, "has_units", lambda _: False)


def by_winograd(channels: int, filters: int) -> FrozenConv2d:
    torch.manual_seed(0)
    convolution = FrozenConv2d(channels, filters)
    assert convolution.pays(torch.rand(1, channels, 8, 8), torch.bfloat16)
    return convolution


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 8, 8), (2, 13, 22), (1, 3, 200), (5, 31, 30), (2, 70, 75)])
def test_convolves_as_pytorch_does_at_any_size(size: tuple[int, int, int]) -> None:
    convolution = by_winograd(128, 160)
    assert convolution.pays(torch.rand(1, 128, 8, 8), torch.float32)
    count, height, width = size
    x = torch.rand(count, 128, height, width, requires_grad=True)
    ours = convolution(x)
    theirs = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) < 1e-5
    above = torch.randn_like(theirs)
    (ours_back,), (theirs_back,) = (torch.autograd.grad(y, x, above) for y in (ours, theirs))
    assert relative_error(ours_back, theirs_back) < 1e-5


def test_bfloat16_loses_little_more_than_pytorchs_does() -> None:
    """Features are positive: to their mean, that is where the photo's brightness is, all roundings are relative."""
    convolution = by_winograd(256, 256)
    x = torch.rand(1, 256, 30, 41, requires_grad=True)
    exact = convolution(x)
    above = torch.randn_like(exact)
    with torch.autocast("cpu", torch.bfloat16):
        ours = convolution(x)
        theirs = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
    assert ours.dtype == torch.bfloat16
    assert relative_error(theirs.float(), exact) < 0.005
    assert relative_error(ours.float(), theirs.float()) > 0.001  # it is another way
    assert relative_error(ours.float(), exact) < 0.015
    exact_back, ours_back, theirs_back = (
        torch.autograd.grad(y, x, above.to(y.dtype))[0] for y in (exact, ours, theirs)
    )
    assert relative_error(theirs_back, exact_back) < 0.005
    assert relative_error(ours_back, exact_back) < 0.02  # here signs are mixed, and sums smaller than what is rounded


def test_where_channels_are_few_bfloat16_goes_pytorchs_way_there_and_winograds_back() -> None:
    convolution = by_winograd(64, 128)
    x = torch.rand(1, 64, 21, 30).bfloat16().requires_grad_()
    ours = convolution(x)
    weight, bias = convolution.weight.bfloat16(), convolution.bias
    assert bias is not None
    theirs = F.conv2d(x, weight, bias.bfloat16(), padding=1)
    assert torch.equal(ours, theirs)
    above = torch.randn_like(ours)
    (ours_back,), (theirs_back,) = (torch.autograd.grad(y, x, above) for y in (ours, theirs))
    assert 0.001 < relative_error(ours_back.float(), theirs_back.float()) < 0.02


def test_points_make_polynomials_products() -> None:
    """A tile convolved with one weight in the middle of the filter is its own middle."""
    one, filters, output = matrices(torch.float64)
    tile = torch.rand(6, 6, dtype=torch.float64)
    weight = torch.zeros(3, 3, dtype=torch.float64)
    weight[1, 1] = 2.0
    products = (one @ tile.flatten()) * (filters @ weight @ filters.T).flatten()
    assert torch.allclose((output @ products).view(4, 4), 2.0 * tile[1:5, 1:5], rtol=0, atol=1e-12)


def test_leaves_to_pytorch_what_it_cannot_or_should_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 128, 16, 16)
    assert not FrozenConv2d(64, 64).pays(torch.rand(1, 64, 16, 16), torch.float32)
    assert not FrozenConv2d(128, 128, "reflect").pays(x, torch.float32)
    assert not FrozenConv2d(128, 128).pays(x, torch.float64)
    circular = FrozenConv2d(128, 128, "circular")
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), circular.weight, circular.bias)
    assert torch.allclose(circular(x), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(winograd, "has_units", lambda dtype: dtype == torch.bfloat16)
    assert not FrozenConv2d(128, 128).pays(x, torch.bfloat16)
    assert FrozenConv2d(128, 128).pays(x, torch.float32)
