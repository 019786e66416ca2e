"""Convolutions to few channels against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from conftest import relative_error
from torch.nn import functional as F

from stylenet.few_filters import convolve


@pytest.mark.parametrize("size", [(1, 32, 9, 40, 41), (3, 5, 3, 9, 30), (2, 1, 5, 5, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_convolves_as_pytorch_does(size: tuple[int, ...], memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    count, channels, kernel, height, width = size
    x = torch.randn(count, channels, height, width).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randn(3, channels, kernel, kernel).contiguous(memory_format=memory_format).requires_grad_()
    bias = torch.randn(3, requires_grad=True)
    ours, theirs = convolve(x, weight, bias), F.conv2d(x, weight, bias)
    above = torch.randn_like(theirs)
    ours_back, theirs_back = (torch.autograd.grad(y, (x, weight, bias), above) for y in (ours, theirs))
    for one, other in zip([ours, *ours_back], [theirs, *theirs_back], strict=True):
        assert one.shape == other.shape
        assert relative_error(one, other) < 1e-5
