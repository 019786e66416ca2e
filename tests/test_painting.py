"""Every control, by what it does to the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pictures import small_photo
from PIL import Image, ImageChops, ImageFilter

from stylenet import color
from stylenet.enlarge import enlarge
from stylenet.errors import ConfigError, PictureError
from stylenet.image import to_array, to_picture
from stylenet.painting import Controls, Layer, paint

PHOTO = small_photo(96, 64, "petra")
OTHER = small_photo(96, 64, "dog")


def negative(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """A brush whose result is known."""
    return [ImageChops.invert(picture) for picture in pictures]


def black(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    return [Image.new("RGB", picture.size) for picture in pictures]


def painted(mask: Image.Image | None = None, **controls: Any) -> np.ndarray:
    picture = paint([PHOTO], [Layer([(negative, 1.0)], mask)], Controls(**controls))[0]
    return np.asarray(picture, np.float64)


ORIGINAL = np.asarray(PHOTO, np.float64)


def test_strength() -> None:
    assert np.array_equal(painted(), 255 - ORIGINAL)
    assert np.array_equal(painted(strength=0), ORIGINAL)
    faint = painted(strength=0.25)
    plain = 0.75 * ORIGINAL + 0.25 * (255 - ORIGINAL)
    assert np.corrcoef(faint.ravel(), plain.ravel())[0, 1] > 0.98
    assert faint.mean() == pytest.approx(plain.mean(), abs=2)
    assert faint.std() == pytest.approx(ORIGINAL.std(), rel=0.05)  # as vivid as both, where the plain blend has half


def test_luminance_is_the_paintings_and_hue_the_photos() -> None:
    kept = color.keep_luminance_only(OTHER, PHOTO)
    light, expected = (color.luma(to_array(picture)) * 255 for picture in (kept, OTHER))
    assert np.abs(light - expected).max() < 1.5
    chroma = to_array(kept) - color.luma(to_array(kept))
    wanted = to_array(PHOTO) - color.luma(to_array(PHOTO))
    lengths = np.linalg.norm(chroma, axis=1) * np.linalg.norm(wanted, axis=1)
    angles = (chroma * wanted).sum(axis=1)[lengths > 0.003] / lengths[lengths > 0.003]
    assert np.percentile(angles, 2) > 0.98  # the same direction, whatever gave way in saturation


def test_luminance_keeps_a_photo_that_is_its_own_painting() -> None:
    assert np.abs(np.asarray(color.keep_luminance_only(PHOTO, PHOTO), np.float64) - ORIGINAL).max() <= 1


def test_matched_colors_have_the_photos_mean_and_covariance() -> None:
    soft = Image.blend(OTHER, Image.new("RGB", OTHER.size, "grey"), 0.5)
    calm = Image.blend(PHOTO, Image.new("RGB", PHOTO.size, "grey"), 0.5)  # nothing reaches black or white and is cut
    mean, covariance = color.color_statistics(color.match_colors(soft, calm))
    wanted_mean, wanted_covariance = color.color_statistics(calm)
    assert mean == pytest.approx(wanted_mean, abs=2 / 255)
    assert covariance == pytest.approx(wanted_covariance, abs=1e-3)


def test_color_statistics_are_numpys() -> None:
    flat = to_array(PHOTO).reshape(3, -1)
    mean, covariance = color.color_statistics(PHOTO)
    assert mean == pytest.approx(flat.mean(axis=1), abs=1e-6)
    assert covariance == pytest.approx(np.cov(flat, bias=True), abs=1e-6)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    small = PHOTO.resize((48, 32))
    once = [color.match_colors(OTHER, PHOTO), enlarge(small, small, PHOTO)]
    monkeypatch.setattr("stylenet.color.BAND_PIXELS", 96 * 5)
    monkeypatch.setattr("stylenet.enlarge.BAND_PIXELS", 96 * 5)
    in_bands = [color.match_colors(OTHER, PHOTO), enlarge(small, small, PHOTO)]
    for a, b in zip(once, in_bands, strict=True):
        assert np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max() <= 1


def test_a_mixture_is_as_vivid_as_its_parts() -> None:
    generator = np.random.default_rng(0)
    first, second = (to_picture(generator.uniform(0.2, 0.8, (1, 3, 64, 96)).astype(np.float32)) for _ in range(2))
    mixed = np.asarray(color.mix([first, second], [3.0, 1.0]), np.float64)
    wanted = 0.75 * np.asarray(first).std() + 0.25 * np.asarray(second).std()
    assert mixed.std() == pytest.approx(wanted, rel=0.03)  # a plain mean has 0.79 of it
    assert np.corrcoef(mixed.ravel(), np.asarray(first).ravel())[0, 1] > 0.9
    assert color.mix([PHOTO], [2.0]) is PHOTO
    assert np.abs(np.asarray(color.mix([PHOTO, PHOTO], [1, 5]), np.float64) - ORIGINAL).max() <= 1


def half_mask() -> Image.Image:
    mask = Image.new("L", (96, 64))
    mask.paste(255, (48, 0, 96, 64))
    return mask


def test_mask() -> None:
    result = painted(half_mask(), feather=0)
    assert np.array_equal(result[:, :48], ORIGINAL[:, :48])
    assert np.array_equal(result[:, 48:], 255 - ORIGINAL[:, 48:])


def test_mask_edges_are_soft_and_masks_are_resized() -> None:
    white = [np.full((64, 96, 3), 255.0)]
    layer = Layer([(black, 1.0)], half_mask().resize((48, 32)))
    picture = paint([Image.new("RGB", (96, 64), "white")], [layer], Controls(feather=8))[0]
    row = np.asarray(picture, np.float64)[32, :, 0]
    assert row[0] == white[0][0, 0, 0]
    assert row[-1] == 0
    assert np.all(np.diff(row) <= 0)
    assert np.abs(np.diff(row)).max() < 60  # no hard step
    assert ((row > 5) & (row < 250)).sum() >= 6


def test_styles_in_masks_of_their_own() -> None:
    right = half_mask()
    layers = [Layer([(negative, 1.0)], right), Layer([(black, 1.0)], ImageChops.invert(right))]
    result = np.asarray(paint([PHOTO], layers, Controls(feather=0))[0], np.float64)
    assert np.array_equal(result[:, 48:], 255 - ORIGINAL[:, 48:])
    assert result[:, :48].max() == 0


def test_overlapping_masks_share() -> None:
    full = Image.new("L", (96, 64), 255)
    layers = [Layer([(negative, 1.0)], full), Layer([(black, 1.0)], full)]
    result = np.asarray(paint([PHOTO], layers, Controls())[0], np.float64)
    assert np.abs(result - (255 - ORIGINAL) / 2).max() <= 1


def test_mask_of_other_proportions() -> None:
    with pytest.raises(PictureError, match="96 x 96 px and the photo 96 x 64 px"):
        painted(Image.new("L", (96, 96), 255))


@pytest.mark.parametrize("scale", [0.5, 2, 3.7])
def test_scale_paints_at_another_size_and_comes_back(scale: float) -> None:
    sizes = []

    def brush(pictures: Sequence[Image.Image]) -> list[Image.Image]:
        sizes.append(pictures[0].size)
        return list(pictures)

    result = np.asarray(paint([PHOTO], [Layer([(brush, 1.0)])], Controls(scale=scale))[0], np.float64)
    assert sizes == [(round(96 / scale), round(64 / scale))]
    assert result.shape == ORIGINAL.shape
    assert np.abs(result - ORIGINAL).mean() < 10


def test_enlarging_brings_contours_back() -> None:
    """A painting that follows its photo regains the sharpness that plain enlarging loses; one that is flat stays so."""
    small = PHOTO.resize((48, 32), Image.Resampling.LANCZOS)
    dark = small.point(lambda value: value * 0.6)
    expected = np.asarray(PHOTO.point(lambda value: value * 0.6), np.float64)
    plain = np.asarray(dark.resize((96, 64), Image.Resampling.BICUBIC), np.float64)
    sharp = enlarge(dark, small, PHOTO)
    assert np.abs(np.asarray(sharp) - expected).mean() < 0.7 * np.abs(plain - expected).mean()
    edges = [np.asarray(p.convert("L").filter(ImageFilter.FIND_EDGES), np.float64)[2:-2, 2:-2].mean() for p in
             (sharp, Image.fromarray(plain.astype(np.uint8)))]  # fmt: skip
    assert edges[0] > 1.15 * edges[1]
    flat = Image.new("RGB", (48, 32), (90, 120, 30))
    assert np.abs(np.asarray(enlarge(flat, small, PHOTO), np.int16) - (90, 120, 30)).max() <= 1


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        ({"strength": 1.5}, "strength must be from 0"),
        ({"strength": float("nan")}, "strength must be from 0"),
        ({"scale": 0}, "scale of the strokes"),
        ({"scale": float("inf")}, "scale of the strokes"),
        ({"feather": -1}, "feather must be 0 or more"),
        ({"preserve_color": "hue"}, "luminance or histogram, not by 'hue'"),
    ],
)
def test_controls_out_of_range(controls: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Controls(**controls)
