"""Measure Gatys' method: how long `stylenet.optimize` takes to become as good as the plain method.

    python scripts/benchmark_optimize.py
    python scripts/benchmark_optimize.py --size 128 --iterations 100
    python scripts/benchmark_optimize.py --direct        ours at the full size from the first iteration too

The plain method: the same objective, float32, PyTorch's convolutions in its default memory format, at the full size
from the first iteration, starting from the photo. Its picture's objective after the last iteration is the goal; ours
runs, with the settings of `configs/optimize.yaml`, until its picture at the full size reaches the goal, for half as
many iterations again at most. Pictures are judged in float32, off the clock. Times are of the descents alone, by the
clock and by the processor (which other programs on the machine disturb less).

Prints a table and writes the same numbers, with both curves, as JSON (`--json`).
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stylenet.speed import choose_descent_precision, keep_memory, wait_briefly

wait_briefly()  # it counts only before PyTorch is imported

import torch
from hydra import compose, initialize_config_dir
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stylenet import nnpack, winograd
from stylenet.data import SAMPLE
from stylenet.errors import one_sentence
from stylenet.gatys import Painter, Scale, State, plan
from stylenet.image import open_picture
from stylenet.optimize import loss_maker
from stylenet.program import CONFIGS, register_resolvers
from stylenet.styles import find_painting

Point = tuple[float, float, float]  # seconds by the clock, seconds of the processor, objective
NEAR = 1.003  # times the goal: how far bfloat16 may be off, from where on a picture is judged in float32
MORE = 1.5  # times the plain method's iterations: how many ours may take at the full size to reach the goal


class Contest:
    """One photo and painting, for the plain method and for ours; both are judged by the same float32 loss."""

    def __init__(self, cfg: Any, photo: Image.Image) -> None:
        self.cfg, self.photo = cfg, photo
        self.paintings = [open_picture(find_painting(cfg.style.image))]
        width, height = photo.size
        self.full = Scale(width, height, 1, 1.0)

    def painter(self, stages: list[Scale], plain: bool) -> Painter:
        """What descends: as the field does it, or as `stylenet.optimize` does."""
        cpu = torch.device("cpu")
        make_loss, _ = loss_maker(self.cfg, True, cpu)

        def make(paintings: Any) -> Any:
            loss = make_loss(paintings)
            if plain:
                loss.encoder.to(memory_format=torch.contiguous_format)
                pools = [name for name in loss.encoder.stages if name.startswith("pool")]
                loss.encoder.stages.update({name: nn.MaxPool2d(2) for name in pools})
            return loss

        size = self.cfg.style.size
        precision = "32-true" if plain else choose_descent_precision(self.cfg.precision)
        return Painter(self.photo, self.paintings, make, stages, size, cpu, precision=precision)

    def descend(self, stages: list[Scale], plain: bool) -> Iterator[tuple[State, Point]]:
        """State and point of the curve after each iteration; what the caller does meanwhile is not counted."""
        painter = self.painter(stages, plain)
        start = painter.start(self.photo, self.cfg.seed)
        steps = painter.paint(start, self.cfg.optimizer, self.cfg.learning_rates[self.cfg.optimizer])
        seconds = processor = 0.0
        while True:
            began, began_processor = time.perf_counter(), time.process_time()
            step = next(steps, None)
            if step is None:
                return
            seconds += time.perf_counter() - began
            processor += time.process_time() - began_processor
            yield step[0], (seconds, processor, step[1]["total"])

    @torch.no_grad()
    def judge(self, pixels: Tensor) -> float:
        """The objective of a picture of the full size, in float32."""
        painter = self.painter([self.full], plain=True)
        loss = painter.loss(self.full)
        return float(loss(pixels, painter.content(self.full, loss))["total"])


@contextmanager
def pytorchs_convolutions() -> Iterator[None]:
    """Within it, no convolution is NNPACK's or Winograd's."""
    least = nnpack.LEAST_PIXELS, winograd.LEAST_CHANNELS
    nnpack.LEAST_PIXELS, winograd.LEAST_CHANNELS = sys.maxsize, {}
    try:
        yield
    finally:
        nnpack.LEAST_PIXELS, winograd.LEAST_CHANNELS = least


@one_sentence
def main() -> None:
    """Run both and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=SAMPLE / "neuschwanstein_castle.jpg")
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--size", type=int, default=512, help="px of the square picture (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=300, help="of the plain method (default: %(default)s)")
    parser.add_argument("--direct", action="store_true", help="ours without the small stages, as scales=[1] has it")
    parser.add_argument("--json", type=Path, default=Path("benchmark_optimize.json"))
    options = parser.parse_args()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("optimize", [f"style={options.style}", f"size={options.size}", "folder=none"])
    size = options.size
    contest = Contest(cfg, ImageOps.fit(open_picture(options.photo), (size, size), Image.Resampling.LANCZOS))
    console = Console()

    plain: list[Point] = []
    with pytorchs_convolutions():
        for state, point in contest.descend([contest.full._replace(iterations=options.iterations)], plain=True):
            plain.append(point)
            painted = state.pixels
            show(console, "plain", options.iterations, plain)
    goal = contest.judge(painted)

    keep_memory()
    iterations = [*cfg.iterations[:-1], round(MORE * options.iterations)]
    stages = plan(size, size, cfg.scales, iterations, cfg.coarsest, 1)[-1 if options.direct else 0 :]
    ours: list[Point] = []
    reached = False
    for state, point in contest.descend(stages, plain=False):
        ours.append(point)
        show(console, f"ours, {stages[state.scale].width} px", sum(stage.iterations for stage in stages), ours)
        if state.scale == len(stages) - 1 and point[2] <= NEAR * goal and contest.judge(state.pixels) <= goal:
            reached = True
            break

    table = Table("", "iterations", "s", "s of the processor", "objective")
    for name, curve in (("plain", plain), ("ours", ours)):
        table.add_row(name, str(len(curve)), *(f"{value:.3f}" for value in curve[-1]))
    console.print(table)
    ratio, ratio_processor = plain[-1][0] / ours[-1][0], plain[-1][1] / ours[-1][1]
    verdict = f"{ratio:.2f} times as fast ({ratio_processor:.2f} by the processor)" if reached else "goal not reached"
    precision = choose_descent_precision(cfg.precision)
    console.print(f"{verdict}, {precision}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    options.json.write_text(json.dumps({"plain": plain, "ours": ours, "reached": reached, "ratio": ratio}) + "\n")
    print(f"numbers: {options.json}")


def show(console: Console, name: str, total: int, curve: list[Point]) -> None:
    """A line every so often."""
    if len(curve) % 20 == 0:
        console.print(f"{name}: {len(curve)} of {total}, {curve[-1][0]:.0f} s, objective {curve[-1][2]:.4f}")


if __name__ == "__main__":
    main()
