"""The feed-forward network of Johnson, Alahi and Fei-Fei (2016, arXiv 1603.08155, supplementary table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylenet import few_filters, nnpack
from stylenet.architecture import NORM_EPSILON, Architecture, Convolution, Residual
from stylenet.grain import grain
from stylenet.instance_norm import InstanceNorm
from stylenet.nnpack import in_float32


class TransformerNet(nn.Module):
    """Picture in, painted picture of the same size out, in one pass.

    Departures from the paper, each a cure for something that users of other implementations see:

    * instance instead of batch normalisation (Ulyanov et al. 2016, arXiv 1607.08022): discards the photo's contrast;
    * nearest-neighbour upsampling and a convolution instead of transposed convolutions (Odena et al. 2016): no
      checkerboard;
    * reflection at every convolution instead of zeros or one 40 px frame: no dark border, no cropped shortcut, so a
      residual block keeps its size; and a mirrored margin that is cut off again, wider when painting than in
      training, with the frame that any network learns to paint because VGG19 sees nothing beyond the edges;
    * a linear last layer in the [0, 1] scale instead of a scaled tanh, which gets trapped in black and white areas;
    * a little noise on the photo (`grain`): strokes instead of one repeating weave in plain skies.

    What its layers are is described in `architecture`, and so what its arguments mean and which are refused.
    """

    def __init__(self, widths: Sequence[int], residual_blocks: int, kernel_size: int, grain: float = 0.0) -> None:
        super().__init__()
        self.architecture = Architecture(list(widths), residual_blocks, kernel_size, grain)
        self.layers = nn.Sequential(*map(_module, self.architecture.layers()))

    @property
    def arguments(self) -> dict[str, Any]:
        """What it takes to make another of this shape."""
        return asdict(self.architecture)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Paint.

        Args:
            image: (N, 3, H, W), RGB in [0, 1]; any H and W of at least `min_size`.
            noise: (N, 3, H, W), of deviation 1: training draws its own; default: `grain.grain`, always the same.

        Returns:
            (N, 3, H, W), RGB, about [0, 1]; `image.save_image` holds the one clamp.

        Raises:
            PictureError: for a picture smaller than `min_size`.
        """
        height, width = image.shape[-2:]
        self.architecture.check_size(height, width)
        if self.architecture.grain:
            if noise is None:
                noise = torch.from_numpy(grain(0, height, 0, width)).to(image)
            image = image + self.architecture.grain * noise
        top, below = self.architecture.growth(height, self.training)
        left, right = self.architecture.growth(width, self.training)
        grown = F.pad(image, (left, right, top, below), mode="reflect")
        if in_float32(grown):
            grown = grown.contiguous()  # plane after plane: PyTorch finds filters' gradients in a third of the time
        painted: Tensor = self.layers(grown - 0.5) + 0.5  # centred, as the weights' initialisation assumes
        return painted[..., top : top + height, left : left + width]


class ConvBlock(nn.Sequential):
    """Convolution, instance normalisation, ReLU."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__(ReflectedConv2d(layer), InstanceNorm(layer.outputs, NORM_EPSILON), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and the identity, without a last ReLU (Gross and Wilber 2016, as Johnson uses)."""

    def __init__(self, layer: Residual) -> None:
        super().__init__()
        second = [ReflectedConv2d(layer.second), InstanceNorm(layer.second.outputs, NORM_EPSILON)]
        self.body = nn.Sequential(*ConvBlock(layer.first), *second)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = x + self.body(x)
        return out


class UpsampleBlock(nn.Sequential):
    """Nearest-neighbour doubling, then a `ConvBlock`."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), *ConvBlock(layer))


def _module(layer: Convolution | Residual) -> nn.Module:
    if isinstance(layer, Residual):
        return ResidualBlock(layer)
    if not layer.norm:
        return ReflectedConv2d(layer)
    return UpsampleBlock(layer) if layer.doubled else ConvBlock(layer)


class ReflectedConv2d(nn.Conv2d):
    """A convolution with reflection at the borders; on processors in float32 by the fastest way there is."""

    def __init__(self, layer: Convolution) -> None:
        sizes = layer.inputs, layer.outputs, layer.kernel_size, layer.stride
        super().__init__(*sizes, padding=layer.kernel_size // 2, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), in the memory format of `x`."""
        if not in_float32(x):
            return super().forward(x)
        x = F.pad(x, [self.kernel_size[0] // 2] * 4, mode="reflect")
        assert self.bias is not None
        if self.kernel_size == (3, 3) and self.stride == (1, 1) and nnpack.pays(x, self.out_channels):
            return nnpack.convolve(x, self.weight, self.bias, padding=0)
        if self.out_channels < few_filters.FEW and self.stride == (1, 1):
            return few_filters.convolve(x, self.weight, self.bias)
        return F.conv2d(x, self.weight.contiguous(), self.bias, self.stride)
