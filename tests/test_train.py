"""Training for real, small: real photographs, the real VGG19, a few dozen steps."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Program, assert_one_sentence
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stylenet import Stylizer, checkpoint
from stylenet.data import SAMPLE
from stylenet.errors import ConfigError, PictureError, StylenetError
from stylenet.program import CONFIGS, build, register_resolvers
from stylenet.styles import PAINTINGS, find_painting
from stylenet.train import build_module, find_checkpoint, train

COMPARE = Path(__file__).parents[1] / "scripts" / "compare_runs.py"
SMALL = [
    "data=sample",
    "data.size=64",
    "data.workers=0",
    "style.size=128",
    "model.widths=[16,32,48]",
    "model.residual_blocks=2",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
]


def make_config(folder: Path, *overrides: str) -> DictConfig:
    register_resolvers()
    folder.mkdir(parents=True, exist_ok=True)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*SMALL, f"folder={folder}", *overrides])


def held_out_loss(cfg: DictConfig, weights: dict[str, torch.Tensor] | None = None) -> float:
    """Total loss of a network on the held-out photographs; untrained without weights."""
    torch.manual_seed(cfg.seed)
    module = build_module(cfg)
    if weights is not None:
        module.net.load_state_dict(weights)
    with torch.no_grad():
        batches = [batch.photos for batch in build(cfg.data).val_dataloader()]
        totals = [module.loss(module(photos), module.loss.content_targets(photos))["total"] for photos in batches]
    return float(torch.stack(totals).mean())


def read(path: Path) -> np.ndarray:
    """A picture file's pixels: (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), float)


