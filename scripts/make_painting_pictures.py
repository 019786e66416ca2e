"""Make every picture of docs/painting.md by running the commands that the page shows.

    python scripts/make_painting_pictures.py
    python scripts/make_painting_pictures.py --network starry_night=runs/mine/starry_night.safetensors

A command whose network is not there is left out, and said so.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter
from rich.progress import track

from stylenet.errors import ModelFileError, one_sentence
from stylenet.image import open_picture, save_image
from stylenet.infer import main as infer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "painting.md"
PHOTO = ROOT / "stylenet" / "assets" / "photos" / "petra.jpg"
COMMAND = re.compile(r"^python -m stylenet\.infer (docs/painting/.*)$", re.MULTILINE)


def make_inputs(folder: Path) -> None:
    """The photo and its masks: the sky, which is the part that is bluer than red, and all else."""
    photo = open_picture(PHOTO)
    photo.thumbnail((480, 480))
    red, _, blue = photo.split()
    sky = (
        ImageChops.subtract(blue, red).point(lambda value: 255 if value > 20 else 0).filter(ImageFilter.MedianFilter(9))
    )
    save_image(photo, folder / "photo.jpg")
    save_image(sky, folder / "sky.png")
    save_image(ImageChops.invert(sky), folder / "rock.png")


@one_sentence
def main() -> None:
    """Remake them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE", help="use this file for NAME")
    networks = dict(pair.split("=", 1) for pair in parser.parse_args().network)
    make_inputs(PAGE.parent / "painting")
    commands = COMMAND.findall(PAGE.read_text(encoding="utf-8"))
    for command in track(commands, "painting"):
        arguments = shlex.split(command.replace("docs/painting/", f"{PAGE.parent}/painting/"))
        for index, argument in enumerate(arguments):
            if arguments[index - 1] in ("-s", "--style"):
                names = r"\b(" + "|".join(map(re.escape, networks)) + r")\b" if networks else r"(?!)"
                arguments[index] = re.sub(names, lambda name: networks[name[0]], argument)
        try:
            infer([*arguments, "--quality", "88", "--overwrite"])
        except (ModelFileError, SystemExit):
            print(f"left out: {command}")
    for picture in sorted((PAGE.parent / "painting").glob("*.jpg")):
        with Image.open(picture) as opened:
            print(f"{picture.name:24} {opened.width} x {opened.height}  {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
