"""Reading and writing picture files, above all those that are not what they seem."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import small_photo
from PIL import Image, features

from stylenet.errors import PictureError
from stylenet.image import find_pictures, load_image, open_picture, opened, save_image, to_array, to_picture


def test_arrays_and_pictures_hold_the_same(tmp_path: Path) -> None:
    photo = small_photo()
    array = to_array(photo)
    assert array.shape == (1, 3, 36, 48)
    assert array.dtype == np.float32
    assert np.array_equal(np.asarray(to_picture(array)), np.asarray(photo))
    save_image(array, tmp_path / "deep" / "a.png")
    assert np.array_equal(load_image(tmp_path / "deep" / "a.png"), array)


def test_saving_clamps_and_rounds(tmp_path: Path) -> None:
    image = np.array([-1.0, 0.4999 / 255, 0.5001 / 255, 2.0], np.float32).reshape(1, 1, 2, 2).repeat(3, axis=1)
    save_image(image, tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png")[0, 0] * 255).round().ravel().tolist() == [0, 0, 1, 255]


def test_shorter_side(tmp_path: Path) -> None:
    small_photo(60, 30).save(tmp_path / "wide.png")
    assert load_image(tmp_path / "wide.png", 10).shape == (1, 3, 10, 20)
    with pytest.raises(PictureError, match="at least 1 px"):
        load_image(tmp_path / "wide.png", 0)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").min() == 1


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "bmp", "gif", "avif"])
def test_truncated_files(tmp_path: Path, ending: str) -> None:
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    small_photo(160, 120).save(tmp_path / f"whole.{ending}")
    content = (tmp_path / f"whole.{ending}").read_bytes()
    for length in (len(content) // 3, 40, 7):
        (tmp_path / f"cut.{ending}").write_bytes(content[:length])
        with pytest.raises(PictureError, match=r"cut\.") as raised:
            open_picture(tmp_path / f"cut.{ending}")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "gif"])
def test_damaged_files_never_crash(tmp_path: Path, ending: str) -> None:
    small_photo().save(tmp_path / f"whole.{ending}")
    content = np.frombuffer((tmp_path / f"whole.{ending}").read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(30):
        damaged = content.copy()
        places = generator.integers(0, len(content), 12)
        damaged[places] = generator.integers(0, 256, 12)
        (tmp_path / f"damaged.{ending}").write_bytes(damaged.tobytes())
        try:
            assert open_picture(tmp_path / f"damaged.{ending}").mode == "RGB"
        except PictureError as error:
            assert "damaged." in str(error)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("I am a letter.")
    (tmp_path / "folder.jpg").mkdir()
    for name, words in [
        ("empty.jpg", "not a picture"),
        ("text.jpg", "not a picture"),
        ("folder.jpg", "is a folder"),
        ("missing.jpg", "no picture"),
        ("x" * 300 + ".jpg", "name too long"),
    ]:
        with pytest.raises(PictureError, match=f"(?i){words}"):
            open_picture(tmp_path / name)


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    small_photo().save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(tmp_path / "photo.jpg")
    assert np.array_equal(np.asarray(open_picture(tmp_path / "photo.jpg")), np.asarray(small_photo()))


def test_decompression_bomb(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)  # three gigapixels in a hundred bytes
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(PictureError, match=r"bomb\.png.*3,000 megapixels.*--max-megapixels 3000"):
        open_picture(tmp_path / "bomb.png")


def test_the_limit_of_size_can_be_set(tmp_path: Path) -> None:
    small_photo(100, 50).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="--max-megapixels"), opened(tmp_path / "a.png", max_megapixels=0.004):
        pass


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "a.png", tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(PictureError, match="cannot be written"):
            save_image(small_photo(), target)
    for target in (tmp_path / "a", tmp_path / "a.xyz"):
        with pytest.raises(PictureError, match="ending that names a picture format"):
            save_image(small_photo(), target)
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_full_disk(tmp_path: Path) -> None:
    (tmp_path / "full.png").symlink_to("/dev/full")
    with pytest.raises(PictureError, match="No space left"):
        save_image(small_photo(), tmp_path / "full.png")
    assert not Path("/dev/full").is_file()  # still the device


def test_sizes_beyond_a_format(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="20000 x 16 px cannot be written as WEBP"):
        save_image(Image.new("RGB", (20_000, 16)), tmp_path / "wide.webp")


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "a.png")
    save_image(small_photo(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real" / "a.png").is_file()


def test_finding_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", ".hidden/d.png", "a/.e.png", "f.txt", "g.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)] == ["a/c.png", "b.JPG", "g.gif"]
