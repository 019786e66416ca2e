"""Make the pictures of docs/classics.md that are missing, by running the commands that the page shows.

python scripts/make_classics_pictures.py
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from stylenet.errors import one_sentence
from stylenet.image import encode, open_picture, write_picture

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "classics.md"
COMMAND = re.compile(r"^python (-m stylenet\.\w+ .*output=(docs/classics/\S+\.jpg).*)$", re.MULTILINE)
MOST_BYTES = 100_000


@one_sentence
def main() -> None:
    """Make them, each small enough for a page."""
    for command, name in COMMAND.findall(PAGE.read_text(encoding="utf-8")):
        path = ROOT / name
        if not path.exists():
            print(f"python {command}")
            subprocess.run([sys.executable, *shlex.split(command)], cwd=ROOT, check=True)
            shrink(path)
        print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


def shrink(path: Path) -> None:
    """Write a JPEG again, at the highest quality at which it is small enough."""
    picture = open_picture(path)
    for quality in range(95, 40, -5):
        content = encode(picture, "JPEG", quality)
        if len(content) <= MOST_BYTES:
            break
    write_picture(content, path)


if __name__ == "__main__":
    main()