class Run:
    """A finished run: its configuration, its folder, its model file."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.folder = Path(cfg.folder)
        self.model = self.folder / f"{cfg.style.name}.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    overrides = ["steps=40", "logger=[wandb,tensorboard,csv]", "logger.wandb.mode=offline"]
    overrides += ["callbacks.panels.every_n_steps=20", "trainer.val_check_interval=20"]
    cfg = make_config(folder, *overrides)
    train(cfg)
    yield Run(cfg)


def test_held_out_loss_falls(run: Run) -> None:
    net, _ = checkpoint.load(run.model)
    assert held_out_loss(run.cfg, net.state_dict()) < held_out_loss(run.cfg) / 2.5


def test_model_file_paints_and_describes_itself(run: Run) -> None:
    stylizer = Stylizer.load(run.model)
    painted = stylizer(SAMPLE / "owl.jpg")
    photo = read(SAMPLE / "owl.jpg")
    assert np.asarray(painted).shape == photo.shape
    assert np.abs(np.asarray(painted, float) - photo).mean() > 5
    card = stylizer.card
    assert card.style == "starry_night"
    assert card.training["steps"] == card.training["steps_done"] == 40
    assert card.training["loss"]["style_weights"]["relu4_1"] == 1.0
    assert 0 < card.losses["train/total"] < card.losses["train/content"] * 10
    with (run.folder / "csv" / "metrics.csv").open(newline="") as lines:
        last = [row["held_out/total"] for row in csv.DictReader(lines) if row["held_out/total"]][-1]
    assert card.losses["held_out/total"] == pytest.approx(float(last))  # after the last step, not the look before
    with Image.open(io.BytesIO(card.thumbnail)) as thumbnail:
        assert max(thumbnail.size) == 128


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (2, 0), (3, 1), (20, 0.05), (100, 0.3)])
def test_the_learning_rate_rises_and_falls(tmp_path: Path, steps: int, warmup: float) -> None:
    cfg = make_config(tmp_path, f"steps={steps}", f"optimizer.warmup_fraction={warmup}", "style.size=48")
    configured = build_module(cfg).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert 0 <= min(rates) <= max(rates) <= cfg.optimizer.learning_rate
    assert abs(peak - warmup * steps) <= 1


def test_the_content_leads_at_first(tmp_path: Path) -> None:
    module = build_module(make_config(tmp_path, "steps=10", "style.size=48"))
    shares = [module.content_share(step) for step in range(10)]
    assert shares[0] == 4
    assert shares[:7] == sorted(set(shares), reverse=True)
    assert shares[6:] == [1] * 4


def test_a_lead_of_the_content_keeps_more_of_the_photo(tmp_path: Path) -> None:
    content = []
    for lead in (1, 8):
        lasting = [f"content_lead={lead}", "content_lead_fraction=1"]
        cfg = make_config(tmp_path / str(lead), "steps=40", "logger=csv", "callbacks.panels.every_n_steps=40", *lasting)
        train(cfg)
        content.append(checkpoint.read_card(Run(cfg).model).losses["held_out/content"])
    assert content[1] < 0.95 * content[0]


def test_a_run_goes_on_with_the_optimizer_it_had(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was trained with algorithm=soap; add that to resume it"):
        train(make_config(tmp_path, f"resume={run.folder}", "algorithm=adam", "steps=60", "logger=csv"))


def test_adam_learns_too_and_another_algorithm_is_refused(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, "algorithm=adam", "steps=20", "logger=csv")
    train(cfg)
    net, card = checkpoint.load(tmp_path / "starry_night.safetensors")
    assert card.training["optimizer"]["algorithm"] == "adam"
    assert held_out_loss(cfg, net.state_dict()) < 0.8 * held_out_loss(cfg)


def test_checkpoint_holds_plain_values_and_no_encoder(run: Run) -> None:
    saved = torch.load(run.folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 40
    assert all(name.startswith("net.") for name in saved["state_dict"])
    assert saved["hyper_parameters"]["style"]["name"] == "starry_night"


def test_panels_show_painting_photographs_and_their_painted_versions(run: Run) -> None:
    panels = sorted((run.folder / "panels").iterdir())
    assert [panel.name for panel in panels] == ["step_000000.jpg", "step_000020.jpg", "step_000040.jpg"]
    first, last = (read(panel) for panel in (panels[0], panels[-1]))
    assert first.shape[0] == 2 * 64 + 3 * 8
    assert first.shape[1] > 6 * 64
    above, below = slice(8, 8 + 64), slice(16 + 64, 16 + 128)  # the photographs, and what became of them
    right = first.shape[1] - 6 * (64 + 8)
    assert np.abs(first[above, right:] - last[above, right:]).mean() < 1
    assert np.abs(first[below, right:] - last[below, right:]).mean() > 5
    photo = next(iter(build(run.cfg.data).val_dataloader())).photos[0]
    painted = np.asarray(Stylizer.load(run.model)(photo), float)
    assert np.abs(last[below, right : right + 64] - painted).mean() < 4  # as it will be painted, edges too


SCALARS = {
    "train/total",
    "train/content",
    "train/content/relu3_1",
    "train/style",
    "train/style/relu1_1",
    "train/style/relu4_1",
    "train/total_variation",
    "train/weave",
    "train/learning_rate",
    "held_out/total",
    "pictures_per_second",
    "memory_gb",
}


def test_tensorboard_holds_curves_and_panels(run: Run) -> None:
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert set(events.Tags()["scalars"]) >= SCALARS
    curve = events.Scalars("train/total")
    assert [event.step for event in curve] == list(range(40))
    assert curve[-1].value < curve[0].value
    panels = events.Images("panel")
    assert [event.step for event in panels] == [0, 20, 40]
    with Image.open(io.BytesIO(panels[-1].encoded_image_string)) as logged:
        assert np.asarray(logged).shape == read(run.folder / "panels" / "step_000040.jpg").shape
    assert events.Images("painting")


def test_csv_holds_the_curves(run: Run) -> None:
    header = (run.folder / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(header) >= SCALARS


def test_runs_are_compared_by_their_minutes(run: Run, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    said = subprocess.run(
        [sys.executable, COMPARE, run.folder, "-o", plot], capture_output=True, text=True, check=True
    ).stdout
    with (run.folder / "csv" / "metrics.csv").open(newline="") as lines:
        looks = [row for row in csv.DictReader(lines) if row["held_out/total"]]
    minutes = [float(row["minutes"]) for row in looks]
    assert minutes == sorted(minutes)
    assert minutes[0] > 0
    assert f"{float(looks[-1]['held_out/total']):.3f}" in said
    assert read(plot).std() > 5
    failed = subprocess.run([sys.executable, COMPARE, tmp_path], capture_output=True, text=True, check=False)
    assert_one_sentence(failed, "no csv/metrics.csv")


def test_wandbs_offline_file_holds_curves_panels_and_settings(run: Run) -> None:
    (folder,) = (run.folder / "wandb").glob("offline-run-*")
    command = ["wandb", "leet", "inspect", "--json", str(folder)]
    output = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    records = [json.loads(line) for line in output.splitlines()]
    text = json.dumps(records)
    for name in SCALARS:
        assert name in text, name
    assert "starry_night" in text
    pictures = list((folder / "files" / "media" / "images").glob("panel_*.png"))
    assert len(pictures) == 3
    assert read(pictures[0]).shape == read(run.folder / "panels" / "step_000000.jpg").shape


def test_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    common = ["steps=4", "logger=csv", "callbacks.keeper.every_n_steps=2"]
    whole = make_config(tmp_path / "whole", *common)
    train(whole)
    train(make_config(tmp_path / "part", *common, "trainer.max_steps=2"))
    train(make_config(tmp_path / "rest", *common, f"resume={tmp_path / 'part'}"))
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "rest", "part")]
    assert [state["global_step"] for state in states] == [4, 4, 2]
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name
    assert not torch.equal(next(iter(states[0]["state_dict"].values())), next(iter(states[2]["state_dict"].values())))


def test_damaged_pictures_are_named_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(SAMPLE / "cat.jpg", photos)
    (photos / "broken.jpg").write_bytes((SAMPLE / "cat.jpg").read_bytes()[:3000])
    train(make_config(tmp_path / "run", "steps=1", "logger=csv", f"data.root={photos}"))
    assert "Unreadable pictures skipped: 1" in caplog.text
    assert str(photos / "broken.jpg") in caplog.text


def test_diverging_run_stops_with_one_sentence_and_keeps_nothing_broken(tmp_path: Path) -> None:
    cfg = make_config(
        tmp_path, "steps=30", "logger=csv", "optimizer.learning_rate=1e30", "callbacks.keeper.every_n_steps=1"
    )
    with pytest.raises(StylenetError, match=r"not? .*finite|no longer finite"):
        train(cfg)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "stylenet.train", *SMALL, "steps=200", "logger=csv"]
    command += ["callbacks.progress.line_every_n_steps=1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3 "):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "Stopped at step" in rest
    (model,) = tmp_path.glob("runs/starry_night/*/starry_night.safetensors")
    (typed,) = re.findall(r"Resume: python -m stylenet\.train (.*)", rest)
    assert shlex.split(typed) == [*command[4:], f"resume={model.parent.relative_to(tmp_path)}"]
    assert checkpoint.read_card(model).training["steps_done"] >= 3
    assert (model.parent / "last.ckpt").is_file()


def test_multirun_trains_several_styles(tmp_path: Path, run_program: Program) -> None:
    result = run_program("train", ["-m", *SMALL, "style=great_wave,night_cafe", "steps=1", "logger=wandb"])
    assert result.returncode == 0, result.stderr
    models = sorted(path.name for path in tmp_path.glob("runs/sweeps/*/*/*.safetensors"))
    assert models == ["great_wave.safetensors", "night_cafe.safetensors"]
    assert len(list(tmp_path.glob("runs/sweeps/*/*/wandb/offline-run-*"))) == 2
    assert result.stdout.count("wandb sync ") == 2


def test_own_painting_and_own_style_file(tmp_path: Path, run_program: Program) -> None:
    shutil.copy(PAINTINGS / "night_cafe.jpg", tmp_path / "my café = 1.jpg")
    style = tmp_path / "mine" / "style"
    style.mkdir(parents=True)
    (style / "cafe.yaml").write_text('image: "my café = 1.jpg"\nsize: 100\nname: cafe\n')
    result = run_program("train", ["--config-dir", "mine", "style=cafe", *SMALL, "steps=1", "logger=csv"])
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("runs/cafe/*/cafe.safetensors"))


def test_an_unlisted_painting_gives_the_run_its_name(tmp_path: Path) -> None:
    shutil.copy(PAINTINGS / "night_cafe.jpg", tmp_path / "lamps.jpg")
    cfg = make_config(tmp_path / "run", f"style.image={tmp_path / 'lamps.jpg'}", "steps=1", "logger=csv")
    train(cfg)
    assert (tmp_path / "run" / "lamps.safetensors").is_file()


STYLES = sorted(path.stem for path in (CONFIGS / "style").glob("*.yaml"))


def test_every_bundled_painting_has_a_style_and_a_source() -> None:
    sources = (PAINTINGS / "SOURCES.md").read_text()
    assert sorted(path.stem for path in PAINTINGS.glob("*.jpg")) == STYLES
    assert all(f"{style}.jpg" in sources for style in STYLES)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_composes_and_builds(tmp_path: Path, style: str) -> None:
    cfg = make_config(tmp_path, f"style={style}", "style.size=48")
    assert cfg.style.name == style
    assert find_painting(cfg.style.image) == PAINTINGS / f"{style}.jpg"


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml")))
def test_every_experiment_composes_and_builds(tmp_path: Path, experiment: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", f"folder={tmp_path}", "data=sample", "style.size=64"])
    build_module(cfg)
    data = build(cfg.data)
    assert data.schedule.steps == cfg.steps == cfg.trainer.max_steps
    for callback in cfg.callbacks.values():
        build(callback)


@pytest.mark.parametrize("loss", sorted(path.stem for path in (CONFIGS / "loss").glob("*.yaml")))
def test_every_loss_composes_and_measures(tmp_path: Path, loss: str, photo: torch.Tensor) -> None:
    module = build_module(make_config(tmp_path, f"loss={loss}"))
    losses = module.loss(photo, module.loss.content_targets(photo.flip(-1)))
    assert losses["total"].item() == pytest.approx((losses["content"] + losses["style"]).item())
    assert losses["style"].item() > 0


def test_the_papers_settings(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["experiment=johnson", f"folder={tmp_path}"])
    assert (cfg.model.widths, cfg.model.residual_blocks, cfg.model.kernel_size) == ([32, 64, 128], 5, 9)
    assert (cfg.steps, cfg.data.batch_size, cfg.data.size) == (40000, 4, 256)
    assert (cfg.optimizer.algorithm, cfg.optimizer.learning_rate) == ("adam", 1e-3)
    assert (cfg.weave_weight, cfg.content_lead) == (0, 1)  # the paper has neither


@pytest.mark.parametrize(("steps", "between"), [(3000, 500), (800, 400), (797, 797), (1, 1), (1100, 550)])
def test_looks_at_the_held_out_photographs_end_with_the_run(tmp_path: Path, steps: int, between: int) -> None:
    assert make_config(tmp_path, f"steps={steps}").trainer.val_check_interval == between


@pytest.mark.parametrize(
    ("init", "steps", "size", "lead"),
    [("null", 1500, 256, 4), ("auto", 200, [256, 512], 1), ("runs/a.safetensors", 200, [256, 512], 1)],
)
def test_a_network_that_can_paint_takes_fewer_steps_and_larger_crops(
    tmp_path: Path, init: str, steps: int, size: int | list[int], lead: int
) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"init={init}", f"folder={tmp_path}"])
    assert cfg.steps == cfg.data.steps == cfg.trainer.max_steps == steps
    assert cfg.data.size == size
    assert cfg.content_lead == lead
    assert make_config(tmp_path, f"init={init}", "steps=5").steps == 5


def bad(*overrides: str) -> Any:
    return pytest.param(overrides[:-1], overrides[-1], id=overrides[0])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        bad("style.image=no/such.jpg", "There is no painting no/such.jpg"),
        bad("loss.style_weights.relu1_1=-1", "loss.style_weights.relu1_1 must be a number, 0 or more, not -1"),
        bad("+loss.content_weights.relu9_9=1", "no layer 'relu9_9'"),
        bad("loss.statistic=mean", "loss.statistic"),
        bad("data.root=no/such/folder", "no/such/folder is no folder"),
        bad("encoder.weights=no/such.pth", "no file no/such.pth"),
        bad("encoder.pooling=median", "'median'"),
        bad("model.widths=[]", "model.widths"),
        bad("resume=no/such/run", "resume=no/such/run"),
        bad("optimizer.learning_rate=fast", "optimizer.learning_rate must be a number"),
        bad("optimizer.algorithm=sgd", "optimizer.algorithm is soap or adam, not 'sgd'"),
        bad("content_lead=-1", "content_lead must be a number, 0 or more, not -1"),
        bad("content_lead_fraction=2", "content_lead_fraction"),
        bad("style.size=8", "style.size must be a whole number, 16 or more"),
        bad("steps=0", "data.steps must be a whole number, 1 or more, not 0"),
    ],
)
def test_bad_settings_end_before_the_first_step(tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises((ConfigError, PictureError, StylenetError)) as caught:
        train(make_config(tmp_path, *overrides, "logger=csv"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["style=stary_night"], ["'stary_night'", "Did you mean starry_night?", "great_wave"]),
        (["stlye=starry_night"], ["stlye"]),
        (["steps=many"], ["steps", "many"]),
        (["style.image=notes.jpg"], ["notes.jpg", "not a picture"]),
    ],
)
def test_command_line_ends_in_one_sentence(
    tmp_path: Path, run_program: Program, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    assert_one_sentence(run_program("train", arguments), *words)


def test_help_teaches(run_program: Program) -> None:
    result = run_program("train", ["--help"])
    assert result.returncode == 0
    for words in ("style=great_wave", "starry_night", "experiment=quick", "learning_rate"):
        assert words in result.stdout


def test_a_reader_that_stops_early_sees_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m stylenet.train --help | head -n 1"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("Train a feed-forward network")
    assert result.stderr == ""


def test_checkpoint_of_a_run_is_found_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    assert find_checkpoint(str(tmp_path)) == tmp_path / "last.ckpt"
    assert find_checkpoint(None) is None


NO_ROOM = """
import torch
from stylenet.program import hydra_program

def task(cfg):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

hydra_program("train", task)()
"""


def test_a_gpu_without_room_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_ROOM, "hydra.run.dir=run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert_one_sentence(result, "The GPU's memory does not suffice", "data.batch_size=1")
