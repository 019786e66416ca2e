"""Measure painting: a folder's speed against the network's own, and a large picture's memory and time.

    python scripts/benchmark_painting.py --style starry_night folder --count 1000 --size 256
    python scripts/benchmark_painting.py --style starry_night large --megapixels 100

Prints a table and writes the same numbers as JSON (`--json`).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measured_process import run_measured
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stylenet import batch
from stylenet.image import load_image, save_image, to_array
from stylenet.jobs import Job
from stylenet.painting import Layer
from stylenet.stylizer import Stylizer

PHOTOS = Path(__file__).parents[1] / "stylenet" / "assets" / "photos"
ROUNDS = 10

Numbers = dict[str, float | int | str]


def measure_folder(style: str, count: int, size: int, progress: Progress) -> Numbers:
    """Paint a folder of small JPEGs from disk to disk, and the same pictures from memory by the network alone.

    The two take turns, so that whatever else the machine does slows both alike.
    """
    stylizer = Stylizer.load(style)
    layers = [Layer([(stylizer.paint_pictures, 1.0)])]
    settings = batch.Settings()
    together = max(1, settings.pixels_together // size**2)
    with tempfile.TemporaryDirectory() as folder:
        jobs = list(_make_folder(Path(folder), count, size))
        pictures = np.concatenate([load_image(job.source) for job in jobs[:together] if job.source])
        stylizer.paint(pictures)  # the first pass prepares kernels
        bar = progress.add_task("folder", total=2 * count)
        network = files = 0.0
        for chunk in np.array_split(np.arange(count), ROUNDS):
            start = time.perf_counter()
            done = 0
            while done < len(chunk):
                stylizer.paint(pictures[: len(chunk) - done])
                done += together
                progress.update(bar, advance=together)
            network += time.perf_counter() - start
            start = time.perf_counter()
            result = batch.run([jobs[i] for i in chunk], layers, settings, lambda: progress.update(bar, advance=1))
            files += time.perf_counter() - start
            if result.failures:
                raise SystemExit(f"painting failed: {result.failures[0]}")
    return {
        "pictures": count,
        "size_px": size,
        "network_per_s": count / network,
        "folder_per_s": count / files,
        "share_of_network_percent": 100 * network / files,
    }


def _make_folder(folder: Path, count: int, size: int) -> Iterator[Job]:
    photos = sorted(PHOTOS.glob("*.jpg"))
    for index in range(count):
        with Image.open(photos[index % len(photos)]) as photo:
            picture = ImageOps.fit(photo.convert("RGB"), (size, size))
        save_image(picture, folder / "in" / f"{index:05}.jpg")
        yield Job(folder / "in" / f"{index:05}.jpg", folder / "out" / f"{index:05}.jpg")


def measure_large(style: str, megapixels: float, progress: Progress) -> Numbers:
    """Paint one large JPEG in tiles with the command line, in a process of its own; read its peak memory."""
    bar = progress.add_task(f"{megapixels:g} megapixels (minutes)", total=None)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "large.jpg"), Path(folder, "painted.jpg")
        with Image.open(sorted(PHOTOS.glob("*.jpg"))[0]) as photo:
            factor = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
            large = photo.convert("RGB").resize((round(photo.width * factor), round(photo.height * factor)))
        save_image(large, source)
        width, height = large.size
        measured = run_measured("stylenet.infer", [str(source), "-s", style, "-o", str(target), "--tile"])
        with Image.open(target) as painted:
            assert painted.size == (width, height)
    progress.update(bar, completed=1, total=1)
    return {
        "width": width,
        "height": height,
        "megapixels": width * height / 1e6,
        **measured._asdict(),
    }


def measure_tiles(style: str, progress: Progress) -> Numbers:
    """Compare a picture painted in tiles with the same painted whole: difference, and contrast across tile borders."""
    from stylenet.tiling import paint_in_tiles

    stylizer = Stylizer.load(style)
    with Image.open(PHOTOS / "petra.jpg") as opened:
        photo = opened.convert("RGB")
    bar = progress.add_task("tiles", total=2)
    start = time.perf_counter()
    whole = to_array(stylizer.paint_pictures([photo], tile=False)[0])
    seconds_whole = time.perf_counter() - start
    progress.update(bar, advance=1)
    start = time.perf_counter()
    tiled = to_array(paint_in_tiles(stylizer.net, photo, stylizer.device, tile_values=64 * 100 * 100))
    progress.update(bar, advance=1)
    return {
        "width": photo.width,
        "height": photo.height,
        "mean_difference_of_255": float(np.abs(tiled - whole).mean() * 255),
        "largest_difference_of_255": float(np.abs(tiled - whole).max() * 255),
        "seconds_whole": seconds_whole,
        "seconds_in_tiles": time.perf_counter() - start,
    }


def main() -> None:
    """Run one measurement and report it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", required=True, help="network, by name or file")
    parser.add_argument("--json", type=Path, help="where the numbers go (default: benchmark_<what>.json)")
    what = parser.add_subparsers(dest="what", required=True)
    folder = what.add_parser("folder", help="speed of many small pictures")
    folder.add_argument("--count", type=int, default=1000)
    folder.add_argument("--size", type=int, default=256)
    large = what.add_parser("large", help="memory and time of one large picture")
    large.add_argument("--megapixels", type=float, default=100)
    what.add_parser("tiles", help="difference between tiles and the whole")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None  # the pictures are made here
    with Progress(console=Console(stderr=True)) as progress:
        if options.what == "folder":
            numbers = measure_folder(options.style, options.count, options.size, progress)
        elif options.what == "large":
            numbers = measure_large(options.style, options.megapixels, progress)
        else:
            numbers = measure_tiles(options.style, progress)
    numbers |= {"threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__}
    table = Table("measured", options.what)
    for name, value in numbers.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    path = options.json or Path(f"benchmark_{options.what}.json")
    path.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"numbers: {path}")


if __name__ == "__main__":
    main()
