"""Paint pictures with a trained network: the API that people import."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylenet import checkpoint
from stylenet.errors import PictureError
from stylenet.image import Array, load_image, to_array, to_picture
from stylenet.transformer_net import TransformerNet

Paintable = str | Path | Image.Image | np.ndarray | Tensor


class Stylizer:
    """A network, ready to paint: `Stylizer.load("starry_night")("photo.jpg").save("painted.jpg")`.

    Args:
        net: the network.
        card: what its model file says.
        device: `cpu`, `cuda` ...; default: a GPU where there is one.
    """

    def __init__(self, net: TransformerNet, card: checkpoint.ModelCard, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.to(self.device).to(memory_format=torch.channels_last)
        self.card = card

    @classmethod
    def load(cls, name_or_path: str | Path, device: str | None = None) -> Stylizer:
        """Find and load a network by its style's name or its file's path.

        Raises:
            ModelFileError: when there is none, or the file is broken or foreign.
        """
        return cls(*checkpoint.load(checkpoint.find_network(name_or_path)), device)

    def __call__(self, picture: Paintable) -> Image.Image:
        """Paint one picture.

        Args:
            picture: a path, a Pillow picture, an array (H, W, 3) of uint8 or of floats in [0, 1], or a tensor
                (3, H, W) or (1, 3, H, W) in [0, 1].

        Returns:
            The painted picture, RGB, of the same size.

        Raises:
            PictureError: for anything else, and for a picture smaller than the network can take.
        """
        return to_picture(self.paint(_as_array(picture)))

    @torch.inference_mode()
    def paint(self, image: Array) -> Array:
        """(1, 3, H, W), RGB in [0, 1] -> the same, painted, not yet clamped."""
        batch = torch.from_numpy(image).to(self.device, memory_format=torch.channels_last)
        painted: Array = self.net(batch).cpu().numpy()
        return painted


def _as_array(picture: Paintable) -> Array:
    if isinstance(picture, str | Path):
        return load_image(picture)
    if isinstance(picture, Image.Image):
        return to_array(picture.convert("RGB"))
    pixels = picture.detach().cpu().float().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
    if isinstance(picture, Tensor) and pixels.ndim == 4:
        pixels = pixels[0]
    if not isinstance(picture, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(2, 0, 1)
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise PictureError(
            f"A picture of shape {tuple(picture.shape)} was given; an array is (H, W, 3), a tensor (3, H, W)."
        )
    scaled = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)
    return np.ascontiguousarray(scaled[None])
