"""Measure how good networks are: against Gatys' optimisation on the same photos, by the same objective.

python -m stylenet.evaluate 'networks=[starry_night]'
python -m stylenet.evaluate 'networks=[starry_night,mine.safetensors]' photos=my/photos 'sizes=[256]'
python -m stylenet.evaluate 'networks=[starry_night]' pictures=painted_elsewhere     another program's pictures
python -m stylenet.evaluate resume=runs/evaluate/2026-01-31_12-00-00                 go on after a stop
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylenet.errors import ConfigError, require_number
from stylenet.program import CONFIGS, hydra_program, shortest

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from PIL import Image

    from stylenet.ruler import Objective, UnseenLayers
    from stylenet.stylizer import Stylizer

log = logging.getLogger(__name__)

REPEATS = 3  # of a network's picture, whose time is the least of them
OTHER = "other"


def evaluate(cfg: DictConfig) -> None:
    """Measure and report.

    Args:
        cfg: what `configs/evaluate.yaml` composes.

    Raises:
        StylenetError: for a setting, a network or a photo that cannot be used.
        SystemExit: after Ctrl-C, with status 130; what was measured is kept.
    """
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    photos = check(settings)
    from stylenet.checkpoint import BUNDLED, EXTENSION, find_network
    from stylenet.meter import Meter
    from stylenet.ruler import UnseenLayers, objective_of
    from stylenet.speed import keep_memory
    from stylenet.stylizer import Stylizer

    keep_memory()
    folder = Path(settings["resume"] or settings["folder"])
    names = settings["networks"] or sorted(path.stem for path in BUNDLED.glob(f"*{EXTENSION}"))
    paths = {Path(name).stem: find_network(name) for name in names}
    stylizers = {name: Stylizer.load(path) for name, path in paths.items()}
    unseen = UnseenLayers(**settings["unseen"])
    work = sum(size**2 for size in settings["sizes"]) * len(photos) * len(stylizers) * settings["iterations"]
    done = 0
    try:
        with Meter(work, 0, 50) as meter:
            for name, stylizer in stylizers.items():
                objective = objective_of(stylizer.card)
                for size in settings["sizes"]:
                    for photo in photos:
                        what = f"{name}, {photo.stem}, {size} px"
                        after = done + size**2 * settings["iterations"]  # a curve may end early

                        def advance(size: int = size, what: str = what) -> None:
                            nonlocal done
                            done += size**2
                            meter.show(done, what, {})

                        unit = folder / "measured" / name / f"{photo.stem}_{size}"
                        if not is_measured(unit, stylizer):
                            measure_one(unit, stylizer, objective, photo, size, settings, unseen, advance)
                        done = after
    except KeyboardInterrupt:
        print(f"\nStopped. Go on: python -m stylenet.evaluate resume={shortest(folder)}, with the same settings")
        raise SystemExit(130) from None
    finish(folder, settings, list(stylizers))


def check(settings: dict[str, Any]) -> list[Path]:
    """The photos; raises for the first setting that cannot be used."""
    from stylenet.image import find_pictures
    from stylenet.vgg import check_layers

    for name in ("iterations", "count"):
        if settings[name] is not None:
            require_number(name, settings[name], 1, whole=True)
    for name, low in (("sizes", 32), ("sheet", 1)):
        for number in settings[name]:
            require_number(f"Each of {name}", number, low, whole=True)
    if not settings["sizes"]:
        raise ConfigError("sizes must name at least one size, as in [256,512].")
    if settings["init"] not in ("content", "noise"):
        raise ConfigError(f"init must be content or noise, not {settings['init']!r}.")
    for layers in settings["unseen"].values():
        check_layers(layers)
    for name in ("photos", "pictures", "resume"):
        if settings[name] is not None and not Path(settings[name]).is_dir():
            raise ConfigError(f"{name}={settings[name]} is no folder.")
    photos = find_pictures(settings["photos"]) if settings["photos"] else held_out()
    photos = sorted(photos)[: settings["count"]]
    if not photos:
        raise ConfigError(f"There are no photos in {settings['photos']}.")
    return photos


def held_out() -> list[Path]:
    """The bundled photographs that training never sees."""
    from omegaconf import OmegaConf

    from stylenet.data import SAMPLE

    return [SAMPLE / name for name in OmegaConf.load(CONFIGS / "data" / "coco.yaml").held_out]


def is_measured(unit: Path, stylizer: Stylizer) -> bool:
    """Whether a unit's numbers are there, and of this network: one of the same name may have learned on since."""
    numbers = unit / "numbers.json"
    return numbers.is_file() and json.loads(numbers.read_text()).get("network") == fingerprint(stylizer)


