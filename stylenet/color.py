"""Arithmetic between a photo and its painting: colours kept, strengths, masks, mixtures.

Pillow pictures in and out, RGB in sRGB, in bands of rows, so that the memory needed on top of the pictures themselves
is a few dozen megabytes whatever their size. Nothing here knows networks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageFilter

from stylenet.image import Array, to_array, to_picture

LUMA = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)  # ITU-R BT.601, the Y of JPEG
BAND_PIXELS = 1_000_000


def keep_luminance_only(painting: Image.Image, photo: Image.Image) -> Image.Image:
    """The painting's luminance with the photo's colours (luminance-only transfer, Gatys et al. 2016, arXiv 1606.05897).

    Where the photo's full colour does not exist at the painting's luminance, saturation gives way: the hue stays.
    """

    def band(painted: Array, original: Array) -> Array:
        light = luma(painted)
        chroma = original - luma(original)
        room = np.where(chroma > 0, 1 - light, light) / np.maximum(np.abs(chroma), 1e-6)
        kept: Array = light + chroma * np.minimum(room.min(axis=1, keepdims=True), 1)
        return kept

    return _map_bands(band, painting, photo)


def match_colors(painting: Image.Image, photo: Image.Image) -> Image.Image:
    """The painting with the mean and covariance of the photo's colours, that is, with its palette.

    Gatys et al. 2016 (arXiv 1606.05897) match colours by such a linear map; this one is the map that moves colours
    least, A = P^-1/2 (P^1/2 Q P^1/2)^1/2 P^-1/2 for covariances P of the painting and Q of the photo (Pitie and
    Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping").
    """
    mean_p, cov_p = color_statistics(painting)
    mean_q, cov_q = color_statistics(photo)
    root = _power(cov_p, 0.5)
    inverse = _power(cov_p, -0.5)
    matrix = inverse @ _power(root @ cov_q @ root, 0.5) @ inverse
    offset = (mean_q - matrix @ mean_p).reshape(1, 3, 1, 1)

    def band(painted: Array) -> Array:
        return np.asarray(np.einsum("ij,njhw->nihw", matrix, painted) + offset, np.float32)

    return _map_bands(band, painting)


def match_luminance(painting: Image.Image, photo: Image.Image) -> Image.Image:
    """The painting in greys, with the mean and deviation of the photo's luminance.

    What luminance-only transfer takes its style from (Gatys et al. 2016, arXiv 1606.05897, section 4.2, eq. 10): a dark
    painting must not darken a photo that keeps its colours.
    """
    (mean_p, deviation_p), (mean_q, deviation_q) = map(_luminance_statistics, (painting, photo))
    gain = deviation_q / max(deviation_p, 1 / 255)

    def band(painted: Array) -> Array:
        light = (luma(painted) - mean_p) * gain + mean_q
        return np.repeat(light.astype(np.float32), 3, axis=1)

    return _map_bands(band, painting)


def _luminance_statistics(picture: Image.Image) -> tuple[float, float]:
    mean, covariance = color_statistics(picture)
    weights = LUMA.ravel().astype(np.float64)
    return float(weights @ mean), float(np.sqrt(weights @ covariance @ weights))


def color_statistics(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) and covariance (3, 3) of a picture's colours in [0, 1], in float64."""
    total, products, count = np.zeros(3), np.zeros((3, 3)), 0
    for (pixels,) in _bands(picture):
        flat = pixels.reshape(3, -1).astype(np.float64)  # (3, N)
        total += flat.sum(axis=1)
        products += flat @ flat.T
        count += flat.shape[1]
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def mix(paintings: Sequence[Image.Image], weights: Sequence[float]) -> Image.Image:
    """Several paintings of one photo, or it and a painting, as one, by weight, as vivid as they are.

    A plain mean of unlike brush strokes is flat and grey, since they cancel each other. So the mean is stretched until
    each channel's standard deviation is the weighted mean of the paintings' own.
    """
    shares = np.asarray(weights, np.float64) / sum(weights)
    if len(paintings) == 1:
        return paintings[0]

    def mean(*painted: Array) -> Array:
        return np.tensordot(shares, np.stack(painted), axes=1).astype(np.float32)

    mixed = _map_bands(mean, *paintings)
    deviations = [np.sqrt(np.diag(color_statistics(painting)[1])) for painting in paintings]
    wanted = np.average(deviations, axis=0, weights=shares)
    center, covariance = color_statistics(mixed)
    gain = wanted / np.maximum(np.sqrt(np.diag(covariance)), 1 / 255)
    middle, gain = center.reshape(1, 3, 1, 1), gain.reshape(1, 3, 1, 1)

    def vivid(*painted: Array) -> Array:
        return np.asarray((mean(*painted) - middle) * gain + middle, np.float32)

    return _map_bands(vivid, *paintings)


def lay(photo: Image.Image, paintings: Sequence[Image.Image], masks: Sequence[Image.Image | None]) -> Image.Image:
    """Paintings over their photo, each where its mask is white; where masks overlap, they share.

    Args:
        photo: shows where all masks are black.
        paintings: of the photo's size.
        masks: "L", of the photo's size; `None` is white everywhere.
    """
    if all(mask is None for mask in masks) and len(masks) == 1:
        return paintings[0]
    grey = [mask or Image.new("L", photo.size, 255) for mask in masks]

    def band(original: Array, *layers: Array) -> Array:
        result = original
        painted, covers = layers[: len(paintings)], layers[len(paintings) :]
        total = np.maximum(sum(covers), 1)
        for paint, cover in zip(painted, covers, strict=True):
            result = result + cover / total * (paint - original)
        return result

    return _map_bands(band, photo, *paintings, *grey)


def weaken(painting: Image.Image, photo: Image.Image, strength: float) -> Image.Image:
    """The way from the photo (0) to its painting (1), as vivid as both.

    A plain blend is paler than either; a trained network's features do not lend themselves to it: with its residual
    blocks turned down, it paints dirt.
    """
    if strength in (0, 1):
        return painting if strength else photo
    return mix([photo, painting], [1 - strength, strength])


def fit_mask(mask: Image.Image, size: tuple[int, int], feather: float) -> Image.Image:
    """A mask at a photo's size with edges softened over about `feather` pixels."""
    fitted = mask.convert("L").resize(size, Image.Resampling.BILINEAR)
    return fitted.filter(ImageFilter.GaussianBlur(feather / 2)) if feather > 0 else fitted


def bleed(rgba: Image.Image) -> Image.Image:
    """The colours of a transparent picture, carried on below its transparent parts, opaque.

    What is stored there is arbitrary, mostly black; a network would paint an edge around it.
    """
    small = rgba.convert("RGBa")  # colours times alpha: reducing these gives means of the visible colours alone
    levels = [small]
    while max(small.size) > 1:
        small = small.resize((max(1, small.width // 2), max(1, small.height // 2)), Image.Resampling.BOX)
        levels.append(small)
    filled = levels[-1].convert("RGBA")  # one pixel: the mean of what is visible
    filled = filled if filled.getchannel("A").getextrema() != (0, 0) else Image.new("RGBA", (1, 1), "white")
    filled.putalpha(255)
    for level in reversed(levels):
        visible = level.convert("RGBA")
        filled = Image.alpha_composite(filled.resize(level.size, Image.Resampling.BILINEAR), visible)
    return filled.convert("RGB")


def luma(pixels: Array) -> Array:
    """(1, 3, H, W) -> (1, 1, H, W)."""
    light: Array = (pixels * LUMA).sum(axis=1, keepdims=True, dtype=np.float32)
    return light


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-8) ** exponent) @ vectors.T)


def _bands(*pictures: Image.Image) -> Iterator[tuple[Array, ...]]:
    width, height = pictures[0].size
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        yield tuple(_to_floats(picture.crop(box)) for picture in pictures)


def _to_floats(picture: Image.Image) -> Array:
    if picture.mode == "RGB":
        return to_array(picture)
    return np.asarray(np.asarray(picture)[None, None] / 255, np.float32)  # (1, 1, H, W)


def _map_bands(function: Callable[..., Array], *pictures: Image.Image) -> Image.Image:
    result = Image.new("RGB", pictures[0].size)
    top = 0
    for pixels in _bands(*pictures):
        result.paste(to_picture(function(*pixels)), (0, top))
        top += pixels[0].shape[2]
    return result
