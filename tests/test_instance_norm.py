"""Our instance normalisation against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stylenet.architecture import NORM_EPSILON
from stylenet.instance_norm import InstanceNorm


def gradients(norm: nn.Module, x: Tensor, above: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what went in, of the weight and of the bias."""
    leaf = x.clone().requires_grad_()
    out = norm(leaf)
    return [out.detach(), *torch.autograd.grad(out, [leaf, *norm.parameters()], above)]


# PyTorch's kernel for channels_last takes the variance as a difference of squares, which float32 feels
@pytest.mark.parametrize(("dtype", "roundings"), [(torch.float32, 16), (torch.bfloat16, 1)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_normalises_as_pytorch_does_in_float64(dtype: torch.dtype, roundings: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours, theirs = InstanceNorm(5, NORM_EPSILON), nn.InstanceNorm2d(5, NORM_EPSILON, affine=True)
    with torch.no_grad():
        ours.weight.normal_()
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = (3 + 2 * torch.randn(2, 5, 12, 17)).to(dtype).contiguous(memory_format=layout)
    above = torch.randn(2, 5, 12, 17).to(dtype).contiguous(memory_format=layout)
    expected = gradients(theirs.double(), x.double(), above.double())
    for found, exact in zip(gradients(ours, x, above), expected, strict=True):
        assert float((found.double() - exact).norm() / exact.norm()) < roundings * torch.finfo(dtype).eps


def test_the_written_out_gradient_is_that_of_the_definition() -> None:
    norm = InstanceNorm(3, NORM_EPSILON)
    x = torch.randn(2, 3, 4, 5)
    above = torch.randn(2, 3, 4, 5)
    leaf = x.double().requires_grad_()
    normalized = (leaf - leaf.mean((2, 3), keepdim=True)) / (
        leaf.var((2, 3), unbiased=False, keepdim=True) + NORM_EPSILON
    ).sqrt()
    (exact,) = torch.autograd.grad(normalized, leaf, above.double())
    assert torch.allclose(gradients(norm, x, above)[1].double(), exact, atol=1e-5)
