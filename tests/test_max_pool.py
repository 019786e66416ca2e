"""Max pooling of planes against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from stylenet.max_pool import MaxPool2


@pytest.mark.parametrize("size", [(1, 3, 8, 12), (2, 5, 7, 9), (1, 1, 2, 3), (1, 64, 33, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gives_pytorchs_values_and_gradients(size: tuple[int, ...], memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(size).contiguous(memory_format=memory_format).requires_grad_()
    ours, theirs = MaxPool2()(x), F.max_pool2d(x, 2)
    assert torch.equal(ours, theirs)
    above = torch.randn_like(theirs)
    (ours_back,), (theirs_back,) = (torch.autograd.grad(y, x, above) for y in (ours, theirs))
    assert torch.equal(ours_back, theirs_back)


def test_of_equal_values_one_gets_the_gradient() -> None:
    x = torch.ones(1, 1, 4, 6, requires_grad=True)
    (back,) = torch.autograd.grad(MaxPool2()(x).sum(), x)
    assert torch.equal(F.avg_pool2d(back, 2) * 4, torch.ones(1, 1, 2, 3))
    assert set(back.flatten().tolist()) == {0.0, 1.0}
