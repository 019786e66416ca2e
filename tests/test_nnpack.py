"""NNPACK's convolutions against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from conftest import relative_error
from torch import Tensor
from torch.nn import functional as F

from stylenet import nnpack
from stylenet.transformer_net import TransformerNet
from stylenet.vgg import Encoder
from stylenet.winograd import FrozenConv2d, Padding

pytestmark = pytest.mark.skipif(not nnpack.is_there(), reason="this PyTorch has no NNPACK for this processor")

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", [(1, 3, 64, 40, 40), (1, 70, 64, 41, 57), (3, 64, 96, 50, 33)])
@pytest.mark.parametrize("padding", [0, 1])
def test_convolves_as_pytorch_does(memory_format: torch.memory_format, size: tuple[int, ...], padding: int) -> None:
    torch.manual_seed(0)
    count, channels, filters, height, width = size
    x = torch.randn(count, channels, height, width).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randn(filters, channels, 3, 3, requires_grad=True)
    bias = torch.randn(filters, requires_grad=True)
    assert nnpack.pays(x, filters)
    ours = nnpack.convolve(x, weight, bias, padding)
    theirs = F.conv2d(x, weight, bias, padding=padding)
    assert ours.is_contiguous(memory_format=memory_format)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) < 1e-5
    above = torch.randn_like(theirs)
    ours_back, theirs_back = (torch.autograd.grad(y, (x, weight, bias), above) for y in (ours, theirs))
    for one, other in zip(ours_back, theirs_back, strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("height", [40, 41, 44, 50])
def test_large_pictures_go_strip_by_strip(padding: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(nnpack, "MOST_PIXELS", 10 * 50)
    x, weight, bias = torch.randn(2, 16, height, 50), torch.randn(64, 16, 3, 3), torch.randn(64)
    ours, theirs = nnpack.convolve(x, weight, bias, padding), F.conv2d(x, weight, bias, padding=padding)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "circular"])
def test_frozen_convolutions_go_by_it(padding_mode: Padding) -> None:
    torch.manual_seed(0)
    convolution = FrozenConv2d(64, 64, padding_mode)
    x = torch.randn(1, 64, 44, 52, requires_grad=True)
    ours = convolution(x)
    assert convolution.planes is not None
    mode = "constant" if padding_mode == "zeros" else padding_mode
    theirs = F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), convolution.weight, convolution.bias)
    assert relative_error(ours, theirs) < 1e-5
    above = torch.randn_like(theirs)
    (ours_back,), (theirs_back,) = (torch.autograd.grad(y, x, above) for y in (ours, theirs))
    assert relative_error(ours_back, theirs_back) < 1e-5


def test_leaves_to_others_what_is_small_or_not_float32() -> None:
    x = torch.rand(1, 64, 40, 40)
    assert nnpack.pays(x, 64)
    assert not nnpack.pays(x, 32)
    assert not nnpack.pays(x[..., 1:], 64)
    assert not nnpack.pays(x.double(), 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert not nnpack.pays(x, 64)


def test_encoder_sees_the_same_with_it_and_without(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(["relu1_2", "relu2_2", "conv3_3"])
    ours = encoder(photo)
    assert encoder.stages["conv2_2"].planes is None  # features of 32 px are too small, those of 64 px are not
    assert encoder.stages["conv1_2"].planes is not None
    monkeypatch.setattr(nnpack, "is_there", lambda: False)
    for name, theirs in encoder(photo).items():
        assert relative_error(ours[name], theirs) < 1e-5, name


def test_network_paints_and_learns_the_same_with_it_and_without(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = TransformerNet(widths=[8, 16, 64], residual_blocks=1, kernel_size=5).train()
    enlarged = F.interpolate(photo, scale_factor=2.5)  # a quarter of its sides is large enough, then

    def learned() -> tuple[Tensor, Tensor]:
        net.zero_grad()
        painted = net(enlarged)
        painted.square().mean().backward()
        return painted, torch.cat([weights.grad.flatten() for weights in net.parameters() if weights.grad is not None])

    painted, gradient = learned()
    monkeypatch.setattr(nnpack, "is_there", lambda: False)
    painted_without, gradient_without = learned()
    assert 0 < relative_error(painted, painted_without) < 1e-4
    assert relative_error(gradient, gradient_without) < 1e-3
