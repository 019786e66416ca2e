"""Pictures of every mode and colour profile as RGB in sRGB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def to_srgb(picture: Image.Image, profile: bytes | None = None) -> Image.Image:
    """An opaque Pillow picture of any mode as RGB in sRGB.

    Args:
        picture: without transparency; 16-bit, 32-bit and floating-point greys are scaled to 8 bits.
        profile: the ICC profile of its colours; one that is broken or of another kind of colours is ignored.
    """
    if picture.mode.startswith("I") or picture.mode == "F":  # Pillow's own conversion would clip these at 255
        picture = _deep_grey_to_8_bits(picture)
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGB")
    source: Any = None
    if picture.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif profile and picture.mode in ("RGB", "CMYK", "L"):
        source = parse_profile(profile)
    if source is not None and not is_srgb(source):
        try:
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a mismatched profile: the picture itself is fine
        if converted is not None:
            return converted
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def parse_profile(profile: bytes) -> ImageCms.ImageCmsProfile | None:
    """An ICC profile, or none when it is broken."""
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError):
        return None


def is_srgb(profile: Any) -> bool:
    """Whether a profile calls itself sRGB, so that converting would only add rounding."""
    description = getattr(getattr(profile, "profile", None), "profile_description", None)
    return isinstance(description, str) and "sRGB" in description


def _deep_grey_to_8_bits(picture: Image.Image) -> Image.Image:
    grey = np.nan_to_num(np.asarray(picture).astype(np.float32), posinf=0, neginf=0)
    highest = float(grey.max(initial=0))
    if picture.mode == "F":
        grey *= 255 if highest <= 1 else 1
    else:
        grey /= 257 if highest <= 65535 else highest / 255
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
