"""Make docs/gallery.md and its pictures: every bundled network on six photographs that training never saw.

    python scripts/make_gallery.py
    python scripts/make_gallery.py great_wave      one picture again; the page always tells of all of them

Each picture shows the painting, and beside it six painted photographs, each with its photograph in a corner.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageOps
from rich.progress import track

from stylenet.checkpoint import BUNDLED, EXTENSION, read_card
from stylenet.data import SAMPLE
from stylenet.errors import one_sentence
from stylenet.image import encode, open_picture, write_picture
from stylenet.styles import PAINTINGS, find_painting
from stylenet.stylizer import Stylizer

FOLDER = Path(__file__).parents[1] / "docs"
PHOTOS = ("neuschwanstein_castle", "cat", "machu_picchu", "gatewayof_india", "eiffel_tower", "mount_rushmore")
CELL = 360  # px of a painted square's side: as painted, so that strokes are seen as they are
INSET = 90  # px of the photograph in its corner
GAP = 6
QUALITY = 80
HEAD = """\
# Gallery

Every bundled network on six photographs that its training did not see: a building, a cat indoors, a landscape, a night,
a flat sky and faces. Nothing is tuned per picture. `python scripts/make_gallery.py` makes this page;
`python -m stylenet.infer --sheet photo.jpg` makes one like it of a photo of yours, and
`python -m stylenet.infer photo.jpg --style NAME` paints with one of them. The slow method, which paints
better in minutes instead of a second, [has a page of its own](classics.md).
"""


def cell(stylizer: Stylizer, name: str) -> Image.Image:
    """A painted square with its photograph in the lower left corner."""
    photo = ImageOps.fit(open_picture(SAMPLE / f"{name}.jpg"), (CELL, CELL), Image.Resampling.LANCZOS)
    painted = stylizer(photo)
    inset = ImageOps.expand(photo.resize((INSET, INSET), Image.Resampling.LANCZOS), GAP // 2, "white")
    painted.paste(inset, (0, CELL - inset.height))
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
    return picture


def titles() -> dict[str, str]:
    """Name of the painting's file -> what it is, from the paintings' table of sources."""
    rows = [line.strip("| ").split(" | ") for line in (PAINTINGS / "SOURCES.md").read_text("utf-8").splitlines()]
    return {row[0]: f"{row[2]}, {row[1]}, {row[3]}" for row in rows if row[0].endswith(".jpg")}


def section(name: str) -> str:
    """What the page says of one network."""
    path = BUNDLED / f"{name}{EXTENSION}"
    card = read_card(path)
    painting = find_painting(card.training["style"]["image"])
    widths = "-".join(map(str, card.network["widths"]))
    facts = (
        f"{path.stat().st_size / 1e6:.1f} MB (widths {widths}), {card.steps_learned:,} steps, "
        f"held-out loss {card.losses['held_out/total']:.2f}"
    )
    equals = [(key.split(", ")[1], value) for key, value in card.evaluation.items() if key.startswith("iterations")]
    if equals:
        numbers = " and ".join(f"{value:.0f} at {size}" for size, value in equals)
        facts += f". [Iterations](evaluation.md) of Gatys' method that it equals: {numbers}"
    return f"\n## {name}\n\n{titles()[painting.name]}. {facts}.\n\n![{name}](gallery/{name}.jpg)\n"


@one_sentence
def main() -> None:
    """Make the pictures and the page, and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of bundled networks (default: all)")
    bundled = sorted(path.stem for path in BUNDLED.glob(f"*{EXTENSION}"))
    for name in track(parser.parse_args().names or bundled, "painting"):
        stylizer = Stylizer.load(BUNDLED / f"{name}{EXTENSION}")
        picture = sheet(stylizer, open_picture(find_painting(stylizer.card.training["style"]["image"])))
        write_picture(encode(picture, "JPEG", QUALITY), FOLDER / "gallery" / f"{name}.jpg")
    (FOLDER / "gallery.md").write_text(HEAD + "".join(map(section, bundled)), encoding="utf-8")
    print(FOLDER / "gallery.md")


if __name__ == "__main__":
    main()
