"""What `benchmark.py` shows of its measurements: ratios, tables, a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

Numbers = dict[str, Any]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """How many times faster: the median over the rounds and its quartiles."""
    low, middle, high = np.quantile(np.array(slow) / np.array(fast), [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def show(results: Mapping[str, Numbers], console: Console) -> None:
    """A table for each part."""
    for part, rows in results.items():
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        table = Table(part, *columns)
        for name, row in rows.items():
            values = [row.get(column, "") for column in columns]
            table.add_row(name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values))
        console.print(table)


def plot(results: Mapping[str, Numbers], path: Path) -> None:
    """Seconds and memory against the number of pixels."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    panels = (("painting", "milliseconds", "milliseconds to paint"), ("memory", "peak memory, GB", "peak memory, GB"))
    for axis, (part, value, label) in zip(axes, panels, strict=True):
        curves: dict[str, list[tuple[int, float]]] = {}
        for name, row in results.get(part, {}).items():
            curve, _, size = name.rpartition(", ")
            if size.endswith(" px"):
                curves.setdefault(curve, []).append((int(size.removesuffix(" px")), row[value]))
        for name, points in curves.items():
            axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.set(xscale="log", xlabel="px of a square picture's side", ylabel=label, yscale="log")
        axis.minorticks_off()
        axis.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1024", "2048", "4096"], minor=False)
        axis.grid(alpha=0.3)
        if curves:
            axis.legend(frameon=False)
    figure.savefig(path, dpi=110)
