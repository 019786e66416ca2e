"""Paint pictures with a trained network: the API that people import.

On a CPU, OpenVINO paints (`engine`) and PyTorch is not even imported; on a GPU, in tiles and where OpenVINO is missing,
PyTorch does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stylenet import checkpoint, memory
from stylenet.errors import ConfigError, PictureError
from stylenet.image import Array, to_array, to_picture
from stylenet.painting import Controls, Layer, paint
from stylenet.photo import Photo, from_picture, read_photo

if TYPE_CHECKING:
    from torch import Tensor

    from stylenet.engine import Engine
    from stylenet.transformer_net import TransformerNet

    Paintable = str | Path | Image.Image | np.ndarray | Tensor

Progress = Callable[[float], None]  # called with the part done, from 0 to 1
log = logging.getLogger(__name__)


class Stylizer:
    """A network, ready to paint: `Stylizer.load("starry_night")("photo.jpg").save("painted.jpg")`.

    Args:
        model: what a model file holds.
        device: `cpu`, `cuda` ...; default: a GPU where there is one.

    Raises:
        ConfigError: for a device that this machine does not have.
    """

    def __init__(self, model: checkpoint.Model, device: str | None = None) -> None:
        self.device = device or memory.best_device()
        self.model = model
        self.card = model.card
        self._engine = self._make_engine() if self.device == "cpu" else None
        if self._engine is None:
            _ = self.net  # now, so that a device that cannot be used is refused before anything is painted

    @classmethod
    def load(cls, name_or_path: str | Path, device: str | None = None) -> Stylizer:
        """Find and load a network by its style's name or its file's path.

        Raises:
            ModelFileError: when there is none, or the file is broken or foreign.
            ConfigError: for a device that this machine does not have.
        """
        return cls(checkpoint.read(checkpoint.find_network(name_or_path)), device)

    @cached_property
    def net(self) -> TransformerNet:
        """The network as a PyTorch module on the device, made when it is first asked for."""
        import torch

        try:
            return checkpoint.build(self.model).to(self.device).to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            sentence = str(error).splitlines()[0]
            raise ConfigError(f"The device {self.device!r} cannot be used here: {sentence}") from None

    def __call__(
        self, picture: Paintable, *, mask: Image.Image | None = None, tile: bool | None = None, **controls: Any
    ) -> Image.Image:
        """Paint one picture.

        Args:
            picture: a path, a Pillow picture, an array (H, W, 3) of uint8 or of floats in [0, 1], or a tensor
                (3, H, W) or (1, 3, H, W) in [0, 1]. Of an animation, the first frame is painted.
            mask: paint only where it is white.
            tile: see `paint_pictures`.
            controls: `strength`, `preserve_color`, `scale`, `feather`; see `painting.Controls`.

        Returns:
            The painted picture, of the same size; RGB, or RGBA where the picture has transparency.

        Raises:
            PictureError: for anything else, and for a picture smaller than the network can take.
            ConfigError: for a control out of its range.
        """
        photo = _as_photo(picture)
        brush = partial(self.paint_pictures, tile=tile)
        painted = paint(photo.frames[:1], [Layer([(brush, 1.0)], mask)], Controls(**controls))[0]
        if photo.alphas[0] is not None:
            painted.putalpha(photo.alphas[0])
        return painted

    def paint_pictures(
        self, pictures: Sequence[Image.Image], *, tile: bool | None = None, progress: Progress | None = None
    ) -> list[Image.Image]:
        """Paint RGB pictures of one size together.

        Args:
            pictures: of one size.
            tile: one by one in tiles with the whole picture's statistics, which needs little memory; slower. Default:
                when a picture would not fit in the memory that is free.
            progress: called with the part done while painting in tiles.

        Raises:
            PictureError: for pictures smaller than the network can take, and when they are not to be painted in tiles
                and the memory does not suffice.
        """
        if tile is False or (tile is None and self._fits(pictures[0].size)):
            try:
                painted = self.paint(np.concatenate([to_array(picture) for picture in pictures]))
                return [to_picture(image[None]) for image in painted]
            except (MemoryError, RuntimeError) as error:  # PyTorch's allocator on a CPU raises a plain RuntimeError
                if not (isinstance(error, MemoryError) or "memory" in str(error)):
                    raise
                if tile is False:
                    size = "{} x {} px".format(*pictures[0].size)
                    raise PictureError(f"The memory does not suffice for {size}; allow tiles.") from None
        from stylenet.tiling import paint_in_tiles

        return [paint_in_tiles(self.net, picture, self.device, progress) for picture in pictures]

    def paint(self, images: Array) -> Array:
        """(N, 3, H, W), RGB in [0, 1] -> the same, painted, not yet clamped."""
        if self._engine:
            return self._engine.paint(images)
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
            painted: Array = self.net(batch).cpu().numpy()
        return painted

    def _make_engine(self) -> Engine | None:
        from stylenet.engine import Engine

        try:
            return Engine(self.model)
        except ImportError as error:
            log.warning("OpenVINO cannot be imported, so PyTorch paints, several times slower: %s", error)
            return None

    def _fits(self, size: tuple[int, int]) -> bool:
        architecture = self.model.architecture
        needed = memory.engine_bytes(architecture) if self._engine else memory.pytorch_bytes(architecture)
        grown = prod(length + sum(architecture.growth(length)) for length in size) / prod(size)
        largest = memory.largest_that_fits(size, needed * grown, self.device)
        if largest is None:
            return True
        log.warning(
            "%d x %d px would take %.1f GB, more than half of the memory that is free (up to %d x %d px would fit): "
            "painting in tiles, which takes longer and looks the same.",
            *size, size[0] * size[1] * needed / 1e9, *largest,
        )  # fmt: skip
        return False


def _as_photo(picture: Paintable) -> Photo:
    if isinstance(picture, str | Path):
        return read_photo(picture)
    if isinstance(picture, Image.Image):
        return from_picture(picture)
    if isinstance(picture, np.ndarray):
        pixels = picture
    else:
        pixels = picture.detach().cpu().float().numpy()
        pixels = pixels[0] if pixels.ndim == 4 and pixels.shape[0] == 1 else pixels
        pixels = pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise PictureError(
            f"A picture of shape {tuple(picture.shape)} was given; an array is (H, W, 3), a tensor (3, H, W)."
        )
    scaled = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)  # (H, W, 3)
    return from_picture(to_picture(scaled.astype(np.float32).transpose(2, 0, 1)[None]))
