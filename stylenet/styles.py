"""The bundled paintings, and finding any painting by name or path."""

from __future__ import annotations

import difflib
from pathlib import Path

from stylenet.errors import PictureError

PAINTINGS = Path(__file__).parent / "assets" / "styles"
"""The bundled paintings; see SOURCES.md there."""


def find_painting(path: str | Path) -> Path:
    """The file behind `path`: as it stands, or among the bundled paintings, with or without its ending.

    Raises:
        PictureError: when there is neither; the message lists the bundled ones and suggests the nearest.
    """
    if Path(path).is_file():
        return Path(path)
    bundled = {painting.stem: painting for painting in sorted(PAINTINGS.glob("*.jpg"))}
    name = str(path).removesuffix(".jpg")
    if name in bundled:
        return bundled[name]
    near = difflib.get_close_matches(name, bundled, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise PictureError(f"There is no painting {path}.{hint} Give a file, or a bundled one: {', '.join(bundled)}.")
