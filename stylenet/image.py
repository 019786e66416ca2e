"""Pictures in and out: the only place that opens or writes a picture file.

The convention at every public boundary: RGB, float32, in [0, 1], sRGB, as an array of shape (1, 3, H, W). Values
outside [0, 1] may occur between loading and saving; `to_picture` holds the one clamp. What else a file carries
(transparency, frames, profile, EXIF) is `photo.Photo`'s affair.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from stylenet.errors import PictureError
from stylenet.srgb import to_srgb

Array = npt.NDArray[np.float32]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"})
_UMASK = os.umask(0)  # can only be read by setting it, which is safe here, before there are threads
os.umask(_UMASK)
PERMISSIONS = 0o666 & ~_UMASK  # the usual ones; temporary files are made for their owner only
QUALITY = 95  # of formats that lose something; 1 to 100
MAX_MEGAPIXELS = 200.0  # a file that claims to be larger is taken for a decompression bomb


def load_image(path: str | Path, shorter_side: int | None = None) -> Array:
    """Read a picture file.

    The orientation that the camera noted is applied and an embedded colour profile is converted to sRGB;
    transparency is laid on white, since a network sees three channels.

    Args:
        path: a file of any format that Pillow reads.
        shorter_side: resize so that the shorter side has this many pixels. Default: as it is.

    Returns:
        (1, 3, H, W), RGB in [0, 1].

    Raises:
        PictureError: when there is no such file, or it is no readable picture.
    """
    picture = open_picture(path)
    if shorter_side is not None:
        picture = resize_picture(picture, shorter_side)
    return to_array(picture)


def open_picture(path: str | Path, near: int | None = None) -> Image.Image:
    """Read a picture file as a Pillow picture in sRGB; see `load_image`.

    Args:
        path: the file.
        near: a JPEG may be decoded smaller, by 2, 4 or 8, as long as its sides stay at least this many pixels. That
            is several times faster, for pictures that are going to be made small anyway. Default: full size.
    """
    with opened(path, near=near) as picture:
        profile = picture.info.get("icc_profile")
        upright(picture)
        if picture.has_transparency_data:
            rgba = picture.convert("RGBA")
            on_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return to_srgb(on_white.convert("RGB"), profile)
        return to_srgb(picture, profile)


@contextmanager
def opened(
    source: str | Path | bytes, max_megapixels: float = MAX_MEGAPIXELS, near: int | None = None
) -> Iterator[Image.Image]:
    """A picture file, opened and its first frame decoded, as Pillow has it.

    Args:
        source: a file, or the content of one.
        max_megapixels: a larger picture is refused before it is decoded.
        near: see `open_picture`.

    Raises:
        PictureError: from opening or anything done to the picture inside the `with`.
    """
    name = "The picture" if isinstance(source, bytes) else str(source)
    try:
        if not isinstance(source, bytes):
            _check_file(Path(source))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata, and on size, which is checked here
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                _check_size(name, picture.width * picture.height, max_megapixels)
                if near is not None:
                    picture.draft(None, (near, near))
                picture.load()
                yield picture
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{name} is not a picture that can be read (JPEG, PNG, WebP, TIFF, BMP ...).") from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        _check_size(name, int(pixels[0]) if pixels else 0, max_megapixels)
        raise PictureError(f"{name} is refused as a decompression bomb: {error}") from None
    except Exception as error:  # a decoder that is fed with garbage raises anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PictureError(f"{name} cannot be read as a picture: {reason}") from None


def _check_file(path: Path) -> None:
    if not path.exists():
        raise PictureError(f"There is no picture {path}; check the name and the folder.")
    if path.is_dir():
        raise PictureError(f"{path} is a folder where a picture file was expected.")


@contextmanager
def megapixels_allowed(limit: float) -> Iterator[None]:
    """Let Pillow itself open pictures of up to `limit` million pixels, in this whole process, for a while."""
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = int(limit * 1e6 / 2) + 1  # Pillow refuses at twice this number
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _check_size(name: str, pixels: int, max_megapixels: float) -> None:
    if pixels > max_megapixels * 1e6:
        raise PictureError(
            f"{name} claims {pixels / 1e6:,.0f} megapixels; more than {max_megapixels:g} are refused in case it is a "
            f"decompression bomb: if it is none, raise the limit with --max-megapixels {np.ceil(pixels / 1e6):.0f}."
        )


def upright(picture: Image.Image) -> None:
    """Apply the orientation that the camera noted, in place."""
    ImageOps.exif_transpose(picture, in_place=True)


def resize_picture(picture: Image.Image, shorter_side: int) -> Image.Image:
    """Resize so that the shorter side has `shorter_side` pixels, keeping the proportions."""
    if shorter_side < 1:
        raise PictureError(f"A picture's size must be at least 1 px, not {shorter_side}.")
    scale = shorter_side / min(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def to_array(picture: Image.Image) -> Array:
    """An RGB Pillow picture as (1, 3, H, W) in [0, 1]."""
    image = np.empty((1, 3, picture.height, picture.width), np.float32)
    for plane, channel in zip(image[0], picture.split(), strict=True):  # plane by plane: twice as fast as all at once
        np.divide(np.asarray(channel), 255, out=plane, dtype=np.float32)
    return image


def to_picture(image: Array) -> Image.Image:
    """(1, 3, H, W) in [0, 1] as a Pillow picture: clamped, and rounded to the nearest of 256 steps, not cut off."""
    channels = []
    for plane in image[0]:
        pixels = np.clip(plane, 0, 1) * 255
        channels.append(Image.fromarray(np.rint(pixels, out=pixels).astype(np.uint8)))
    return Image.merge("RGB", channels)


def save_image(image: Array | Image.Image, path: str | Path) -> None:
    """Write a picture; the name's ending chooses the format. A file is there whole or not at all.

    Args:
        image: (1, 3, H, W) in [0, 1], clamped here, or a Pillow picture.
        path: where to; missing folders are made.

    Raises:
        PictureError: for an unknown ending or a place that cannot be written.
    """
    picture = image if isinstance(image, Image.Image) else to_picture(image)
    write_picture(encode(picture, format_of(path)), path)


def format_of(path: str | Path) -> str:
    """Pillow's name of the format that a file name's ending stands for.

    Raises:
        PictureError: when it stands for none that can be written.
    """
    ending = Path(path).suffix.lower()
    Image.preinit()  # the usual formats; Pillow takes a while to import all the others
    file_format = Image.EXTENSION.get(ending) or Image.registered_extensions().get(ending, "")
    if file_format not in Image.SAVE:
        raise PictureError(f"{path} needs an ending that names a picture format, such as .jpg or .png.")
    return file_format


def encode(picture: Image.Image, file_format: str, quality: int = QUALITY, **options: Any) -> memoryview:
    """A picture as the content of a file.

    Args:
        picture: in a mode that the format takes.
        file_format: Pillow's name of it.
        quality: of formats that lose something, 1 to 100.
        options: more for Pillow's writer.

    Raises:
        PictureError: when the format cannot hold the picture, for instance because it is too large.
    """
    if file_format in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if file_format == "JPEG" and quality >= 90:
        options["subsampling"] = 0  # brush strokes differ in colour as much as in light
    buffer = io.BytesIO()
    try:
        picture.save(buffer, file_format, **options)
    except (OSError, ValueError, KeyError) as error:
        size = f"{picture.width} x {picture.height} px"
        raise PictureError(f"A picture of {size} cannot be written as {file_format}: {error}") from None
    return buffer.getbuffer()


def write_picture(content: bytes | memoryview, path: str | Path) -> None:
    """Write an encoded picture, whole or not at all; missing folders are made.

    Raises:
        PictureError: when the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe: a rename would replace it
            path.write_bytes(content)
        else:
            write_atomically(path.resolve(), content)  # a link stays a link
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror or error}") from None


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write under a temporary name beside `path`, then rename: a crash leaves the old file or the new one.

    Raises:
        OSError: when the place cannot be written.
    """
    # The temporary name is short, so that a name as long as the disk allows still fits.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".stylenet-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(PERMISSIONS)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def find_pictures(folder: str | Path) -> list[Path]:
    """All picture files below a folder, by their endings, sorted; hidden files and folders are left out."""
    root = Path(folder)
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
