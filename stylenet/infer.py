"""Paint pictures from the command line: `python -m stylenet.infer photo.jpg --style starry_night`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stylenet.bar import Bar
from stylenet.errors import ConfigError, PictureError, one_sentence

if TYPE_CHECKING:  # --help takes none of these
    from PIL import Image

    from stylenet.batch import Result, Settings
    from stylenet.jobs import Job
    from stylenet.painting import Layer

SHEET_SIZE = 320  # px of the shorter side of each painting on a sheet
FORMATS = ("jpg", "png", "webp", "avif", "tiff", "bmp", "gif")

EXAMPLES = """\
examples:
  which networks there are; the same in pictures: one photo in every style, in photo_styles.jpg
    python -m stylenet.infer --list
    python -m stylenet.infer --sheet photo.jpg
  a photo; the result is photo_starry_night.jpg beside it
    python -m stylenet.infer photo.jpg --style starry_night
  under a name of your choice, or every picture of a folder, sub-folders too, into another
    python -m stylenet.infer photo.jpg --style starry_night -o painted.png
    python -m stylenet.infer holiday/ --style starry_night -o painted/
  a network by its file; a smaller result
    python -m stylenet.infer photo.jpg --style runs/mine/my_style.safetensors --size 720
  half painted; in the photo's own colours; with strokes twice as large
    python -m stylenet.infer photo.jpg --style starry_night --strength 0.5
    python -m stylenet.infer photo.jpg --style starry_night --preserve-color luminance
    python -m stylenet.infer photo.jpg --style starry_night --scale 2
  two styles mixed; two styles, each where its mask is white
    python -m stylenet.infer photo.jpg --style starry_night:0.6,great_wave:0.4
    python -m stylenet.infer photo.jpg --style starry_night --mask sky.png --style great_wave --mask sea.png
  in a pipe
    curl -s https://example.org/photo.jpg | python -m stylenet.infer - --style starry_night > painted.jpg
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m stylenet.infer",
        description="Paint photos in the style that a network has learned, in a single pass.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="PHOTO", help="pictures, folders, patterns like '*.jpg', or - for standard input")
    add("-s", "--style", action="append", metavar="NAME", help="trained or bundled network, by name or .safetensors "
        "file; NAME:0.6,NAME:0.4 mixes; once per mask to use several")  # fmt: skip
    add("-o", "--output", metavar="PATH", help="file, folder, or - for standard output; default: beside the photo")
    add("--list", action="store_true", help="show the networks that --style finds by name, and stop")
    add("--sheet", metavar="PHOTO", help="paint one photo with each of them, on one sheet, and stop")

    files = parser.add_argument_group("files").add_argument
    files("--format", choices=FORMATS, help="of the results; default: by the output's name, or as each photo has it")
    files("--quality", type=int, default=95, metavar="1-100", help="of JPEG, WebP and AVIF (default: %(default)s)")
    files("--size", type=int, metavar="PX", help="resize so that the shorter side has this many pixels, then paint")
    files("--overwrite", action="store_true", help="replace results that exist")
    files("--skip-existing", action="store_true", help="leave out photos whose results exist, to go on after a stop")
    files(
        "--max-megapixels", type=float, default=200, metavar="N", help="refuse larger pictures (default: %(default)s)"
    )

    control = parser.add_argument_group("control").add_argument
    control("--strength", type=float, default=1.0, metavar="0-1", help="from the photo to the painting (default: 1)")
    control("--preserve-color", choices=("luminance", "histogram"), help="luminance: paint in light and dark only, "
            "colours stay in place; histogram: the painting in the photo's palette")  # fmt: skip
    control(
        "--scale", type=float, default=1.0, metavar="X", help="stroke size: 2 twice as large, 0.5 half (default: 1)"
    )
    control("--mask", action="append", metavar="FILE", help="paint where this picture is white; once per --style")
    control("--feather", type=float, metavar="PX", help="soften a mask's edges (default: 1%% of the shorter side)")

    machine = parser.add_argument_group("machine").add_argument
    machine("--tile", action=argparse.BooleanOptionalAction, help="paint in tiles, exactly as whole, in little memory; "
            "default: when a picture would not fit")  # fmt: skip
    machine("--device", metavar="NAME", help="cpu, cuda, cuda:1 ...; default: a GPU where there is one")
    return parser


