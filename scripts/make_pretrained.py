"""Make networks to bundle with the package, from the committed configs alone.

    python scripts/make_pretrained.py                     all of them, from the bundled photographs or COCO
    python scripts/make_pretrained.py great_wave          some
    python scripts/make_pretrained.py -- data.root=photos trained on other photographs
    python scripts/make_pretrained.py --stamp runs/evaluate/2026-01-31_12-00-00
                                                          none: write what `stylenet.evaluate` found into their cards

The Starry Night and The Great Wave are learned from nothing; every other painting starts from one of these.
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

STYLES = {  # painting: the one it starts from
    "starry_night": None,
    "great_wave": None,
    "composition_viii": "great_wave",
    "moulin_de_la_galette": "starry_night",
    "inokashira_in_snow": "great_wave",
    "night_cafe": "starry_night",
    "the_harvesters": "great_wave",
    "cafe_terrace_at_night": "starry_night",
}


def make(style: str, overrides: list[str]) -> Path:
    """Train one network in a folder of its own and put it among the bundled ones."""
    first = STYLES[style]
    start = []
    if first:
        start = ["steps=1000", "trainer.val_check_interval=500", f"init={os.path.relpath(BUNDLED / first)}{EXTENSION}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stylenet.train", f"style={style}", "logger=csv", f"hydra.run.dir={folder}"]
        subprocess.run([*command, *start, *overrides], check=True)
        return Path(shutil.copy(Path(folder, f"{style}{EXTENSION}"), BUNDLED))


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
    parser.add_argument("styles", nargs="*", metavar="STYLE", help=f"of {', '.join(STYLES)} (default: all)")
    parser.add_argument("--stamp", type=Path, metavar="FOLDER", help="of an evaluation, to write into the cards")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options, overrides = parser.parse_args(words[:end]), words[end + 1 :]
    if options.stamp:
        stamp(options.stamp)
        return
    for style in options.styles or STYLES:
        if style not in STYLES:
            raise ConfigError(f"{style} is not among the networks to bundle; they are {', '.join(STYLES)}.")
        try:
            print(make(style, overrides))
        except (subprocess.CalledProcessError, KeyboardInterrupt):
            raise SystemExit(f"The training for {style} did not end; what was bundled before stays.") from None


if __name__ == "__main__":
    main()
