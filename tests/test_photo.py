"""Picture files of every kind: what comes in, and what goes out again with the painting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import deep_png, deep_tiff, rotated_profile, small_photo
from PIL import ExifTags, Image, ImageSequence, features

from stylenet.errors import PictureError
from stylenet.image import load_image, write_picture
from stylenet.photo import encode_photo, read_photo

RAMP = np.linspace(0, 65535, 40 * 30 * 3).reshape(30, 40, 3).astype(np.uint16)


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "bmp", "avif", "gif"])
def test_every_format_comes_in_and_goes_out(tmp_path: Path, ending: str) -> None:
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    photo = small_photo()
    photo.save(tmp_path / f"in.{ending}")
    read = read_photo(tmp_path / f"in.{ending}")
    assert read.frames[0].mode == "RGB"
    assert difference(read.frames[0], photo) < (12 if ending == "gif" else 6)
    write_picture(encode_photo(read, read.file_format), tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as written:
        assert written.format == read.file_format
        assert difference(written.convert("RGB"), read.frames[0]) < 6


def test_sixteen_bits(tmp_path: Path) -> None:
    deep_png(tmp_path / "deep.png", RAMP)
    deep_tiff(tmp_path / "deep.tif", RAMP)
    Image.fromarray(RAMP[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(RAMP[..., 0]).save(tmp_path / "grey.tif")
    Image.fromarray(RAMP[..., 0].astype(np.float32) / 65535).save(tmp_path / "float.tif")
    Image.fromarray(RAMP[..., 0].astype(np.int32)).save(tmp_path / "int.tif")
    for name in ("deep.png", "deep.tif"):
        frame = np.asarray(read_photo(tmp_path / name).frames[0], np.float64)
        assert np.abs(frame - RAMP / 257).max() <= 1, name
    for name in ("grey.png", "grey.tif", "float.tif", "int.tif"):
        frame = np.asarray(read_photo(tmp_path / name).frames[0], np.float64)
        assert np.abs(frame - RAMP[..., :1] / 257).max() <= 1, name


def test_grey_black_and_white_cmyk_lab_and_palettes(tmp_path: Path) -> None:
    photo = small_photo()
    grey = photo.convert("L").convert("RGB")
    photo.convert("L").save(tmp_path / "grey.jpg")
    photo.convert("1").save(tmp_path / "one_bit.png")
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    photo.quantize(64).save(tmp_path / "palette.png")
    assert difference(read_photo(tmp_path / "grey.jpg").frames[0], grey) < 4
    one_bit = np.asarray(read_photo(tmp_path / "one_bit.png").frames[0])
    assert set(np.unique(one_bit)) == {0, 255}
    assert difference(read_photo(tmp_path / "cmyk.jpg").frames[0], photo) < 6
    assert difference(read_photo(tmp_path / "palette.png").frames[0], photo) < 8
    lab = Image.new("LAB", (30, 30), (136, 208, 195))  # CIE L 53, a 80, b 67: pure red
    lab.save(tmp_path / "lab.tif")
    red = np.asarray(read_photo(tmp_path / "lab.tif").frames[0])[15, 15]
    assert red[0] > 240
    assert red[1] < 30
    assert red[2] < 30


def with_alpha() -> Image.Image:
    """A photo that fades out to the right, black where it is invisible, as editors leave it."""
    rgba = small_photo().convert("RGBA")
    alpha = np.clip(np.linspace(400, -150, 48), 0, 255).astype(np.uint8)
    pixels = np.array(rgba)
    pixels[..., 3] = alpha
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_transparency_is_carried_over(tmp_path: Path, ending: str) -> None:
    rgba = with_alpha()
    rgba.save(tmp_path / f"in.{ending}", lossless=True)
    photo = read_photo(tmp_path / f"in.{ending}")
    write_picture(encode_photo(photo, photo.file_format), tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as written:
        assert written.mode == "RGBA"
        assert difference(written.getchannel("A"), rgba.getchannel("A")) < 1


def test_what_is_below_transparency_does_not_reach_the_network(tmp_path: Path) -> None:
    with_alpha().save(tmp_path / "in.png")
    frame = np.asarray(read_photo(tmp_path / "in.png").frames[0], np.float64)
    invisible, visible = frame[:, 44:], frame[:, :22]
    assert invisible.min() > 20  # the black is gone
    assert abs(invisible.mean() - visible.mean()) < 40


def test_palette_with_transparency_and_grey_with_alpha(tmp_path: Path) -> None:
    palette = small_photo().quantize(16)
    palette.save(tmp_path / "palette.png", transparency=3)
    alpha = read_photo(tmp_path / "palette.png").alphas[0]
    assert alpha is not None
    assert np.array_equal(np.asarray(alpha) == 0, np.asarray(palette) == 3)
    with_alpha().convert("LA").save(tmp_path / "la.png")
    alpha = read_photo(tmp_path / "la.png").alphas[0]
    assert alpha is not None
    assert difference(alpha, with_alpha().getchannel("A")) == 0


def test_transparency_goes_on_white_where_the_format_has_none(tmp_path: Path) -> None:
    with_alpha().save(tmp_path / "in.png")
    write_picture(encode_photo(read_photo(tmp_path / "in.png"), "JPEG"), tmp_path / "out.jpg")
    assert load_image(tmp_path / "out.jpg")[..., 45:].min() > 0.97


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_other_exif_kept(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Kamera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 200
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 9999
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    small_photo().save(tmp_path / "in.jpg", exif=exif, quality=95)
    photo = read_photo(tmp_path / "in.jpg")
    assert photo.frames[0].size == ((48, 36) if orientation < 5 else (36, 48))
    write_picture(encode_photo(photo, "JPEG"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as written:
        kept = written.getexif()
        assert kept.get(ExifTags.Base.Orientation, 1) == 1
        assert kept[ExifTags.Base.Make] == "Kamera"
        assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 200
        assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == written.width
        assert kept.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    upright = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    if orientation in upright:
        turn = upright[orientation]
        expected = small_photo() if turn is None else small_photo().transpose(turn)
        assert difference(photo.frames[0], expected) < 4


def test_tiff_structure_does_not_leak_into_exif(tmp_path: Path) -> None:
    small_photo().save(tmp_path / "in.tif", tiffinfo={ExifTags.Base.Artist: "Anna"}, compression="tiff_lzw")
    write_picture(encode_photo(read_photo(tmp_path / "in.tif"), "JPEG"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as written:
        tags = {tag for tag in written.getexif() if tag != ExifTags.IFD.Exif}  # that one is an empty directory
        assert tags == {ExifTags.Base.Artist}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_colors_are_managed(tmp_path: Path, ending: str) -> None:
    profile = rotated_profile()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / f"in.{ending}", icc_profile=profile, quality=95)
    photo = read_photo(tmp_path / f"in.{ending}")
    seen = np.asarray(photo.frames[0])[16, 16]
    assert seen[1] > 240  # its red is sRGB's green
    assert seen[0] < 30
    write_picture(encode_photo(photo, photo.file_format), tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as written:
        assert written.info["icc_profile"] == profile
        stored = np.asarray(written.convert("RGB"))[16, 16]
        assert stored[0] > 240  # the same colour, in the profile's own numbers
        assert stored[1] < 30
    write_picture(encode_photo(photo, "BMP"), tmp_path / "out.bmp")  # which cannot say what its colours mean
    assert load_image(tmp_path / "out.bmp")[0, 1].min() > 0.94


def test_broken_and_mismatched_profiles_are_ignored(tmp_path: Path) -> None:
    photo = small_photo()
    photo.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    photo.convert("L").save(tmp_path / "grey.png", icc_profile=rotated_profile())
    assert difference(read_photo(tmp_path / "broken.png").frames[0], photo) == 0
    assert difference(read_photo(tmp_path / "grey.png").frames[0], photo.convert("L").convert("RGB")) == 0


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animations_keep_frames_times_and_loop(tmp_path: Path, ending: str) -> None:
    frames = [small_photo(name=name) for name in ("cat", "dog", "petra")]
    path = tmp_path / f"in.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=0)
    photo = read_photo(tmp_path / f"in.{ending}")
    assert len(photo.frames) == 3
    assert all(difference(a, b) < 12 for a, b in zip(photo.frames, frames, strict=True))
    write_picture(encode_photo(photo, photo.file_format), tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as written:
        copies = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(written)]
        assert [duration for _, duration in copies] == [100, 200, 300]
        assert written.info["loop"] == 0
        assert all(difference(a, b) < 12 for (a, _), b in zip(copies, photo.frames, strict=True))
    with pytest.raises(PictureError, match=r"animation of 3 frames; use \.gif"):
        encode_photo(photo, "JPEG")


def test_resolution_in_print_is_kept(tmp_path: Path) -> None:
    small_photo().save(tmp_path / "in.jpg", dpi=(300, 300))
    write_picture(encode_photo(read_photo(tmp_path / "in.jpg"), "PNG"), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
