"""What an evaluation shows: a table, a plot, sheets of pictures, numbers, and one page that holds them all."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from stylenet.image import encode, open_picture, save_image, write_atomically
from stylenet.ruler import equalled

Measured = dict[str, dict[str, list[dict[str, Any]]]]  # network -> size -> one entry for each photo
Row = dict[str, Any]

HEIGHT = 220  # px of a sheet's pictures
GAP, LINE = 6, 20  # px of white, and of a line of text
PANELS = 4  # of a plot side by side, at most, where there is one size
OTHER = "other"


def read(folder: Path, networks: Sequence[str], sizes: Sequence[int]) -> Measured:
    """What was measured, from the files that `evaluate` left."""
    measured: Measured = {}
    for name in networks:
        for size in sizes:
            files = sorted((folder / name).glob(f"*_{size}/numbers.json"))
            entries = [json.loads(file.read_text()) | {"folder": file.parent} for file in files]
            measured.setdefault(name, {})[str(size)] = entries
    return measured


def summarize(measured: Measured) -> dict[str, Row]:
    """A row for each network and size, and for another program's pictures: medians over the photos, and one mean.

    The mean is the objective's: of few photos it says more about what a change of the network was worth, since every
    photo counts.
    """
    rows: dict[str, Row] = {}
    for name, sizes in measured.items():
        for size, entries in sizes.items():
            rows[f"{name}, {size} px"] = _row(entries, "network")
            others = [entry for entry in entries if OTHER in entry["rows"]]
            if others:
                rows[f"{OTHER} by {name}'s objective, {size} px"] = _row(others, OTHER)
    return rows


def _row(entries: Sequence[Mapping[str, Any]], who: str) -> Row:
    of = [entry["rows"][who] for entry in entries]
    photos = [entry["rows"]["photo"] for entry in entries]
    last = [_last(entry) for entry in entries]
    row: Row = {"photos": len(entries)}
    for key in ("objective", "content", "style"):
        row[key] = statistics.median(each[key] for each in of)
        row[f"{key} of the photo"] = statistics.median(each[key] for each in photos)
        row[f"{key} of Gatys' last"] = statistics.median(each[key] for each in last)
    row["mean objective"] = statistics.mean(each["objective"] for each in of)
    # A curve that never comes down to the network's objective counts as longer than any that does.
    equal = [float("inf") if each["iterations"] is None else each["iterations"] for each in of]
    middle = statistics.median(equal)
    row["iterations"] = None if middle == float("inf") else middle
    row["iterations measured"] = max(len(entry["totals"]) for entry in entries)
    if who == "network":
        row["seconds"] = statistics.median(entry["network_seconds"] for entry in entries)
        row["speed-up"] = statistics.median(_speed_up(entry) for entry in entries)
    return row


def _last(entry: Mapping[str, Any]) -> Row:
    """The row of Gatys' last picture."""
    names = [name for name in entry["rows"] if name.startswith("Gatys ")]
    last: Row = entry["rows"][max(names, key=lambda name: int(name.removeprefix("Gatys ")))]
    return last


def _speed_up(entry: Mapping[str, Any]) -> float:
    """Seconds of as many iterations as the network equals, or of all that were measured, over the network's."""
    iterations = equalled(entry["totals"], entry["rows"]["network"]["objective"])
    count = len(entry["totals"]) if iterations is None else iterations
    return float(count * entry["seconds"][-1] / len(entry["seconds"]) / entry["network_seconds"])


def table(summary: Mapping[str, Row]) -> Table:
    """The summary for a terminal."""
    shown = Table("", "objective", "equals iterations", "content*", "style*", "s a picture", "speed-up")
    for name, row in summary.items():
        shown.add_row(name, *_cells(row))
    shown.caption = "* on layers that training did not use; medians over the photos"
    return shown


def _cells(row: Row) -> list[str]:
    equal = f"more than {row['iterations measured']}" if row["iterations"] is None else f"{row['iterations']:.0f}"
    cells = [f"{row['objective']:.3f}", equal, f"{row['content']:.3f}", f"{row['style']:.3f}"]
    return [*cells, *(f"{row[key]:.3g}" if key in row else "" for key in ("seconds", "speed-up"))]


