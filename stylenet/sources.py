"""The network's values, region by region, for pictures whose values do not fit in memory all at once.

Each source answers for a region at its own resolution and asks the one below it for what that takes: as many pixels
around as a kernel needs, mirrored at the picture's borders just as the whole network mirrors them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from stylenet.errors import ModelFileError
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
    """The photo as the network sees it: centred, and grown by reflection to a multiple of the network's stride."""

    channels = 3
    load = 3.0

    def __init__(self, photo: Image.Image, stride: int, device: str) -> None:
        self.photo = photo
        self.device = device
        self.size = (photo.height + -photo.height % stride, photo.width + -photo.width % stride)

    def read(self, region: Region) -> Tensor:
        rows = _reflected(region.top, region.bottom, self.photo.height)
        columns = _reflected(region.left, region.right, self.photo.width)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        pixels = torch.from_numpy(to_array(self.photo.crop(box))).to(self.device)
        return _gather(pixels, rows - box[1], columns - box[0]) - 0.5


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
        values = np.empty((region.bottom - region.top, region.right - region.left, self.channels), np.float16)
        for row, line in enumerate(values, region.top):
            self._seek(row, region.left)
            self.file.readinto(line)  # type: ignore[attr-defined]
        return torch.from_numpy(values).to(self.device).permute(2, 0, 1)[None].float()

    def write(self, region: Region, values: Tensor) -> None:
        """Keep (1, C, rows, columns).

        Raises:
            ModelFileError: when values are beyond float16, which those of a sound network are far from.
        """
        halves = values[0].permute(1, 2, 0).half().contiguous()
        if not halves.isfinite().all():
            raise ModelFileError("The network's values are too large to paint in tiles; its weights are damaged.")
        for row, line in enumerate(halves.cpu().numpy(), region.top):
            self._seek(row, region.left)
            self.file.write(line)

    def _seek(self, row: int, column: int) -> None:
        self.file.seek((row * self.size[1] + column) * self.channels * np.dtype(np.float16).itemsize)


class Convolved(Source):
    """A convolution of another source, computed when it is read; reflects at the picture's borders."""

    def __init__(self, source: Source, conv: nn.Conv2d) -> None:
        self.source, self.conv = source, conv
        self.channels = conv.out_channels
        self.stride, self.padding = conv.stride[0], conv.kernel_size[0] // 2
        self.size = (source.size[0] // self.stride, source.size[1] // self.stride)
        self.load = max(source.load * self.stride**2, self.channels)
        self.work = source.work * self.stride**2 + conv.weight.numel()

    def read(self, region: Region) -> Tensor:
        rows = self._needed(region.top, region.bottom, self.source.size[0])
        columns = self._needed(region.left, region.right, self.source.size[1])
        around = Region(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        values = _gather(self.source.read(around), rows - around.top, columns - around.left)
        values = values.contiguous(memory_format=torch.channels_last)
        return F.conv2d(values, self.conv.weight, self.conv.bias, self.stride)

    def _needed(self, start: int, end: int, length: int) -> Tensor:
        return _reflected(start * self.stride - self.padding, (end - 1) * self.stride + self.padding + 1, length)


class Statistics:
    """Mean and variance per channel of a whole picture, gathered region by region in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)  # sum of squared distances from the mean

    def add(self, values: Tensor) -> None:
        """Count (1, C, rows, columns) in."""
        count = values.shape[2] * values.shape[3]
        variance, mean = torch.var_mean(values[0], dim=(1, 2), correction=0)
        delta = mean.double() - self.mean.to(mean.device)
        total = self.count + count
        between = delta**2 * (self.count * count / total)
        self.squares = self.squares.to(mean.device) + variance.double() * count + between
        self.mean = self.mean.to(mean.device) + delta * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """(C,), biased, as instance normalisation takes it."""
        return self.squares / max(self.count, 1)


class Normalized(Source):
    """Another source after instance normalisation with the whole picture's statistics, and ReLU where there is one."""

    def __init__(self, source: Source, norm: nn.InstanceNorm2d, statistics: Statistics, relu: bool) -> None:
        self.source, self.relu = source, relu
        self.channels, self.size, self.load, self.work = source.channels, source.size, source.load, source.work
        gain = norm.weight.double() / (statistics.variance + norm.eps).sqrt()
        self.gain = gain.float().view(1, -1, 1, 1)
        self.shift = (norm.bias.double() - statistics.mean * gain).float().view(1, -1, 1, 1)

    def read(self, region: Region) -> Tensor:
        values = torch.addcmul(self.shift, self.source.read(region), self.gain)
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
        rows = torch.arange(region.top, region.bottom) // 2 - half.top
        columns = torch.arange(region.left, region.right) // 2 - half.left
        return _gather(self.source.read(half), rows, columns)


def _reflected(start: int, end: int, length: int) -> Tensor:
    """The indices from start to end, mirrored back into 0 ... length - 1."""
    indices = torch.arange(start, end).abs()
    return torch.where(indices < length, indices, 2 * (length - 1) - indices)


def _gather(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(1, C, H, W) -> (1, C, rows, columns), without copying when that is all of it."""
    if not torch.equal(rows, torch.arange(values.shape[2])):
        values = values.index_select(2, rows.to(values.device))
    if not torch.equal(columns, torch.arange(values.shape[3])):
        values = values.index_select(3, columns.to(values.device))
    return values
