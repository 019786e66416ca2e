"""Make networks to bundle with the package, from the committed configs alone.

    python scripts/make_pretrained.py                     all of them, from the bundled photographs or COCO
    python scripts/make_pretrained.py great_wave          some
    python scripts/make_pretrained.py -- data.root=photos trained on other photographs
    python scripts/make_pretrained.py --stamp runs/evaluate/2026-01-31_12-00-00
                                                          none: write what `stylenet.evaluate` found into their cards

The Starry Night is learned from nothing; every other painting starts from its network.
An hour or two on two processor cores. A network that is stopped (Ctrl-C) is left as it was bundled before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from stylenet.checkpoint import BUNDLED, EXTENSION, export, load
from stylenet.errors import ConfigError, one_sentence

FIRST = "starry_night"
RUNS: dict[str, list[list[str]]] = {  # painting: settings of its runs, each of which goes on from the one before
    FIRST: [[], ["steps=400", "data.early_fraction=0"]],
    "great_wave": [["steps=1500"]],
    "composition_viii": [[]],
    "moulin_de_la_galette": [[]],
    "inokashira_in_snow": [[]],
    "night_cafe": [[]],
    "the_harvesters": [["algorithm=adam"]],  # with SOAP, lower losses, and skies of fine dots and lines
    "cafe_terrace_at_night": [["algorithm=adam"]],
}


def make(style: str, overrides: list[str]) -> Path:
    """Train one network in a folder of its own and put it among the bundled ones."""
    learned = None if style == FIRST else f"{os.path.relpath(BUNDLED / FIRST)}{EXTENSION}"
    with tempfile.TemporaryDirectory() as parent:
        for index, settings in enumerate(RUNS[style]):
            folder = Path(parent, str(index))
            command = [
                sys.executable,
                "-m",
                "stylenet.train",
                f"style={style}",
                "logger=csv",
                f"hydra.run.dir={folder}",
            ]
            start = [f"init={learned}"] if learned else []
            subprocess.run([*command, *start, *settings, *overrides], check=True)
            learned = str(folder / f"{style}{EXTENSION}")
        return Path(shutil.copy(str(learned), BUNDLED))


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
    parser.add_argument("styles", nargs="*", metavar="STYLE", help=f"of {', '.join(RUNS)} (default: all)")
    parser.add_argument("--stamp", type=Path, metavar="FOLDER", help="of an evaluation, to write into the cards")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options, overrides = parser.parse_args(words[:end]), words[end + 1 :]
    if options.stamp:
        stamp(options.stamp)
        return
    for style in options.styles or RUNS:
        if style not in RUNS:
            raise ConfigError(f"{style} is not among the networks to bundle; they are {', '.join(RUNS)}.")
        try:
            print(make(style, overrides))
        except (subprocess.CalledProcessError, KeyboardInterrupt):
            raise SystemExit(f"The training for {style} did not end; what was bundled before stays.") from None


if __name__ == "__main__":
    main()
