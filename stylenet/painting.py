"""From photos to paintings with every control: stroke size, mixtures, masks, colours, strength.

Networks come in as functions from pictures to pictures, so nothing here knows what paints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from stylenet import color
from stylenet.enlarge import enlarge
from stylenet.errors import ConfigError, PictureError

Brush = Callable[[Sequence[Image.Image]], list[Image.Image]]  # RGB pictures of one size -> the same, painted
PreserveColor = Literal["luminance", "histogram"]
PRESERVE_COLOR: tuple[PreserveColor, ...] = ("luminance", "histogram")
MASK_PROPORTIONS = 0.02  # how far, relatively, a mask's proportions may be from the photo's


@dataclass(frozen=True)
class Controls:
    """How a photo is painted.

    Attributes:
        strength: from 0, the photo, to 1, the painting.
        preserve_color: `luminance` paints in light and dark only and keeps every colour in its place; `histogram` gives
            the painting the photo's palette. Default: the style's colours.
        scale: size of the brush strokes relative to the trained one. Above 1 the photo is painted smaller and
            enlarged with the photo's own contours (`enlarge`); below 1 it is painted larger and reduced.
        feather: width in pixels over which a mask's edges are softened; default: 1/100 of the shorter side.

    Raises:
        ConfigError: for a value out of its range.
    """

    strength: float = 1.0
    preserve_color: PreserveColor | None = None
    scale: float = 1.0
    feather: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"The strength must be from 0 (the photo) to 1 (the painting), not {self.strength:g}.")
        if not 0.1 <= self.scale <= 10:
            raise ConfigError(f"The scale of the strokes must be from 0.1 to 10 (1 is as trained), not {self.scale:g}.")
        if self.feather is not None and not self.feather >= 0:
            raise ConfigError(f"The feather must be 0 or more pixels, not {self.feather:g}.")
        if self.preserve_color not in (None, *PRESERVE_COLOR):
            known = " or ".join(PRESERVE_COLOR)
            raise ConfigError(f"Colours are preserved by {known}, not by {self.preserve_color!r}.")


@dataclass(frozen=True)
class Layer:
    """One painting: brushes, mixed by their weights, and where it shows: everywhere, or where the mask is white."""

    brushes: Sequence[tuple[Brush, float]]
    mask: Image.Image | None = None


def paint(photos: Sequence[Image.Image], layers: Sequence[Layer], controls: Controls) -> list[Image.Image]:
    """Paint photos of one size.

    Args:
        photos: RGB, in sRGB.
        layers: at least one.
        controls: the same for all.

    Returns:
        The paintings, each of its photo's size.

    Raises:
        PictureError: for a photo that is too small, or a mask of other proportions than the photos'.
    """
    masks = [_fitted(layer.mask, photos[0].size, controls.feather) for layer in layers]
    layered = [_paint_layer(photos, layer, controls) for layer in layers]
    painted = []
    for index, photo in enumerate(photos):
        paintings = [_finish(layer[index], photo, controls) for layer in layered]
        painted.append(color.lay(photo, paintings, masks))
    return painted


def _paint_layer(photos: Sequence[Image.Image], layer: Layer, controls: Controls) -> list[Image.Image]:
    by_brush = [_paint_scaled(photos, brush, controls.scale) for brush, _ in layer.brushes]
    weights = [weight for _, weight in layer.brushes]
    return [color.mix(paintings, weights) for paintings in zip(*by_brush, strict=True)]


def _paint_scaled(photos: Sequence[Image.Image], brush: Brush, scale: float) -> list[Image.Image]:
    if scale == 1:
        return brush(photos)
    width, height = photos[0].size
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    resized = [photo.resize(size, Image.Resampling.LANCZOS) for photo in photos]
    try:
        painted = brush(resized)
    except PictureError as error:
        raise PictureError(f"For strokes of scale {scale:g}: {error}") from None
    if scale < 1:
        return [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in painted]
    return [enlarge(painting, *both) for painting, *both in zip(painted, resized, photos, strict=True)]


def _finish(painting: Image.Image, photo: Image.Image, controls: Controls) -> Image.Image:
    if controls.preserve_color == "luminance":
        painting = color.keep_luminance_only(painting, photo)
    elif controls.preserve_color == "histogram":
        painting = color.match_colors(painting, photo)
    return color.weaken(painting, photo, controls.strength)


def _fitted(mask: Image.Image | None, size: tuple[int, int], feather: float | None) -> Image.Image | None:
    if mask is None:
        return None
    proportions = mask.width / mask.height / (size[0] / size[1])
    if not 1 - MASK_PROPORTIONS <= proportions <= 1 + MASK_PROPORTIONS:
        raise PictureError(
            f"The mask is {mask.width} x {mask.height} px and the photo {size[0]} x {size[1]} px; "
            "a mask must have its photo's proportions."
        )
    return color.fit_mask(mask, size, min(size) / 100 if feather is None else feather)