@one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    """Paint what the command line asks for; exit status 1 when anything failed, 130 when interrupted."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.list:
        _print_networks()
        return
    if options.sheet:
        _make_sheet(options)
        return
    if not options.inputs:
        parser.error("name a photo, a folder, or - for standard input (--help shows examples)")
    if not options.style:
        parser.error("choose a network with --style NAME (--list shows them)")
    try:
        status = _paint(options)
    except KeyboardInterrupt:
        print("stylenet: stopped; what was painted is kept.", file=sys.stderr)
        status = 130
    if status:
        raise SystemExit(status)


def _paint(options: argparse.Namespace) -> int:
    from stylenet import batch, jobs
    from stylenet.image import megapixels_allowed

    settings = _settings(options)
    styles = [parse_style(text) for text in options.style]
    masks = _check_masks(options.mask or [], len(styles))
    suffix = f".{options.format}" if options.format else None
    existing: jobs.Existing = "overwrite" if options.overwrite else "skip" if options.skip_existing else "refuse"
    name = "+".join(Path(network).stem for style in styles for network, _ in style)
    work, skipped = jobs.plan(options.inputs, options.output, name, suffix, existing)
    if skipped:
        print(f"{skipped} results exist already and were left as they are.", file=sys.stderr)
    if not work:
        return 0

    with megapixels_allowed(settings.max_megapixels), Bar(len(work)) as bar:
        layers, on_gpu = _load(styles, masks, options, bar.part)
        if on_gpu:
            settings = replace(settings, pixels_together=2**22)
        result = batch.run(work, layers, settings, bar.advance)
    return _report(work, result, name)


def parse_style(text: str) -> list[tuple[str, float]]:
    """`name`, a path, or `name:0.6,other:0.4` as networks and weights.

    Raises:
        ConfigError: for a weight that is no positive number.
    """
    if Path(text).is_file():  # a path may hold commas and colons
        return [(text, 1.0)]
    networks = []
    for part in text.split(","):
        name, colon, weight = part.strip().rpartition(":")
        if not colon:
            name, weight = weight, "1"
        elif "/" in weight or "\\" in weight:  # the colon of a drive
            name, weight = f"{name}:{weight}", "1"
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if not name or not 0 < value < float("inf"):
            raise ConfigError(
                f"--style {text} cannot be read; expected NAME, or NAME:WEIGHT,NAME:WEIGHT with positive weights."
            )
        networks.append((name, value))
    return networks


def _check_masks(masks: Sequence[str], styles: int) -> Sequence[str | None]:
    if masks and len(masks) != styles:
        raise ConfigError(
            f"There are {styles} --style and {len(masks)} --mask; give each style its mask, or one of each."
        )
    if styles > 1 and not masks:
        raise ConfigError("Several --style need a --mask each; to mix them, write --style NAME:0.6,NAME:0.4.")
    return masks or [None] * styles


def _settings(options: argparse.Namespace) -> Settings:
    from stylenet.batch import Settings
    from stylenet.image import format_of
    from stylenet.painting import Controls

    if not 1 <= options.quality <= 100:
        raise ConfigError(f"--quality must be from 1 to 100, not {options.quality}.")
    if options.size is not None and options.size < 1:
        raise ConfigError(f"--size must be at least 1 px, not {options.size}.")
    if not options.max_megapixels > 0:
        raise ConfigError(f"--max-megapixels must be above 0, not {options.max_megapixels:g}.")
    file_format = format_of(f"picture.{options.format}") if options.format else None
    if file_format and options.output and Path(options.output).suffix[1:] in FORMATS:
        named = format_of(options.output)
        if named != file_format and not Path(options.output).is_dir():
            raise ConfigError(
                f"-o {options.output} names another format than --format {options.format}; leave one away."
            )
    controls = Controls(options.strength, options.preserve_color, options.scale, options.feather)
    return Settings(controls, options.size, file_format, options.quality, options.max_megapixels)


def _load(
    styles: Sequence[Sequence[tuple[str, float]]],
    masks: Sequence[str | None],
    options: argparse.Namespace,
    part: Callable[[float], None],
) -> tuple[list[Layer], bool]:
    """The brushes, and whether a GPU moves them."""
    from stylenet.painting import Layer
    from stylenet.stylizer import Stylizer

    layers = []
    on_gpu = False
    for networks, mask in zip(styles, masks, strict=True):
        brushes = []
        for name, weight in networks:
            stylizer = Stylizer.load(name, options.device)
            on_gpu = on_gpu or stylizer.device.startswith("cuda")
            brushes.append((partial(stylizer.paint_pictures, tile=options.tile, progress=part), weight))
        layers.append(Layer(brushes, _read_mask(mask) if mask else None))
    return layers, on_gpu


def _read_mask(path: str) -> Image.Image:
    from PIL import ImageChops

    from stylenet.photo import read_photo

    photo = read_photo(path)
    grey = photo.frames[0].convert("L")
    alpha = photo.alphas[0]
    return ImageChops.multiply(grey, alpha) if alpha else grey  # what is transparent is not painted


def _print_networks() -> None:
    from stylenet.checkpoint import list_networks, read_card
    from stylenet.errors import ModelFileError

    networks = list_networks()
    for name, path in sorted(networks.items()):
        try:
            steps = f"{read_card(path).steps_learned} steps"
        except ModelFileError:
            steps = "broken"
        print(f"{name:24} {path.stat().st_size / 1e6:5.1f} MB {steps:>12}  {path}")
    print("One photo in all of them: python -m stylenet.infer --sheet photo.jpg")


def _make_sheet(options: argparse.Namespace) -> None:
    from stylenet import jobs
    from stylenet.checkpoint import list_networks
    from stylenet.image import megapixels_allowed, open_picture, save_image
    from stylenet.sheet import style_sheet

    settings = _settings(options)
    networks = dict(sorted(list_networks().items()))
    existing: jobs.Existing = "overwrite" if options.overwrite else "refuse"
    suffix = f".{options.format}" if options.format else None
    (job, *more), _ = jobs.plan([options.sheet], options.output, "styles", suffix, existing)
    if more or not job.source or not job.target:
        raise ConfigError("A sheet shows one photo from a file, and goes to a file; give --sheet PHOTO and -o FILE.")
    with megapixels_allowed(settings.max_megapixels), Bar(len(networks)) as bar:
        photo = open_picture(job.source)
        sheet = style_sheet(photo, networks, options.size or SHEET_SIZE, options.device, bar.advance)
    save_image(sheet, job.target)
    print(f"{job.target}: {len(networks)} styles, {sheet.width} x {sheet.height} px", file=sys.stderr)


def _report(jobs: Sequence[Job], result: Result, name: str) -> int:
    if len(jobs) == 1:
        for _, message in result.failures:
            raise PictureError(message)
        width, height = result.size
        where = jobs[0].target or "standard output"
        print(f"{where}: {width} x {height} px, {name}, {result.seconds:.1f} s", file=sys.stderr)
        return 0
    rate = result.painted / result.seconds if result.seconds else 0.0
    folders = {job.target.parent for job in jobs if job.target}
    where = f"{os.path.commonpath(folders) or '.'}"
    print(
        f"Painted {result.painted} of {len(jobs)} pictures into {where} in {result.seconds:.1f} s ({rate:.1f} per s).",
        file=sys.stderr,
    )
    if result.failures:
        print(f"{len(result.failures)} failed:", file=sys.stderr)
        for _, message in result.failures:
            print(f"  {message}", file=sys.stderr)
    return 1 if result.failures else 0


if __name__ == "__main__":
    main()