def fingerprint(stylizer: Stylizer) -> str:
    """The same for the same weights only; what is written into a card later does not count."""
    from stylenet.engine_cache import key

    return key(values.tobytes() for values in stylizer.model.weights.values())


def measure_one(
    unit: Path,
    stylizer: Stylizer,
    objective: Objective,
    photo: Path,
    size: int,
    settings: Mapping[str, Any],
    unseen: UnseenLayers,
    advance: Callable[[], None],
) -> None:
    """One network, one photo, one size: numbers and pictures into a folder, numbers last."""
    import torch

    from stylenet import ruler
    from stylenet.image import open_picture, resize_picture, save_image, to_array, to_picture, write_atomically

    picture = resize_picture(open_picture(photo), size)
    pixels = torch.from_numpy(to_array(picture))
    candidates = {"photo": picture}
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        candidates["network"] = stylizer.paint_pictures([picture])[0]
        seconds.append(time.perf_counter() - start)
    if settings["pictures"] is not None:
        candidates[OTHER] = other_picture(Path(settings["pictures"]), photo, picture.size)
    noise = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(settings["seed"]))
    begin = pixels if settings["init"] == "content" else noise
    keep = [step for step in settings["sheet"] if step <= settings["iterations"]] or [settings["iterations"]]
    rows: dict[str, dict[str, float | None]] = {}

    def measure(name: str, candidate: Image.Image) -> float:
        save_image(candidate, unit / f"{name.replace(' ', '_')}.png")
        tensor = torch.from_numpy(to_array(candidate))  # as its file has it, in 8 bits
        total = ruler.measure(objective, pixels, tensor)
        rows[name] = {"objective": total, **unseen.distances(objective.painting, pixels, tensor)}
        return total

    totals = {name: measure(name, candidate) for name, candidate in candidates.items()}
    until = totals["network"] if settings["stop_when_equalled"] else 0.0
    curve = ruler.gatys_curve(objective, pixels, begin, settings["iterations"], keep, advance, until)
    for step, kept in curve.pictures.items():
        measure(f"Gatys {step}", to_picture(kept.numpy()))
    for name in totals.keys() - {"photo"}:
        rows[name]["iterations"] = ruler.equalled(curve.totals, totals[name])
    save_image(to_picture(objective.painting.cpu().numpy()), unit / "painting.png")
    numbers = {
        "network": fingerprint(stylizer),
        "size": size,
        "photo": photo.name,
        "network_seconds": min(seconds),
        "totals": curve.totals,
        "seconds": curve.seconds,
        "rows": rows,
    }
    write_atomically(unit / "numbers.json", json.dumps(numbers, indent=1).encode())


def other_picture(folder: Path, photo: Path, size: tuple[int, int]) -> Image.Image:
    """Another program's picture of a photo, by its name, at the size that is measured."""
    from PIL import Image

    from stylenet.image import find_pictures, open_picture

    found = [path for path in find_pictures(folder) if path.stem == photo.stem]
    if not found:
        raise ConfigError(f"pictures={folder} holds no picture named {photo.stem}.")
    return open_picture(found[0]).resize(size, Image.Resampling.LANCZOS)


def finish(folder: Path, settings: dict[str, Any], networks: list[str]) -> None:
    """Sum up, report, and say where everything is."""
    from rich.console import Console

    from stylenet import report
    from stylenet.dashboards import Dashboards
    from stylenet.image import open_picture

    measured = report.read(folder / "measured", networks, settings["sizes"])
    summary = report.summarize(measured)
    page = report.write(folder, settings, measured, summary)
    Console().print(report.table(summary))
    dashboards = Dashboards(settings.get("logger"), settings, folder, "evaluate")
    for step, (name, row) in enumerate(summary.items()):
        values = {f"{name}/{key}": value for key, value in row.items() if isinstance(value, float)}
        dashboards.log(values, step)
    dashboards.show(open_picture(folder / "curves.png"), 0)
    print(f"Page:    {shortest(page)}")
    print(f"Numbers: {shortest(folder / 'results.json')}")
    print(f"Plot:    {shortest(folder / 'curves.png')}")
    for line in dashboards.close():
        print(f"Watch:  {line}")


main = hydra_program("evaluate", evaluate)

if __name__ == "__main__":
    main()
