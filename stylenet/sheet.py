"""One photo in many styles, on one sheet: what to look at before choosing one."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stylenet.contact_sheet import contact_sheet
from stylenet.image import resize_picture, to_array
from stylenet.stylizer import Stylizer

INSET = 4  # a painting's thumbnail takes this part of the shorter side
BORDER = 2  # px of white around it


def style_sheet(
    photo: Image.Image,
    networks: Mapping[str, Path],
    shorter_side: int,
    device: str | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Image.Image:
    """Paint a photo with every network.

    Args:
        photo: RGB.
        networks: model files by the names to show.
        shorter_side: px of each painted photo's.
        device: see `Stylizer`.
        advance: called after each.

    Returns:
        The photo and its paintings with their names, each with what it was learned from in a corner.

    Raises:
        PictureError: for a photo that is too small.
        ModelFileError: for a file that is broken or foreign.
    """
    photo = resize_picture(photo, shorter_side)
    pictures = [photo]
    for path in networks.values():
        stylizer = Stylizer.load(path, device)
        pictures.append(_with_inset(stylizer.paint_pictures([photo])[0], stylizer.card.thumbnail))
        advance()
    return contact_sheet(np.concatenate([to_array(picture) for picture in pictures]), ["photo", *networks])


def _with_inset(painted: Image.Image, thumbnail: bytes) -> Image.Image:
    if thumbnail:
        with Image.open(io.BytesIO(thumbnail)) as painting:
            side = max(1, min(painted.size) // INSET)
            small = ImageOps.fit(painting.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        small = ImageOps.expand(small, BORDER, "white")
        painted.paste(small, (0, painted.height - small.height))
    return painted
