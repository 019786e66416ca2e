"""Compare training runs: how good they were after how many minutes, as a table and a plot.

    python scripts/compare_runs.py runs/recipe/*
    python scripts/compare_runs.py runs/warm runs/scratch -o curves.png

Each run is a folder that training left, with `logger=csv` among its loggers. The losses are those of the held-out
photographs, lower is better; they can be compared between runs on the same painting with the same loss.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from stylenet.errors import ConfigError, one_sentence

LOSSES = ("total", "content", "style")


class Point(NamedTuple):
    """One look at the held-out photographs."""

    step: int
    minutes: float
    losses: dict[str, float]


def read(folder: Path) -> list[Point]:
    """A run's looks at the held-out photographs, in their order."""
    file = folder / "csv" / "metrics.csv"
    if not file.is_file():
        raise ConfigError(f"{folder} holds no csv/metrics.csv; give folders of runs that were trained with logger=csv.")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("held_out/total")]
    points = [
        Point(int(row["step"]) + 1, float(row["minutes"]), {name: float(row[f"held_out/{name}"]) for name in LOSSES})
        for row in rows
    ]
    if not points:
        raise ConfigError(f"The run in {folder} has not looked at the held-out photographs yet.")
    return points


def plot(runs: dict[str, list[Point]], path: Path) -> None:
    """Held-out loss over minutes."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, points in runs.items():
        axes.plot([point.minutes for point in points], [point.losses["total"] for point in points], ".-", label=name)
    axes.set(xlabel="minutes of training", ylabel="held-out loss")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


@one_sentence
def main() -> None:
    """Read, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="of a run")
    parser.add_argument("-o", "--output", type=Path, help="the plot's file (.png); default: none")
    options = parser.parse_args()
    runs = {folder.name: read(folder) for folder in options.runs}
    table = Table("run", "steps", "minutes", *(f"held-out {name}" for name in LOSSES))
    for name, points in runs.items():
        last = points[-1]
        losses = [f"{last.losses[key]:.3f}" for key in LOSSES]
        table.add_row(name, str(last.step), f"{last.minutes:.1f}", *losses)
    Console().print(table)
    if options.output:
        plot(runs, options.output)
        print(options.output)


if __name__ == "__main__":
    main()
