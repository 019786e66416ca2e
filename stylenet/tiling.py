"""Paint a picture of any size in bounded memory, tile by tile, exactly as the network would paint it whole.

Instance normalisation makes that hard: its mean and variance are those of the whole picture, so no tile can be painted
alone without seams, and a thumbnail's statistics (URST, Chen et al., AAAI 2022) only come near. Here the network is
walked through convolution by convolution. A sweep over all tiles computes one convolution, gathers its exact
statistics and leaves its result in a temporary file; the next sweep reads it with as many pixels around each tile as
its own kernel needs, and normalises while reading. At full resolution, where such files would be largest, the result
is not stored but computed again by the sweep that needs it.
"""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import torch
from PIL import Image
from torch import Tensor, nn

from stylenet.errors import PictureError
from stylenet.image import to_picture
from stylenet.sources import Convolved, Doubled, Normalized, Picture, Region, Source, Statistics, Stored
from stylenet.transformer_net import ConvBlock, ResidualBlock, TransformerNet, UpsampleBlock

TILE_VALUES = 4_000_000  # the most values in one tensor: 16 MB in float32
Progress = Callable[[float], None]


@torch.inference_mode()
def paint_in_tiles(
    net: TransformerNet,
    photo: Image.Image,
    device: str = "cpu",
    progress: Progress | None = None,
    tile_values: int = TILE_VALUES,
) -> Image.Image:
    """Paint a picture of any size with memory for the picture itself, its painting and a few tiles.

    Args:
        net: on `device`.
        photo: RGB.
        device: where the network is.
        progress: called after each tile with the part done, from 0 to 1.
        tile_values: the most values that one tensor may hold; smaller tiles take less memory and more time.

    Returns:
        The painting, RGB; it differs from the one made whole by the rounding of stored values to float16.

    Raises:
        PictureError: for a picture that is too small, or a temporary folder without enough space.
    """
    net.architecture.check_size(photo.height, photo.width)
    plan = _Walk(net, photo, device, None, tile_values)
    plan.run()
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if plan.most_stored > free:
        raise PictureError(
            f"Painting {photo.width} x {photo.height} px in tiles needs {plan.most_stored / 1e9:.1f} GB of space in "
            f"{folder}, where {free / 1e9:.1f} GB are free; make room, or set TMPDIR to a folder on a larger disk."
        )
    with ExitStack() as files:
        try:
            walk = _Walk(net, photo, device, files, tile_values)
            walk.progress, walk.total = progress, plan.done
            return walk.run()
        except OSError as error:
            raise PictureError(f"The temporary space in {folder} gave out: {error.strerror or error}") from None


class _Walk:
    """One way through the network; without `files` it computes nothing and only adds up work and space."""

    def __init__(
        self, net: TransformerNet, photo: Image.Image, device: str, files: ExitStack | None, tile_values: int
    ) -> None:
        self.net, self.photo, self.device, self.files, self.tile_values = net, photo, device, files, tile_values
        self.progress: Progress | None = None
        self.done, self.total = 0.0, 1.0
        self.stored = self.most_stored = 0

    def run(self) -> Image.Image:
        layers = list(self.net.layers)
        source: Source = Picture(self.photo, self.net.architecture, self.device)
        for index, layer in enumerate(layers[:-1]):
            if isinstance(layer, ResidualBlock):
                source = self._residual(source, layer)
                continue
            assert isinstance(layer, ConvBlock | UpsampleBlock)
            at_full_size = (index == 0 and isinstance(layers[1], ConvBlock)) or index == len(layers) - 2
            if isinstance(layer, UpsampleBlock):
                result = self._convolve(Doubled(source), layer[1], layer[2], relu=True, keep=not at_full_size)
            else:
                result = self._convolve(source, layer[0], layer[1], relu=True, keep=not at_full_size)
            if not at_full_size:
                self._free(source)
            source = result
        return self._output(Convolved(source, cast(nn.Conv2d, layers[-1])))

    def _residual(self, source: Source, block: ResidualBlock) -> Source:
        inner = self._convolve(source, block.body[0], block.body[1], relu=True, keep=True)
        outer = self._convolve(inner, block.body[3], block.body[4], relu=False, keep=True)
        self._free(inner)
        kept = _stored(source)
        assert kept is not None  # what comes before a residual block is always kept
        for region in self._tiles(source):  # each tile's sum takes the place of the values that it was made from
            kept.write(region, source.read(region) + outer.read(region))
        self._free(outer)
        return kept

    def _convolve(self, source: Source, conv: nn.Module, norm: nn.Module, relu: bool, keep: bool) -> Source:
        convolved = Convolved(source, cast(nn.Conv2d, conv))
        statistics = Statistics()
        kept = self._keep(convolved) if keep else None
        if self.files:
            convolved.center(_middle(convolved))
        for region in self._tiles(convolved):
            values = convolved.read(region)
            statistics.add(values)
            if kept:
                kept.write(region, values)
        return Normalized(kept or convolved, cast(nn.GroupNorm, norm), statistics, relu)

    def _output(self, source: Source) -> Image.Image:
        painting = Image.new("RGB", self.photo.size if self.files else (1, 1))
        above, before = (self.net.architecture.growth(length)[0] for length in (self.photo.height, self.photo.width))
        for region in self._tiles(source):
            values: Tensor = source.read(region) + 0.5
            place = (region.left - before, region.top - above)  # what was grown is cut off
            painting.paste(to_picture(values.cpu().numpy()), place)
        return painting

    def _tiles(self, source: Source) -> Iterator[Region]:
        height, width = source.size
        if self.files is None:
            self.done += (source.work + source.channels) * height * width
            return
        side = max(1, math.isqrt(int(self.tile_values / source.load)))
        rows, columns = (math.ceil(length / math.ceil(length / side)) for length in (height, width))
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                region = Region(top, min(top + rows, height), left, min(left + columns, width))
                yield region
                area = (region.bottom - region.top) * (region.right - region.left)
                self.done += (source.work + source.channels) * area
                if self.progress:
                    self.progress(min(1.0, self.done / self.total))

    def _keep(self, source: Source) -> Stored:
        self.stored += _bytes(source)
        self.most_stored = max(self.most_stored, self.stored)
        file: IO[bytes] = io.BytesIO()
        if self.files:
            file = self.files.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        return Stored(file, source.channels, source.size, self.device)

    def _free(self, source: Source) -> None:
        kept = _stored(source)
        if kept:
            self.stored -= _bytes(kept)
            kept.file.close()


def _middle(source: Source) -> Region:
    height, width = source.size
    rows, columns = min(height, 64), min(width, 64)
    top, left = (height - rows) // 2, (width - columns) // 2
    return Region(top, top + rows, left, left + columns)


def _stored(source: Source) -> Stored | None:
    inner = source.source if isinstance(source, Normalized) else source
    return inner if isinstance(inner, Stored) else None


def _bytes(source: Source) -> int:
    return source.channels * source.size[0] * source.size[1] * 2  # float16
