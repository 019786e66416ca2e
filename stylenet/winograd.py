"""Frozen 3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering, for processors.

NNPACK's (see `nnpack`) where it is faster: in float32, of large features. Where they are small and many, and in
bfloat16 on processors without units for matrices, this module's own.

Lavin and Gray 2015 (arXiv 1509.09308): a 4x4 tile of the output is made from a 6x6 tile of the input with 36 products
per pair of channels instead of 144, as 36 matrix products over channels. The transforms before and after grow with the
channels, the products with their square: so this pays where there are many. A graphics card's library chooses such
algorithms itself; PyTorch's one for processors does not.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stylenet import nnpack
from stylenet.nnpack import computing_dtype

Padding = Literal["zeros", "reflect", "circular"]

TILE = 4  # pixels of output to a tile's side
REACH = TILE + 2  # pixels of input that they depend on
# Where the polynomials are evaluated, and at infinity. The paper's 0, 1, -1, 2, -2 lose twice as much to rounding.
POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)
# Of input times output, by what is computed in; below, the transforms cost what they save.
LEAST_CHANNELS: dict[torch.dtype, int] = {torch.float32: 128 * 128, torch.bfloat16: 64 * 128}
# In bfloat16 the way there counts more: a style that is nearly reached is a small difference of features. With fewer
# channels than these left to PyTorch there, the error of a picture's gradient falls from 0.71 to 0.27 of it; 0.12 is
# bfloat16's own, and none of it comes from the way back (256 px, Gatys' layers, after 150 iterations).
LEAST_CHANNELS_FORWARD = {torch.float32: 128 * 128, torch.bfloat16: 256 * 256}
TILES_AT_ONCE = {torch.float32: 128, torch.bfloat16: 512}  # their transforms should stay in the processor's caches


class Matrices(NamedTuple):
    """The transforms of the input (36, 36), of a filter (6, 3), and of the output (16, 36).

    Those of tiles are of both sides at once.
    """

    input: Tensor
    filter: Tensor
    output: Tensor


@cache
def matrices(dtype: torch.dtype) -> Matrices:
    """Toom and Cook's: two polynomials multiplied by way of their values at `POINTS` and at infinity.

    The filter's, which are needed once, in float64; the others in `dtype`.
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    scales = [np.prod([p - q for q in rest]) for p, rest in zip(POINTS, others, strict=True)]
    powers = np.vander(POINTS, TILE, increasing=True)
    last = np.eye(TILE)[-1:], np.eye(3)[-1:]
    output = np.concatenate([powers, last[0]]).T
    filters = np.concatenate([powers[:, :3] / np.array(scales)[:, None], last[1]])
    rows = [*(np.append(np.poly(rest)[::-1], 0) for rest in others), np.poly(POINTS)[::-1]]
    both = (torch.tensor(np.kron(matrix, matrix), dtype=dtype) for matrix in (np.array(rows), output))
    return Matrices(next(both), torch.tensor(filters, dtype=torch.float64), next(both))


@cache
def has_units(dtype: torch.dtype) -> bool:
    """Whether the processor has units that multiply matrices of this type (AMX), beside which transforms do not pay.

    On two AMX cores Gatys' iteration at 512 px takes 0.40 s at best with PyTorch's convolutions, and 0.48 s with these.
    """
    return dtype == torch.bfloat16 and bool(torch.cpu.get_capabilities().get("amx_bf16"))


class FrozenConv2d(nn.Conv2d):
    """A 3x3 convolution, stride 1, that is never trained: by Winograd's method where that is faster.

    It gives what `nn.Conv2d` gives, but for rounding. The filters are transformed when they are first needed, take four
    times their own memory (in bfloat16 twice; for NNPACK once) for each way, there and back, and must not change after
    that.
    """

    def __init__(self, in_channels: int, out_channels: int, padding_mode: Padding = "zeros") -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode)
        self.requires_grad_(False)
        self.transformed: dict[tuple[torch.dtype, bool], Tensor] = {}  # see `filters`
        self.planes: tuple[Tensor, Tensor] | None = None  # for NNPACK, there and back

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        if nnpack.pays(x, self.out_channels):
            return self.by_nnpack(x)
        dtype = computing_dtype(x)
        if not self.pays(x, dtype):
            return super().forward(x)
        convolved: Tensor = _Winograd.apply(x.to(dtype), self)
        return convolved

    def by_nnpack(self, x: Tensor) -> Tensor:
        """As `forward`, where `nnpack.pays`."""
        if self.planes is None:
            self.planes = self.weight.contiguous(), nnpack.turned(self.weight)
        weight, back = self.planes
        if self.padding_mode == "zeros":
            return nnpack.convolve(x, weight, self.bias, 1, back)
        return nnpack.convolve(F.pad(x, (1, 1, 1, 1), mode=self.padding_mode), weight, self.bias, 0, back)

    def filters(self, dtype: torch.dtype, back: bool) -> Tensor:
        """Transformed: those of the convolution, or of its gradient, on the way back."""
        if (dtype, back) not in self.transformed:
            weight = nnpack.turned(self.weight) if back else self.weight
            self.transformed[dtype, back] = transform_filters(weight, dtype)
        return self.transformed[dtype, back]

    def pays(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Whether `x` (N, C, H, W) is convolved in `dtype` by this module's method, or at least its gradient."""
        return (
            x.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and dtype in LEAST_CHANNELS
            and not has_units(dtype)
            and self.padding_mode == "zeros"
            and self.in_channels * self.out_channels >= LEAST_CHANNELS[dtype]
        )


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: FrozenConv2d) -> Tensor:
        ctx.convolution = convolution
        weight, bias = convolution.weight, convolution.bias
        assert bias is not None
        if weight.shape[0] * weight.shape[1] < LEAST_CHANNELS_FORWARD[x.dtype]:
            return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=1)
        return convolve(x, convolution.filters(x.dtype, back=False)).add_(bias.to(x.dtype).view(1, -1, 1, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return convolve(gradient, ctx.convolution.filters(gradient.dtype, back=True)), None


def transform_filters(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(C', C, 3, 3) -> (36, C, C')."""
    one = matrices(dtype).filter
    products = torch.einsum("ai,ocij,bj->abco", one, weight.double(), one)
    return products.reshape(REACH**2, weight.shape[1], weight.shape[0]).to(dtype).contiguous()


def convolve(x: Tensor, filters: Tensor) -> Tensor:
    """Convolve with 3x3 filters, zeros beyond the edges.

    Args:
        x: (N, C, H, W), float32 or bfloat16.
        filters: (36, C, C'), of `transform_filters`, of the same type.

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
    at_once = TILES_AT_ONCE[x.dtype]
    rows = max(1, min(down, at_once // across))
    pictures = max(1, at_once // (down * across))
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
    transforms = matrices(source.dtype)
    transformed = transforms.input @ tiles.reshape(REACH**2, -1)
    products = transformed.view(REACH**2, -1, source.shape[3]) @ filters
    outputs = (transforms.output @ products.view(REACH**2, -1)).view(TILE, TILE, *shape, channels)
    target.view(count, shape[1], TILE, shape[2], TILE, channels).copy_(outputs.permute(2, 3, 0, 4, 1, 5))
