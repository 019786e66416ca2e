"""Which picture goes where: inputs found, outputs named, nothing overwritten by accident. Reads no picture."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylenet.errors import PictureError
from stylenet.image import EXTENSIONS, find_pictures, format_of

STANDARD = "-"  # standard input or output
FALLBACK = ".png"  # for formats that can be read and not written
Existing = Literal["refuse", "skip", "overwrite"]


@dataclass(frozen=True)
class Job:
    """One picture to paint; `None` is standard input or output."""

    source: Path | None
    target: Path | None


@dataclass(frozen=True)
class _Found:
    source: Path | None
    root: Path | None = None  # the folder that it was found below


def plan(
    inputs: Sequence[str], output: str | None, style: str, suffix: str | None = None, existing: Existing = "refuse"
) -> tuple[list[Job], int]:
    """Decide what is painted and where the results go.

    Args:
        inputs: files, folders (searched recursively and mirrored), patterns such as `*.jpg`, and `-`.
        output: a file, a folder, `-`, or `None` for beside the photos, with the style in the name.
        style: what the names of results beside their photos get.
        suffix: of the results, such as `.png`; default: each photo's own where that can be written.
        existing: what becomes of a result that is there already.

    Returns:
        The jobs, and how many were skipped because their results exist.

    Raises:
        PictureError: for a pattern or folder without pictures, an output that is impossible or that exists.
    """
    found = [item for text in inputs for item in _find(text, output)]
    found = list(dict.fromkeys(found))
    if output == STANDARD or (output is None and found[0].source is None):
        if len(found) > 1:
            raise PictureError(f"Standard output takes one picture, not {len(found)}; name a folder with -o.")
        return [Job(found[0].source, None)], 0
    if output is not None and not _is_folder(output, inputs, len(found)):
        target = Path(output)
        if not suffix:
            format_of(target)
        jobs = [Job(found[0].source, target)]
    else:
        jobs = list(_named(found, Path(output) if output else None, style, suffix))
    return _check(jobs, existing)


def _find(text: str, output: str | None) -> list[_Found]:
    if text == STANDARD:
        return [_Found(None)]
    path = Path(text)
    if os.path.isdir(text):  # noqa: PTH112 (pathlib's raises for names that are too long)
        painted = Path(output).resolve() if output else None
        inside = painted is not None and painted != path.resolve()  # results of an earlier run are no photos
        pictures = [file for file in find_pictures(path) if not inside or painted not in file.resolve().parents]
        if not pictures:
            endings = ", ".join(sorted(EXTENSIONS))
            raise PictureError(f"The folder {path} holds no pictures ({endings}).")
        return [_Found(file, path) for file in pictures]
    if os.path.exists(text) or not glob.has_magic(text):  # noqa: PTH110
        return [_Found(path)]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 (absolute ones too)
    pictures = [match for match in matches if match.is_file()]
    if not pictures:
        raise PictureError(f"No file matches {text}; check the pattern and the folder.")
    return [_Found(picture) for picture in pictures]


def _is_folder(output: str, inputs: Sequence[str], count: int) -> bool:
    path = Path(output)
    several = count > 1 or any(os.path.isdir(text) for text in inputs)  # noqa: PTH112
    if several and path.exists() and not path.is_dir():
        raise PictureError(f"{path} is a file, and {count} pictures need a folder to go to; name one with -o.")
    return several or path.is_dir() or output.endswith(("/", os.sep)) or not path.suffix


def _named(found: Sequence[_Found], folder: Path | None, style: str, suffix: str | None) -> Iterator[Job]:
    taken: set[str] = set()
    for item in found:
        source = item.source or Path("painted.png")
        inside = source.relative_to(item.root) if item.root else Path(source.name)
        if folder:
            target = folder / inside
        elif item.root:
            root = item.root.resolve()
            target = root.with_name(f"{root.name}_{style}") / inside
        else:
            target = source.with_name(f"{source.stem}_{style}{source.suffix}")
        stem, ending = target.stem, suffix or _writable(target.suffix)
        target = target.with_name(stem + ending)
        number = 2
        while str(target).casefold() in taken:
            target = target.with_name(f"{stem}-{number}{ending}")
            number += 1
        taken.add(str(target).casefold())  # many disks take Photo.jpg and photo.jpg for the same name
        yield Job(item.source, target)


def _writable(suffix: str) -> str:
    return suffix if suffix.lower() in EXTENSIONS else FALLBACK


def _check(jobs: Sequence[Job], existing: Existing) -> tuple[list[Job], int]:
    there = [job for job in jobs if job.target and os.path.lexists(job.target)]
    for job in there:
        if (
            job.source
            and job.target
            and job.target.exists()
            and job.source.exists()
            and job.target.samefile(job.source)
        ):
            raise PictureError(f"The painting would replace its photo {job.source}; choose another place with -o.")
        if job.target and job.target.is_dir():
            raise PictureError(f"{job.target} is a folder where the painting should go; choose another name with -o.")
    files = [job for job in there if job.target and not (job.target.exists() and not job.target.is_file())]
    if existing == "skip":
        return [job for job in jobs if job not in files], len(files)
    if existing == "refuse" and files:
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        others = " or skip them with --skip-existing" if len(jobs) > 1 else ""
        raise PictureError(
            f"{files[0].target}{more} exists already; replace with --overwrite{others}, or name another place with -o."
        )
    return list(jobs), 0