def write(folder: Path, settings: Mapping[str, Any], measured: Measured, summary: Mapping[str, Row]) -> Path:
    """Write numbers, plot, sheets and the page; the page's path."""
    numbers = {"settings": settings, "summary": summary}
    write_atomically(folder / "results.json", (json.dumps(numbers, indent=2) + "\n").encode())
    plot(measured, folder / "curves.png")
    sheets = []
    for name, sizes in measured.items():
        size = max(sizes, key=int)
        if sizes[size]:
            sheets.append(folder / f"{name}.jpg")
            save_image(sheet(sizes[size]), sheets[-1])
    write_atomically(folder / "page.html", _page(folder, settings, summary, sheets).encode())
    return folder / "page.html"


def plot(measured: Measured, path: Path) -> None:
    """Johnson's Figure 5: Gatys' curve for each photo, and the network's objective, the photos' median, across them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(name, size, entries) for name, by_size in measured.items() for size, entries in by_size.items()]
    sizes = max(len(by_size) for by_size in measured.values())
    columns = sizes if sizes > 1 else min(PANELS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 3.3 * rows), squeeze=False, layout="constrained"
    )
    for axis in grid.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, size, entries) in zip(grid.flat, panels, strict=False):
        for place, entry in enumerate(entries):
            axis.plot(entry["totals"], color="0.6", linewidth=1, label="" if place else "Gatys, a line a photo")
        for who, color in (("network", "tab:blue"), (OTHER, "tab:orange")):
            values = [entry["rows"][who]["objective"] for entry in entries if who in entry["rows"]]
            if values:
                axis.axhline(statistics.median(values), color=color, label=who)
        axis.set(title=f"{name}, {size} px", xlabel="iterations of L-BFGS", ylabel="objective")
        axis.set_ylim(0, 2.5 * max(entry["rows"]["network"]["objective"] for entry in entries))
        axis.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())


def sheet(entries: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A row for each photo: painting, photo, network, and Gatys after some iterations, with names on top."""
    columns = ["painting", *(name for name in entries[0]["rows"] if all(name in entry["rows"] for entry in entries))]
    rows = []
    for entry in entries:
        pictures = [open_picture(entry["folder"] / f"{name.replace(' ', '_')}.png") for name in columns]
        rows.append([picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT)) for picture in pictures])
    widths = [max(row[column].width for row in rows) for column in range(len(columns))]
    size = (sum(widths) + GAP * (len(widths) + 1), LINE + len(rows) * (HEIGHT + GAP) + GAP)
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    left = GAP
    for column, (name, width) in enumerate(zip(columns, widths, strict=True)):
        label = f"{name} iterations" if name.startswith("Gatys") else name
        draw.text((left + width / 2, 3), label, fill="black", font=font, anchor="ma")
        for place, row in enumerate(rows):
            picture.paste(row[column], (left + (width - row[column].width) // 2, LINE + place * (HEIGHT + GAP)))
        left += width + GAP
    return picture


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } img { max-width: 100%; height: auto } p { max-width: 46rem }
"""


def _page(folder: Path, settings: Mapping[str, Any], summary: Mapping[str, Row], sheets: Sequence[Path]) -> str:
    """One file, with everything inside."""
    heads = ("", "objective", "equals iterations", "content*", "style*", "s a picture", "speed-up")
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in (name, *_cells(row))) + "</tr>"
        for name, row in summary.items()
    )
    pictures = "".join(f"<h2>{html.escape(path.stem)}</h2><p>{_inline(path)}</p>" for path in sheets)
    start = "the photo" if settings["init"] == "content" else "noise"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>stylenet: evaluation</title><style>{STYLE}</style>
<h1>Networks beside the slow method</h1>
<p>Gatys' method lets the pixels of a photo descend the very objective that a network was trained on, here by L-BFGS
from {start}. A network equals as many iterations as it takes until the curve comes down to the network's one pass
(Johnson et al. 2016, Figure 5).</p>
<p>{_inline(folder / "curves.png")}</p>
<table><tr>{head}</tr>{body}</table>
<p>* relative errors on layers that training did not use: content {", ".join(settings["unseen"]["content"])}, style
{", ".join(settings["unseen"]["style"])}. Medians over the photos; less is nearer to the photo's content, or to the
painting's style. The speed-up is over as many iterations as the network equals.</p>
{pictures}</html>
"""


def _inline(path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    content = path.read_bytes() if kind == "png" else bytes(encode(open_picture(path), "JPEG", 88))
    return f'<img alt="{html.escape(path.stem)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
