"""Measure Gatys' method: how long `stylenet.optimize` takes to become as good as the plain method.

    python scripts/benchmark_optimize.py
    python scripts/benchmark_optimize.py --size 128 --iterations 100

The plain method: the same objective, float32 in PyTorch's default memory format, at the full size from the first
iteration, starting from the photo. Its objective after the last iteration is the goal; ours runs, with the settings of
`configs/optimize.yaml`, until its picture at the full size reaches the goal. Times are of the descents alone, by the
clock and by the processor (which other programs on the machine disturb less).

Prints a table and writes the same numbers, with both curves, as JSON (`--json`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from stylenet.data import SAMPLE
from stylenet.errors import one_sentence
from stylenet.gatys import Painter, Scale, plan
from stylenet.image import open_picture
from stylenet.optimize import loss_maker
from stylenet.program import CONFIGS, register_resolvers
from stylenet.speed import keep_memory
from stylenet.styles import find_painting
from stylenet.vgg import Encoder

Point = tuple[float, float, float]  # seconds by the clock, seconds of the processor, objective


def descend(cfg: Any, photo: Image.Image, stages: list[Scale], plain: bool) -> Iterator[tuple[int, Point]]:
    """The stage and the point of the curve after each iteration."""
    make_loss, _ = loss_maker(cfg, with_content=True)

    def make(paintings: Any) -> Any:
        loss = make_loss(paintings)
        if plain:
            assert isinstance(loss.encoder, Encoder)
            loss.encoder.to(memory_format=torch.contiguous_format)
        return loss

    paintings = [open_picture(find_painting(cfg.style.image))]
    painter = Painter(photo, paintings, make, stages, cfg.style.size, torch.device("cpu"))
    start = painter.start(photo, cfg.seed)
    clock, processor = time.perf_counter(), time.process_time()
    for state, losses in painter.paint(start, cfg.optimizer, cfg.learning_rates[cfg.optimizer]):
        yield state.scale, (time.perf_counter() - clock, time.process_time() - processor, losses["total"])


@one_sentence
def main() -> None:
    """Run both and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=SAMPLE / "neuschwanstein_castle.jpg")
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--size", type=int, default=512, help="px of the square picture (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=300, help="of the plain method (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_optimize.json"))
    options = parser.parse_args()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("optimize", [f"style={options.style}", f"size={options.size}", "folder=none"])
    size = options.size
    photo = ImageOps.fit(open_picture(options.photo), (size, size), Image.Resampling.LANCZOS)
    console = Console()

    plain: list[Point] = []
    for _, point in descend(cfg, photo, [Scale(size, size, options.iterations, 1.0)], plain=True):
        plain.append(point)
        show(console, "plain", options.iterations, plain)
    goal = plain[-1][2]

    keep_memory()
    stages = plan(size, size, cfg.scales, list(cfg.iterations), cfg.coarsest, 1)
    last = len(stages) - 1
    stages[last] = stages[last]._replace(iterations=options.iterations)
    ours: list[Point] = []
    reached = False
    for scale, point in descend(cfg, photo, stages, plain=False):
        ours.append(point)
        show(console, f"ours, {stages[scale].width} px", sum(stage.iterations for stage in stages), ours)
        if scale == last and point[2] <= goal:
            reached = True
            break

    table = Table("", "iterations", "s", "s of the processor", "objective")
    for name, curve in (("plain", plain), ("ours", ours)):
        table.add_row(name, str(len(curve)), *(f"{value:.3f}" for value in curve[-1]))
    console.print(table)
    ratio, ratio_processor = plain[-1][0] / ours[-1][0], plain[-1][1] / ours[-1][1]
    verdict = f"{ratio:.2f} times as fast ({ratio_processor:.2f} by the processor)" if reached else "goal not reached"
    console.print(f"{verdict}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    options.json.write_text(json.dumps({"plain": plain, "ours": ours, "reached": reached, "ratio": ratio}) + "\n")
    print(f"numbers: {options.json}")


def show(console: Console, name: str, total: int, curve: list[Point]) -> None:
    """A line every so often."""
    if len(curve) % 20 == 0:
        console.print(f"{name}: {len(curve)} of {total}, {curve[-1][0]:.0f} s, objective {curve[-1][2]:.4f}")


if __name__ == "__main__":
    main()
