"""The network's values, region by region, for pictures whose values do not fit in memory all at once.

Each source answers for a region at its own resolution and asks the one below it for what that takes: as many pixels
around as a kernel needs, mirrored at the picture's borders just as the whole network mirrors them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from stylenet.architecture import Architecture
from stylenet.errors import ModelFileError
from stylenet.grain import grain
from stylenet.image import to_array


@dataclass(frozen=True)
class Region:
    """Rows [top, bottom) and columns [left, right) at some resolution of the network."""

    top: int
    bottom: int
    left: int
    right: int


class Source(ABC):
    """Values at one point of the network, to be had region by region.

    Attributes:
        channels: how many.
        size: (height, width) of the whole.
        load: the most values, per value's pixel here, that reading holds in one tensor.
        work: multiplications per pixel that reading costs.
    """

    channels: int
    size: tuple[int, int]
    load: float
    work: float = 0.0

    @abstractmethod
    def read(self, region: Region) -> Tensor:
        """(1, C, rows, columns), float32."""


class Picture(Source):
    """The photo as the network sees it: with grain, centred, and grown by reflection."""

    channels = 3
    load = 3.0

    def __init__(self, photo: Image.Image, architecture: Architecture, device: str) -> None:
        self.photo = photo
        self.grain = architecture.grain
        self.device = device
        (top, below), (left, right) = map(architecture.growth, (photo.height, photo.width))
        self.top, self.left = top, left
        self.size = (top + photo.height + below, left + photo.width + right)

    def read(self, region: Region) -> Tensor:
        top, bottom = region.top - self.top, region.bottom - self.top
        inside = Region(top, bottom, region.left - self.left, region.right - self.left)
        return _read_mirrored(self._crop, (self.photo.height, self.photo.width), inside) - 0.5

    def _crop(self, region: Region) -> Tensor:
        pixels = to_array(self.photo.crop((region.left, region.top, region.right, region.bottom)))
        if self.grain:
            pixels += np.float32(self.grain) * grain(region.top, region.bottom, region.left, region.right)
        return torch.from_numpy(pixels).to(self.device)


class Stored(Source):
    """Values in a file, (H, W, C) in float16.

    Args:
        file: unbuffered, open for reading and writing; whoever gives it closes it, with `close`.
        channels: how many.
        size: (height, width).
        device: where values are read to.
    """

    def __init__(self, file: IO[bytes], channels: int, size: tuple[int, int], device: str) -> None:
        self.file, self.channels, self.size, self.device = file, channels, size, device
        self.load = float(channels)

    def read(self, region: Region) -> Tensor:
        values = np.empty((1, region.bottom - region.top, region.right - region.left, self.channels), np.float16)
        for row, line in enumerate(values[0], region.top):
            self._seek(row, region.left)
            self.file.readinto(line)  # type: ignore[attr-defined]
        return torch.from_numpy(values).to(self.device).permute(0, 3, 1, 2).float()

    def write(self, region: Region, values: Tensor) -> None:
        """Keep (1, C, rows, columns).

        Raises:
            ModelFileError: when values are beyond float16, which those of a sound network are far from.
        """
        halves = values[0].permute(1, 2, 0).half().contiguous().cpu().numpy()
        if not np.isfinite(halves).all():
            raise ModelFileError("The network's values are too large to paint in tiles; its weights are damaged.")
        for row, line in enumerate(halves, region.top):
            self._seek(row, region.left)
            self.file.write(line)

    def _seek(self, row: int, column: int) -> None:
        self.file.seek((row * self.size[1] + column) * self.channels * np.dtype(np.float16).itemsize)


class Convolved(Source):
    """A convolution of another source, computed when it is read; reflects at the picture's borders."""

    def __init__(self, source: Source, conv: nn.Conv2d) -> None:
        self.source, self.conv = source, conv
        self.bias = conv.bias
        self.channels = conv.out_channels
        self.stride, self.padding = conv.stride[0], conv.kernel_size[0] // 2
        self.size = (source.size[0] // self.stride, source.size[1] // self.stride)
        self.load = max(source.load * self.stride**2, self.channels)
        self.work = source.work * self.stride**2 + conv.weight.numel()

    def read(self, region: Region) -> Tensor:
        around = Region(
            region.top * self.stride - self.padding,
            (region.bottom - 1) * self.stride + self.padding + 1,
            region.left * self.stride - self.padding,
            (region.right - 1) * self.stride + self.padding + 1,
        )
        values = _read_mirrored(self.source.read, self.source.size, around)
        values = values.contiguous(memory_format=torch.channels_last)
        return F.conv2d(values, self.conv.weight, self.bias, self.stride)

    def center(self, region: Region) -> None:
        """Choose the bias so that the mean over a region is zero, which the normalisation that follows does not see."""
        self.bias = None
        self.bias = -self.read(region).mean(dim=(0, 2, 3))


class Statistics:
    """Mean and variance per channel of a whole picture, gathered region by region.

    Each row's mean is taken in float32 and all else in float64; `Convolved.center` keeps the means near zero, so that
    the variance is no difference of large numbers.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Count (1, C, rows, columns) in."""
        columns = values.shape[3]
        for_sums = F.avg_pool2d(values, (1, columns))[0, :, :, 0]  # (C, rows); far faster than a sum over pixels
        for_squares = F.avg_pool2d(values * values, (1, columns))[0, :, :, 0]
        self.sum = self.sum + for_sums.sum(dim=1, dtype=torch.float64).cpu() * columns
        self.squares = self.squares + for_squares.sum(dim=1, dtype=torch.float64).cpu() * columns
        self.count += values.shape[2] * columns

    @property
    def mean(self) -> Tensor:
        """(C,), float64."""
        return self.sum / max(self.count, 1)

    @property
    def variance(self) -> Tensor:
        """(C,), float64, biased, as instance normalisation takes it."""
        return self.squares / max(self.count, 1) - self.mean**2


class Normalized(Source):
    """Another source after instance normalisation with the whole picture's statistics, and ReLU where there is one."""

    def __init__(self, source: Source, norm: nn.GroupNorm, statistics: Statistics, relu: bool) -> None:
        self.source, self.relu = source, relu
        self.channels, self.size, self.load, self.work = source.channels, source.size, source.load, source.work
        gain = norm.weight.double().cpu() / (statistics.variance + norm.eps).sqrt()
        self.gain = gain.float().view(1, -1, 1, 1).to(norm.weight.device)
        shift = norm.bias.double().cpu() - statistics.mean * gain
        self.shift = shift.float().view(1, -1, 1, 1).to(norm.weight.device)

    def read(self, region: Region) -> Tensor:
        values = self.source.read(region)
        torch.addcmul(self.shift, values, self.gain, out=values)  # in place: keeps the layout and the memory
        return values.relu_() if self.relu else values


class Doubled(Source):
    """Nearest-neighbour doubling of another source."""

    def __init__(self, source: Source) -> None:
        self.source, self.channels = source, source.channels
        self.size = (source.size[0] * 2, source.size[1] * 2)
        self.load = max(source.load / 4, self.channels)
        self.work = source.work / 4

    def read(self, region: Region) -> Tensor:
        half = Region(region.top // 2, (region.bottom + 1) // 2, region.left // 2, (region.right + 1) // 2)
        doubled = F.interpolate(self.source.read(half), scale_factor=2, mode="nearest")
        return _cut(doubled, region, half.top * 2, half.left * 2)


def _read_mirrored(read: Callable[[Region], Tensor], size: tuple[int, int], region: Region) -> Tensor:
    """Read a region that may lie beyond the borders, where the picture is mirrored."""
    top, bottom, first_row, last_row = _inside(region.top, region.bottom, size[0])
    left, right, first_column, last_column = _inside(region.left, region.right, size[1])
    values = read(Region(first_row, last_row, first_column, last_column))
    if top or bottom or left or right:
        values = F.pad(values, (left, right, top, bottom), mode="reflect")
    return _cut(values, region, first_row - top, first_column - left)


def _inside(start: int, end: int, length: int) -> tuple[int, int, int, int]:
    """How far a range reaches beyond both ends, and the range inside that holds it and its mirror images."""
    before, after = max(0, -start), max(0, end - length)
    first = min(max(0, start), length - 1 - after)
    last = max(min(end, length), before + 1)
    return before, after, first, last


def _cut(values: Tensor, region: Region, top: int, left: int) -> Tensor:
    """A region of values that begin at (top, left)."""
    return values[:, :, region.top - top : region.bottom - top, region.left - left : region.right - left]
