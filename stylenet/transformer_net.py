"""The feed-forward network of Johnson, Alahi and Fei-Fei (2016, arXiv 1603.08155, supplementary table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from stylenet.errors import ConfigError, PictureError, require_number


class TransformerNet(nn.Module):
    """Picture in, painted picture of the same size out, in one pass.

    Departures from the paper, each a cure for something that users of other implementations see:

    * instance instead of batch normalisation (Ulyanov et al. 2016, arXiv 1607.08022): discards the photo's contrast;
    * nearest-neighbour upsampling and a convolution instead of transposed convolutions (Odena et al. 2016): no
      checkerboard;
    * reflection at every convolution instead of zeros or one 40 px frame: no dark border, no cropped shortcut, so a
      residual block keeps its size;
    * a linear last layer in the [0, 1] scale instead of a scaled tanh, which gets trapped in black and white areas.

    Args:
        widths: channels after the first convolution and after each halving; the paper's are (32, 64, 128).
        residual_blocks: blocks at the lowest resolution; the paper has 5.
        kernel_size: of the first and last convolution, odd; the paper's is 9.

    Raises:
        ConfigError: for widths, blocks or a kernel that make no network.
    """

    def __init__(self, widths: Sequence[int], residual_blocks: int, kernel_size: int) -> None:
        super().__init__()
        _check(widths, residual_blocks, kernel_size)
        self.arguments = {
            "widths": list(widths),
            "residual_blocks": residual_blocks,
            "kernel_size": kernel_size,
        }
        self.stride = 2 ** (len(widths) - 1)
        self.min_size = self.stride * (kernel_size // 2 + 1)
        down = [ConvBlock(3, widths[0], kernel_size)]
        down += [ConvBlock(a, b, 3, stride=2) for a, b in pairwise(widths)]
        blocks = [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
        up = [UpsampleBlock(b, a) for a, b in reversed(list(pairwise(widths)))]
        self.layers = nn.Sequential(*down, *blocks, *up, _conv(widths[0], 3, kernel_size))

    def forward(self, image: Tensor) -> Tensor:
        """Paint.

        Args:
            image: (N, 3, H, W), RGB in [0, 1]; any H and W of at least `min_size`.

        Returns:
            (N, 3, H, W), RGB, about [0, 1]; `image.save_image` holds the one clamp.

        Raises:
            PictureError: for a picture smaller than `min_size`.
        """
        height, width = image.shape[-2:]
        self.check_size(height, width)
        # Halved sizes must double back exactly: grow to a multiple of the stride, paint, cut back.
        padded = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        painted: Tensor = self.layers(padded - 0.5) + 0.5  # centred, as the weights' initialisation assumes
        return painted[..., :height, :width]

    def check_size(self, height: int, width: int) -> None:
        """Raise a `PictureError` for a picture smaller than `min_size`."""
        if min(height, width) < self.min_size:
            raise PictureError(
                f"The picture is {width} x {height} px; the network takes {self.min_size} x {self.min_size} and larger."
            )


class ConvBlock(nn.Sequential):
    """Convolution, instance normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(_conv(inputs, outputs, kernel_size, stride), _norm(outputs), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and the identity, without a last ReLU (Gross and Wilber 2016, as Johnson uses)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *ConvBlock(channels, channels, 3),
            _conv(channels, channels, 3),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = x + self.body(x)
        return out


class UpsampleBlock(nn.Sequential):
    """Nearest-neighbour doubling, then a `ConvBlock`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), *ConvBlock(inputs, outputs, 3))


def _conv(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, padding_mode="reflect")


def _norm(channels: int) -> nn.GroupNorm:
    # Instance normalisation by another name: one group per channel. PyTorch's InstanceNorm2d copies the features out of
    # channels_last and back; without these copies a step of the network takes a tenth less on a CPU.
    return nn.GroupNorm(channels, channels)


def _check(widths: Sequence[int], residual_blocks: int, kernel_size: int) -> None:
    if not widths:
        raise ConfigError("model.widths must be one or more channel counts, not empty.")
    for width in widths:
        require_number("model.widths", width, 1, whole=True)
    require_number("model.residual_blocks", residual_blocks, 0, whole=True)
    require_number("model.kernel_size", kernel_size, 1, whole=True)
    if kernel_size % 2 == 0:
        raise ConfigError(f"model.kernel_size must be odd, not {kernel_size}.")
