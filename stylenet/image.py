"""Pictures in and out: the only place that opens or writes a picture file.

The convention at every public boundary: sRGB, float32, in [0, 1], as an array of shape (1, 3, H, W). Values outside
[0, 1] may occur between loading and saving; `save_image` holds the one clamp.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from stylenet.errors import PictureError

Array = npt.NDArray[np.float32]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
JPEG_QUALITY = 95


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
    path = Path(path)
    if not path.exists():
        raise PictureError(f"There is no picture {path}; check the name and the folder.")
    if path.is_dir():
        raise PictureError(f"{path} is a folder where a picture file was expected.")
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error, twice as large, still refuses
            if near is not None:
                opened.draft(None, (near, near))
            opened.load()
            return _to_srgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture that can be read (JPEG, PNG, WebP, TIFF, BMP ...).") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path} cannot be read as a picture: {error}") from None


def _to_srgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = np.asarray(picture).astype(np.float32) / 257
        picture = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            converted = ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a broken or mismatched profile: the picture itself is fine
        if converted is not None:
            return converted
    return picture.convert("RGB")


def resize_picture(picture: Image.Image, shorter_side: int) -> Image.Image:
    """Resize so that the shorter side has `shorter_side` pixels, keeping the proportions."""
    if shorter_side < 1:
        raise PictureError(f"A picture's size must be at least 1 px, not {shorter_side}.")
    scale = shorter_side / min(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def to_array(picture: Image.Image) -> Array:
    """An RGB Pillow picture as (1, 3, H, W) in [0, 1]."""
    pixels = np.asarray(picture, dtype=np.float32) / 255  # (H, W, 3)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def to_picture(image: Array) -> Image.Image:
    """(1, 3, H, W) in [0, 1] as a Pillow picture: clamped, and rounded to the nearest of 256 steps, not cut off."""
    pixels = np.clip(image[0].transpose(1, 2, 0), 0, 1) * 255  # (H, W, 3)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def save_image(image: Array | Image.Image, path: str | Path) -> None:
    """Write a picture; the name's ending chooses the format. A file is there whole or not at all.

    Args:
        image: (1, 3, H, W) in [0, 1], clamped here, or a Pillow picture.
        path: where to; missing folders are made.

    Raises:
        PictureError: for an unknown ending or a place that cannot be written.
    """
    path = Path(path)
    picture = image if isinstance(image, Image.Image) else to_picture(image)
    extensions = Image.registered_extensions()
    if path.suffix.lower() not in extensions or extensions[path.suffix.lower()] not in Image.SAVE:
        raise PictureError(f"{path} needs an ending that names a picture format, such as .jpg or .png.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode(picture, extensions[path.suffix.lower()]))
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror or error}") from None


def encode(picture: Image.Image, file_format: str) -> bytes:
    """A picture as the bytes of a file, in one of Pillow's formats."""
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if file_format in ("JPEG", "WEBP") else {}
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name beside `path`, then rename: a crash leaves the old file or the new one.

    Raises:
        OSError: when the place cannot be written.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)  # mkstemp makes files for their owner only; a picture gets the usual permissions
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
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
