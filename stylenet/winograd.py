"""Frozen 3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering, for processors.

Lavin and Gray 2015 (arXiv 1509.09308): a 4x4 tile of the output is made from a 6x6 tile of the input with 36 products
per pair of channels instead of 144, as 36 matrix products over channels. The transforms before and after grow with the
channels, the products with their square: so this pays where there are many. A graphics card's library chooses such
algorithms itself; PyTorch's one for processors does not.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Padding = Literal["zeros", "reflect", "circular"]

TILE = 4  # pixels of output to a tile's side
REACH = TILE + 2  # pixels of input that they depend on
LEAST_CHANNELS = 128 * 128  # of input times output; below, the transforms cost what they save
TILES_AT_ONCE = 128  # their transforms should stay in the processor's caches

# The paper's matrices for F(4x4, 3x3), section 4.1: of the input, the filter and the output.
INPUT = torch.tensor(
    [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ]
)
FILTER = torch.tensor(
    [
        [1 / 4, 0.0, 0.0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0.0, 0.0, 1.0],
    ],
    dtype=torch.float64,
)
OUTPUT = torch.tensor(
    [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ]
)


class FrozenConv2d(nn.Conv2d):
    """A 3x3 convolution, stride 1, that is never trained: by Winograd's method where that is faster.

    It gives what `nn.Conv2d` gives, but for float32's rounding: a relative error of 1e-6, and 4e-6 of the gradient. The
    filters are transformed at first use, take eight times their own memory beside it, and must not change after that.
    """

    def __init__(self, in_channels: int, out_channels: int, padding_mode: Padding = "zeros") -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode)
        self.requires_grad_(False)
        self.transformed: tuple[Tensor, Tensor] | None = None  # the filters, and the gradient's

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        if not self.pays(x):
            return super().forward(x)
        if self.transformed is None:
            gradient = self.weight.transpose(0, 1).flip(2, 3)
            self.transformed = transform_filters(self.weight), transform_filters(gradient)
        convolved: Tensor = _Winograd.apply(x, self.bias, *self.transformed)
        return convolved

    def pays(self, x: Tensor) -> bool:
        """Whether `x` (N, C, H, W) is convolved by Winograd's method."""
        return (
            x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.padding_mode == "zeros"
            and self.in_channels * self.out_channels >= LEAST_CHANNELS
            and not torch.is_autocast_enabled("cpu")  # half precision has machine instructions of its own
            and not torch.compiler.is_compiling()
        )


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, filters: Tensor, gradient_filters: Tensor) -> Tensor:
        ctx.filters = gradient_filters
        return convolve(x, filters).add_(bias.view(1, -1, 1, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return convolve(gradient, ctx.filters), None, None, None


def transform_filters(weight: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (36, C, C'), float32."""
    products = torch.einsum("ai,ocij,bj->abco", FILTER, weight.double(), FILTER)
    return products.reshape(REACH**2, weight.shape[1], weight.shape[0]).float().contiguous()


def convolve(x: Tensor, filters: Tensor) -> Tensor:
    """Convolve with 3x3 filters, zeros beyond the edges.

    Args:
        x: (N, C, H, W), float32.
        filters: (36, C, C'), of `transform_filters`.

    Returns:
        (N, C', H, W), channels_last in memory.
    """
    count, channels, height, width = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padded = x.new_empty(count, TILE * down + 2, TILE * across + 2, channels)
    for edge in (padded[:, :1], padded[:, 1 + height :], padded[:, :, :1], padded[:, :, 1 + width :]):
        edge.zero_()
    padded[:, 1 : 1 + height, 1 : 1 + width] = x.permute(0, 2, 3, 1)
    painted = x.new_empty(count, TILE * down, TILE * across, filters.shape[2])
    rows = max(1, min(down, TILES_AT_ONCE // across))
    pictures = max(1, TILES_AT_ONCE // (down * across))
    for first in range(0, count, pictures):
        for row in range(0, down, rows):
            source = padded[first : first + pictures, TILE * row : TILE * (row + rows) + 2]
            target = painted[first : first + pictures, TILE * row : TILE * (row + rows)]
            _convolve_tiles(source, filters, target)
    return painted[:, :height, :width].permute(0, 3, 1, 2)


def _convolve_tiles(source: Tensor, filters: Tensor, target: Tensor) -> None:
    """Fill `target` (n, 4 h, 4 w, C') from `source` (n, 4 h + 2, 4 w + 2, C)."""
    count, height, width, channels = target.shape
    shape = count, height // TILE, width // TILE
    picture, down, across, one = source.stride()
    tiles = source.as_strided(
        (REACH, REACH, *shape, source.shape[3]), (down, across, picture, TILE * down, TILE * across, one)
    )
    transformed = torch.kron(INPUT, INPUT) @ tiles.reshape(REACH**2, -1)
    products = transformed.view(REACH**2, -1, source.shape[3]) @ filters
    outputs = (torch.kron(OUTPUT, OUTPUT) @ products.view(REACH**2, -1)).view(TILE, TILE, *shape, channels)
    target.view(count, shape[1], TILE, shape[2], TILE, channels).copy_(outputs.permute(2, 3, 0, 4, 1, 5))
