"""Make networks to bundle with the package, from the committed configs alone.

    python scripts/make_pretrained.py                     all of them, from the bundled photographs or COCO
    python scripts/make_pretrained.py great_wave          some
    python scripts/make_pretrained.py -- data.root=photos trained on other photographs
    python scripts/make_pretrained.py --stamp runs/evaluate/2026-01-31_12-00-00
                                                          none: write what `stylenet.evaluate` found into their cards

A base learns The Starry Night from nothing; each painting, that one too, goes on from there in three runs, the last on
small crops and large ones. That is hours for each of them on a processor. A network that is stopped (Ctrl-C) is left as
it was bundled before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stylenet.checkpoint import BUNDLED, EXTENSION, export, load
from stylenet.errors import ConfigError, one_sentence

BASE = ["style=starry_night", "steps=1500"]  # learned from nothing, by a network that is not bundled itself
NEXT = (  # on top of it, for each painting
    ["steps=1500", "data.size=256"],
    ["steps=5000", "data.size=256"],
    ["steps=500", "optimizer.learning_rate=1e-3"],
)
PAINTINGS = (
    "starry_night",
    "great_wave",
    "composition_viii",
    "moulin_de_la_galette",
    "inokashira_in_snow",
    "night_cafe",
    "the_harvesters",
    "cafe_terrace_at_night",
)


def train(folder: Path, settings: list[str]) -> Path:
    """Train in a folder, and give the network's file."""
    command = [sys.executable, "-m", "stylenet.train", "logger=csv", f"hydra.run.dir={folder}", *settings]
    subprocess.run(command, check=True)
    return next(folder.glob(f"*{EXTENSION}"))


def make(paintings: Sequence[str], overrides: list[str]) -> None:
    """Train the networks of some paintings from one base, and put each among the bundled ones when it is done."""
    with tempfile.TemporaryDirectory() as parent:
        base = train(Path(parent, "base"), [*BASE, *overrides])
        for painting in paintings:
            learned = base
            for index, settings in enumerate(NEXT):
                start = [f"style={painting}", f"init={learned}"]
                learned = train(Path(parent, f"{painting}_{index}"), [*start, *settings, *overrides])
            print(shutil.copy(learned, BUNDLED))


def stamp(evaluation: Path) -> None:
    """Write what an evaluation found into the cards of the bundled networks."""
    if not (evaluation / "results.json").is_file():
        raise ConfigError(f"{evaluation} holds no results.json; give the folder of a run of stylenet.evaluate.")
    found: dict[str, dict[str, float]] = {}
    for name, row in json.loads((evaluation / "results.json").read_text())["summary"].items():
        style, size = name.split(", ")
        values = {f"{key}, {size}": row[key] for key in ("objective", "iterations") if row[key] is not None}
        found.setdefault(style, {}).update(values)
    for style, values in found.items():
        path = BUNDLED / f"{style}{EXTENSION}"
        net, card = load(path)
        print(export(net, replace(card, evaluation={**card.evaluation, **values}), path))


@one_sentence
def main() -> None:
    """Make the networks asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styles", nargs="*", metavar="STYLE", help=f"of {', '.join(PAINTINGS)} (default: all)")
    parser.add_argument("--stamp", type=Path, metavar="FOLDER", help="of an evaluation, to write into the cards")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options, overrides = parser.parse_args(words[:end]), words[end + 1 :]
    if options.stamp:
        stamp(options.stamp)
        return
    for style in options.styles:
        if style not in PAINTINGS:
            raise ConfigError(f"{style} is not among the networks to bundle; they are {', '.join(PAINTINGS)}.")
    try:
        make(options.styles or PAINTINGS, overrides)
    except (subprocess.CalledProcessError, KeyboardInterrupt):
        raise SystemExit("The training did not end; what was bundled before and is not named above stays.") from None


if __name__ == "__main__":
    main()
