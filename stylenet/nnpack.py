"""Convolutions by NNPACK, a second library for processors that comes inside PyTorch, which hardly uses it.

By Winograd's method on tiles of 6x6 pixels (Lavin and Gray 2015, arXiv 1509.09308), with a fifth of the
multiplications, in float32, through pictures that lie in memory plane after plane. With two AVX2 cores it takes a third
to two thirds of the time of PyTorch's choice; its relative error is 3e-6 instead of 1e-6.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Below, what each call costs, to transform the filters and to start the threads, is more than is saved.
LEAST_PIXELS = 40 * 40
LEAST_CHANNELS = 64  # of output
FEW = 16  # channels of input, below which PyTorch is faster on the way there
# At once: NNPACK's working memory, which PyTorch keeps, is 3.6 times the features: 240 MB of 64 channels.
MOST_PIXELS = 2**18


@cache
def is_there() -> bool:
    """Whether this PyTorch has it, for this processor; asking also sets it up. Measured on x86 alone."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()


def computing_dtype(x: Tensor) -> torch.dtype:
    """What a layer computes in that is given `x`: its own type, or autocast's within it."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def in_float32(x: Tensor) -> bool:
    """Whether a processor computes with `x` in float32, and not in compiled code."""
    return x.device.type == "cpu" and computing_dtype(x) == torch.float32 and not torch.compiler.is_compiling()


def pays(x: Tensor, channels: int) -> bool:
    """Whether it is faster, for pictures (N, C, H, W) and C' `channels` of output."""
    return in_float32(x) and x.shape[2] * x.shape[3] >= LEAST_PIXELS and channels >= LEAST_CHANNELS and is_there()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, back: Tensor | None = None) -> Tensor:
    """Convolve with 3x3 filters, stride 1.

    Args:
        x: (N, C, H, W), float32.
        weight: (C', C, 3, 3).
        bias: (C'), or none.
        padding: zeros on each side, 0 to 2.
        back: `turned(weight)`, if the caller keeps it.

    Returns:
        (N, C', H + 2 padding - 2, W + 2 padding - 2), in the memory format of `x`.
    """
    convolved: Tensor = _Convolution.apply(x, weight, bias, padding, back)
    return convolved


def turned(weight: Tensor) -> Tensor:
    """The filters of the way back: (C', C, 3, 3) -> (C, C', 3, 3)."""
    return weight.transpose(0, 1).flip(2, 3).contiguous()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, back: Tensor | None) -> Tensor:
        ctx.padding, ctx.back = padding, back
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        if x.shape[1] < FEW:
            return F.conv2d(x, weight.contiguous(), bias, padding=padding)
        return _convolve(x, weight, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        picture = filters = biases = None
        if ctx.needs_input_grad[0]:
            back = turned(weight) if ctx.back is None else ctx.back
            picture = _convolve(gradient, back, None, 2 - ctx.padding)
        if ctx.needs_input_grad[1]:
            padding, wanted = [ctx.padding] * 2, [False, True, ctx.needs_input_grad[2]]
            _, filters, biases = torch.ops.aten.convolution_backward(
                gradient, x, weight.contiguous(), [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
            )
        return picture, filters, biases, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """One picture at a time, for several of which PyTorch has NNPACK choose a slower method, and no more than fits."""
    weight = weight.contiguous()
    pictures = [_convolve_one(one, weight, bias, padding) for one in torch.split(x.contiguous(), 1)]
    together = pictures[0] if len(pictures) == 1 else torch.cat(pictures)
    return together if x.is_contiguous() else together.contiguous(memory_format=torch.channels_last)


def _convolve_one(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    height, width = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2
    if height * width <= MOST_PIXELS:
        return torch._nnpack_spatial_convolution(x, weight, bias, [padding, padding], [1, 1])
    convolved = x.new_empty(1, len(weight), height, width)
    rows = max(1, MOST_PIXELS // width)
    for row in range(0, height, rows):
        first, last = row - padding, min(row + rows, height) - padding + 2  # of `x`, or beyond its edges
        strip = F.pad(x[:, :, max(0, first) : last], (0, 0, max(0, -first), max(0, last - x.shape[2]))).contiguous()
        convolved[:, :, row : row + rows] = torch._nnpack_spatial_convolution(strip, weight, bias, [0, padding], [1, 1])
    return convolved
