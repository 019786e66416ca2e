"""A picture file with all that it carries: frames, transparency, colour profile, EXIF, resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageCms, ImageSequence

from stylenet.color import bleed
from stylenet.errors import PictureError
from stylenet.image import MAX_MEGAPIXELS, QUALITY, encode, opened, upright
from stylenet.srgb import is_srgb, parse_profile, to_srgb

ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
TRANSPARENT = frozenset({"GIF", "WEBP", "PNG", "AVIF", "TIFF", "JPEG2000"})
PROFILED = frozenset({"JPEG", "WEBP", "PNG", "AVIF", "TIFF"})  # hold an ICC profile and EXIF
EXIF_LIMIT = 65_000  # JPEG keeps it in one segment of 64 KiB

# What describes the photo rather than the way its pixels are stored, which changes.
_KEPT_TAGS = frozenset(
    {0x10D, 0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x4746, 0x4749, 0x8298}  # names, camera, dates, rights
    | set(range(0x9C9B, 0x9CA0))  # title, comment, author, keywords, subject as Windows writes them
)


@dataclass(frozen=True)
class Photo:
    """A picture file's content.

    Attributes:
        frames: one, or the frames of an animation; RGB in sRGB, upright, opaque.
        alphas: each frame's transparency ("L"), or `None`.
        file_format: Pillow's name of the format it came in.
        durations: of the frames in milliseconds.
        loop: how often an animation repeats; 0 is for ever, `None` is once.
        exif: the descriptive part of its EXIF, without orientation and thumbnail.
        profile: its RGB colour profile, which the painting returns to; `None` is sRGB.
        dpi: its resolution in print.
    """

    frames: Sequence[Image.Image]
    alphas: Sequence[Image.Image | None]
    file_format: str
    durations: Sequence[int] = ()
    loop: int | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None

    def with_frames(self, frames: Sequence[Image.Image]) -> Photo:
        """The same file with other pictures in it, transparency resized to theirs."""
        alphas = [
            alpha if alpha is None or alpha.size == frame.size else alpha.resize(frame.size, Image.Resampling.LANCZOS)
            for frame, alpha in zip(frames, self.alphas, strict=True)
        ]
        return replace(self, frames=list(frames), alphas=alphas)


def read_photo(source: str | Path | bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Read a picture file whole.

    Args:
        source: a file, or the content of one.
        max_megapixels: a larger picture, or an animation of more pixels in all, is refused.

    Raises:
        PictureError: when it cannot be read.
    """
    with opened(source, max_megapixels) as picture:
        exif = _descriptive(picture.getexif())
        profile = picture.info.get("icc_profile")
        dpi = picture.info.get("dpi")
        loop = picture.info.get("loop")
        file_format = picture.format or ""
        count = getattr(picture, "n_frames", 1) if file_format in ANIMATED else 1
        if count * picture.width * picture.height > max_megapixels * 1e6:
            name = "The picture" if isinstance(source, bytes) else source
            raise PictureError(
                f"{name} has {count} frames of {picture.width} x {picture.height} px, more than {max_megapixels:g} "
                "megapixels in all; --max-megapixels raises the limit."
            )
        durations: list[int] = []
        if count == 1:
            frames = [_split(picture, profile)]
        else:
            frames = []
            for frame in ImageSequence.Iterator(picture):
                frames.append(_split(frame.copy(), profile))
                durations.append(round(frame.info.get("duration", 100)))
        return Photo(
            frames=[frame for frame, _ in frames],
            alphas=[alpha for _, alpha in frames],
            file_format=file_format,
            durations=durations,
            loop=loop,
            exif=exif,
            profile=profile if _is_foreign_rgb(profile) else None,
            dpi=dpi if _is_dpi(dpi) else None,
        )


def encode_photo(photo: Photo, file_format: str, quality: int = QUALITY) -> memoryview:
    """A photo as the content of a file, its colours back in its own profile where the format can say so.

    Raises:
        PictureError: when the format cannot hold it: an animation in JPEG, a size beyond the format's limit.
    """
    animated = len(photo.frames) > 1
    if animated and file_format not in ANIMATED:
        raise PictureError(
            f"{file_format} cannot hold an animation of {len(photo.frames)} frames; use .gif, .webp or .png."
        )
    profile = photo.profile if file_format in PROFILED else None
    frames = [
        _join(frame, alpha if file_format in TRANSPARENT else None, alpha, profile)
        for frame, alpha in zip(photo.frames, photo.alphas, strict=True)
    ]
    options: dict[str, Any] = {}
    if file_format in PROFILED:
        options |= {"icc_profile": profile} if profile else {}
        options |= _exif_option(photo)
    if photo.dpi and file_format in ("JPEG", "PNG", "TIFF"):
        options["dpi"] = photo.dpi
    if animated:
        options |= {"save_all": True, "append_images": frames[1:], "duration": list(photo.durations)}
        options |= {"loop": photo.loop} if photo.loop is not None else {}
        options |= {"disposal": 2} if file_format == "GIF" and any(photo.alphas) else {}
    return encode(frames[0], file_format, quality, **options)


def from_picture(picture: Image.Image) -> Photo:
    """A Pillow picture as a photo, transparency and all."""
    profile = picture.info.get("icc_profile")
    frame, alpha = _split(picture.copy(), profile)
    return Photo([frame], [alpha], picture.format or "", profile=profile if _is_foreign_rgb(profile) else None)


def _split(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, Image.Image | None]:
    upright(picture)
    if not picture.has_transparency_data:
        return to_srgb(picture, profile), None
    rgba = picture.convert("RGBA")
    return to_srgb(bleed(rgba), profile), rgba.getchannel("A")


def _join(
    frame: Image.Image, kept_alpha: Image.Image | None, alpha: Image.Image | None, profile: bytes | None
) -> Image.Image:
    if alpha is not None and kept_alpha is None:
        frame = Image.composite(frame, Image.new("RGB", frame.size, "white"), alpha)
    if profile:
        target = parse_profile(profile)
        frame = ImageCms.profileToProfile(frame, ImageCms.createProfile("sRGB"), target) or frame  # type: ignore[arg-type]
        frame.info.pop("icc_profile", None)
    if kept_alpha is None:
        return frame
    joined = frame.convert("RGBA")
    joined.putalpha(kept_alpha)
    return joined


def _is_foreign_rgb(profile: bytes | None) -> bool:
    parsed = parse_profile(profile) if profile else None
    if parsed is None or parsed.profile.xcolor_space.strip() != "RGB" or is_srgb(parsed):
        return False
    try:
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), parsed, "RGB", "RGB")
    except ImageCms.PyCMSError:  # one for scanners knows only the way in
        return False
    return True


def _is_dpi(dpi: object) -> bool:
    return isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(value) < 1e5 for value in dpi)


def _descriptive(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    kept.update({tag: value for tag, value in exif.items() if tag in _KEPT_TAGS})
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        entries = exif.get_ifd(directory)
        if entries:
            kept.get_ifd(directory).update(entries)
    return kept


def _exif_option(photo: Photo) -> dict[str, bytes]:
    if not len(photo.exif) and not any(photo.exif.get_ifd(ifd) for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)):
        return {}
    details = photo.exif.get_ifd(ExifTags.IFD.Exif)
    if details:
        details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = photo.frames[0].size
    try:
        content = photo.exif.tobytes()
        if len(content) > EXIF_LIMIT:
            details.pop(ExifTags.Base.MakerNote, None)
            content = photo.exif.tobytes()
    except Exception:  # damaged values that Pillow reads but cannot write
        return {}
    return {"exif": content} if len(content) <= EXIF_LIMIT else {}
