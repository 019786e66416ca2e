"""Bring a painting made at a lower resolution to its photo's size without blur, in bands of rows."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from stylenet.color import BAND_PIXELS, luma
from stylenet.image import Array, to_array, to_picture

WINDOW = 3  # pixels at the lower resolution on each side, over which painting and photo are compared
MARGIN = 8  # rows around a band: the window's and the interpolation's
FLATNESS = 1e-3  # variance below which a window of the photo is flat and lends no details


def enlarge(painting: Image.Image, reduced: Image.Image, photo: Image.Image) -> Image.Image:
    """Enlarge a painting and give it the fine details of the photo that its own lights and darks go along with.

    Enlarging leaves the highest frequencies empty. The photo has them: the luminance that reducing it lost. In every
    small window the painting's channels are compared with the photo's luminance by linear regression (the local linear
    model of the guided filter, He et al., ECCV 2010), and the slope says how much of the detail, and with what sign,
    belongs in the painting: contours come back sharp, strokes of the painting's own stay as they are.

    Args:
        painting: of the reduced photo.
        reduced: the photo at the lower resolution, of the painting's size.
        photo: the photo at the size wanted.
    """
    result = Image.new("RGB", photo.size)
    rows = max(1, BAND_PIXELS // photo.width)
    ratio = painting.height / photo.height
    for top in range(0, photo.height, rows):
        bottom = min(top + rows, photo.height)
        first = max(0, math.floor(top * ratio) - MARGIN)
        last = min(painting.height, math.ceil(bottom * ratio) + MARGIN)
        crop = (0, first, painting.width, last)
        painted, light = to_array(painting.crop(crop)), luma(to_array(reduced.crop(crop)))
        box = (0, top * ratio - first, painting.width, bottom * ratio - first)
        size = (photo.width, bottom - top)
        sharp = luma(to_array(photo.crop((0, top, photo.width, bottom))))
        detail = sharp - _resize(light, size, box)
        band = _resize(painted, size, box) + _resize(_slope(painted, light), size, box) * detail
        result.paste(to_picture(band), (0, top))
    return result


def _slope(painted: Array, light: Array) -> Array:
    """(1, C, H, W) and (1, 1, H, W) -> (1, C, H, W): how each channel follows the luminance around each pixel."""
    mean_light, mean_painted = _box(light), _box(painted)
    covariance = _box(painted * light) - mean_painted * mean_light
    variance = _box(light * light) - mean_light**2
    return np.asarray(np.clip(covariance / (np.maximum(variance, 0) + FLATNESS), -2, 2), np.float32)


def _box(values: Array) -> Array:
    """The mean over a window around each pixel; border pixels repeat."""
    sums = np.pad(values.astype(np.float64), ((0, 0), (0, 0), (WINDOW + 1, WINDOW), (WINDOW + 1, WINDOW)), mode="edge")
    side = 2 * WINDOW + 1
    sums = sums.cumsum(axis=2).cumsum(axis=3)
    rows = sums[:, :, side:] - sums[:, :, :-side]
    return np.asarray((rows[..., side:] - rows[..., :-side]) / side**2, np.float32)


def _resize(values: Array, size: tuple[int, int], box: tuple[float, float, float, float]) -> Array:
    """A box of (1, C, H, W) at another size (width, height)."""
    channels = [Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC, box=box) for channel in values[0]]
    return np.stack([np.asarray(channel, np.float32) for channel in channels])[None]
