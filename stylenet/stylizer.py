"""Paint pictures with a trained network: the API that people import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylenet import checkpoint
from stylenet.errors import ConfigError, PictureError
from stylenet.image import Array, to_array, to_picture
from stylenet.painting import Controls, Layer, paint
from stylenet.photo import Photo, from_picture, read_photo
from stylenet.tiling import fits_in_memory, paint_in_tiles
from stylenet.transformer_net import TransformerNet

Paintable = str | Path | Image.Image | np.ndarray | Tensor
Progress = Callable[[float], None]  # called with the part done, from 0 to 1


class Stylizer:
    """A network, ready to paint: `Stylizer.load("starry_night")("photo.jpg").save("painted.jpg")`.

    Args:
        net: the network.
        card: what its model file says.
        device: `cpu`, `cuda` ...; default: a GPU where there is one.

    Raises:
        ConfigError: for a device that this machine does not have.
    """

    def __init__(self, net: TransformerNet, card: checkpoint.ModelCard, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.net = net.to(self.device).to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            sentence = str(error).splitlines()[0]
            raise ConfigError(f"The device {self.device!r} cannot be used here: {sentence}") from None
        self.card = card

    @classmethod
    def load(cls, name_or_path: str | Path, device: str | None = None) -> Stylizer:
        """Find and load a network by its style's name or its file's path.

        Raises:
            ModelFileError: when there is none, or the file is broken or foreign.
        """
        return cls(*checkpoint.load(checkpoint.find_network(name_or_path)), device)

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
        """
        if tile is False or (tile is None and fits_in_memory(self.net, pictures[0].size, self.device)):
            try:
                painted = self.paint(np.concatenate([to_array(picture) for picture in pictures]))
                return [to_picture(image[None]) for image in painted]
            except (MemoryError, RuntimeError) as error:  # the CPU's allocator raises a plain RuntimeError
                if tile is False or not (isinstance(error, MemoryError) or "memory" in str(error)):
                    raise
        return [paint_in_tiles(self.net, picture, self.device, progress) for picture in pictures]

    @torch.inference_mode()
    def paint(self, images: Array) -> Array:
        """(N, 3, H, W), RGB in [0, 1] -> the same, painted, not yet clamped."""
        batch = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        painted: Array = self.net(batch).cpu().numpy()
        return painted


def _as_photo(picture: Paintable) -> Photo:
    if isinstance(picture, str | Path):
        return read_photo(picture)
    if isinstance(picture, Image.Image):
        return from_picture(picture)
    pixels = picture.detach().cpu().float().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
    if isinstance(picture, Tensor) and pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if isinstance(picture, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise PictureError(
            f"A picture of shape {tuple(picture.shape)} was given; an array is (H, W, 3), a tensor (3, H, W)."
        )
    scaled = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)  # (H, W, 3)
    return from_picture(to_picture(scaled.astype(np.float32).transpose(2, 0, 1)[None]))
