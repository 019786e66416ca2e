"""Make the README's picture: a painting, and six held-out photographs that its network has painted.

    python scripts/make_readme_picture.py --style starry_night

Each painted picture carries its photograph in a corner.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageOps

from stylenet.data import SAMPLE
from stylenet.errors import one_sentence
from stylenet.image import encode, open_picture, write_picture
from stylenet.styles import find_painting
from stylenet.stylizer import Stylizer

PHOTOS = ("neuschwanstein_castle", "dog", "machu_picchu", "gatewayof_india", "mount_rushmore", "owl")  # held out
CELL = 400  # px of a painted square's side
INSET = 120  # px of the photograph in its corner
GAP = 8
WIDTH = 1800  # px of the finished picture
QUALITY = 85


def cell(stylizer: Stylizer, name: str) -> Image.Image:
    """A painted square with its photograph in the lower left corner."""
    photo = ImageOps.fit(open_picture(SAMPLE / f"{name}.jpg"), (CELL, CELL), Image.Resampling.LANCZOS)
    painted = stylizer(photo)
    inset = ImageOps.expand(photo.resize((INSET, INSET), Image.Resampling.LANCZOS), GAP // 2, "white")
    painted.paste(inset, (GAP, CELL - inset.height - GAP))
    return painted


def sheet(stylizer: Stylizer, painting: Image.Image) -> Image.Image:
    """The painting on the left, the cells in two rows beside it."""
    height = 2 * CELL + GAP
    left = painting.resize((round(painting.width * height / painting.height), height), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (left.width + 3 * (CELL + GAP), height), "white")
    picture.paste(left, (0, 0))
    for place, name in enumerate(PHOTOS):
        row, column = divmod(place, 3)
        picture.paste(cell(stylizer, name), (left.width + GAP + column * (CELL + GAP), row * (CELL + GAP)))
    return picture.resize((WIDTH, round(height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


@one_sentence
def main() -> None:
    """Make it and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default="starry_night", help="a bundled style (default: %(default)s)")
    parser.add_argument("--network", help="its model file; default: the newest trained or bundled one of that name")
    parser.add_argument("-o", "--output", type=Path, help="default: docs/STYLE.jpg")
    options = parser.parse_args()
    output = options.output or Path("docs") / f"{options.style}.jpg"
    stylizer = Stylizer.load(options.network or options.style)
    picture = sheet(stylizer, open_picture(find_painting(options.style)))
    write_picture(encode(picture, "JPEG", QUALITY), output)
    print(output)


if __name__ == "__main__":
    main()
