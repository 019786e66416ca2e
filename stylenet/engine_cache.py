"""Compiled engines in the user's cache folder, so that the next start need not compile them again.

Whatever goes wrong here (no such folder, no permission, a full disk, a damaged file) costs the time of compiling and
nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stylenet.image import write_atomically

ENDING = ".engine"
CHECK_BYTES = 32  # at a file's end: the SHA-256 of all before
MOST_KEPT = 16  # engines, of some 7 MB each; the one that was used longest ago goes first


def folder() -> Path:
    """Where the engines are."""
    from platformdirs import user_cache_path

    return user_cache_path("stylenet", appauthor=False)


def key(parts: Iterable[bytes | memoryview]) -> str:
    """A name for what an engine is made from: the same for the same parts only."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def find(name: str) -> bytes | None:
    """The engine that was kept under this name, if it is there and whole."""
    path = folder() / f"{name}{ENDING}"
    try:
        content = path.read_bytes()
        path.touch()  # used just now
    except OSError:
        return None
    blob = content[:-CHECK_BYTES]
    return blob if content[-CHECK_BYTES:] == _check(blob) else None


def keep(name: str, blob: bytes) -> None:
    """Keep an engine, and no more than `MOST_KEPT` in all."""
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        write_atomically(folder() / f"{name}{ENDING}", blob + _check(blob))
        newest = sorted(folder().glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[MOST_KEPT:]:
            path.unlink(missing_ok=True)


def _check(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest()
