"""Optimising pixels for real, small: real photographs and paintings, the real VGG19, a few dozen iterations."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
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

from stylenet.color import color_statistics, luma
from stylenet.data import SAMPLE
from stylenet.descent import computing_in, descend
from stylenet.easel import STATE, load_state
from stylenet.errors import ConfigError, StylenetError
from stylenet.gatys import Painter, plan
from stylenet.image import open_picture, to_array
from stylenet.losses import PerceptualLoss, gram_matrix
from stylenet.optimize import make_easel, optimize
from stylenet.program import CONFIGS, register_resolvers
from stylenet.styles import find_painting
from stylenet.vgg import Encoder

SMALL = ["size=64", "coarsest=32", "iterations=2", "preview_every=2"]
PHOTO = f"content={SAMPLE / 'dog.jpg'}"


def make_config(folder: Path, *overrides: str) -> DictConfig:
    register_resolvers()
    folder.mkdir(parents=True, exist_ok=True)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("optimize", [*SMALL, f"folder={folder}", *overrides])


def curve(cfg: DictConfig) -> list[float]:
    """The objective over a whole descent."""
    easel = make_easel(cfg)
    rate = cfg.learning_rates[cfg.optimizer]
    return [losses["total"] for _, losses in easel.painter.paint(easel.state, cfg.optimizer, rate)]


def pixels(path: Path) -> np.ndarray:
    return to_array(open_picture(path))


def test_lbfgs_brings_the_objective_of_a_photo_down(tmp_path: Path) -> None:
    """Without a line search a step may overshoot, rarely; what it lost is won back within five iterations."""
    values = curve(make_config(tmp_path, PHOTO, "scales=[1]", "iterations=35"))
    lowest = [min(values[start : start + 5]) for start in range(0, 35, 5)]
    assert values[-1] < values[0] / 2.5
    assert all(after < 0.99 * before for before, after in pairwise(lowest))
    assert sum(after > before for before, after in pairwise(values)) <= 4


def gradient(pixels: torch.Tensor, painter: Painter, targets: Painter) -> torch.Tensor:
    """Of a picture, as `painter` computes it, towards what `targets` has made of photo and painting."""
    stage = painter.stages[-1]
    loss = targets.loss(stage)
    content = targets.content(stage, loss)
    leaf = pixels.clone().requires_grad_()
    with computing_in(painter.precision, leaf.device):
        total = loss(leaf, content)["total"]
    return torch.autograd.grad(total, leaf)[0]


def test_lbfgs_comes_as_far_in_bfloat16(tmp_path: Path) -> None:
    """Judged in float32, 40 iterations in bfloat16 come further than 30 in float32: rounded features do not stop it."""
    judged = {}
    judge = make_easel(make_config(tmp_path / "judge", PHOTO, "scales=[1]", "precision=32-true")).painter
    stage = judge.stages[-1]
    loss = judge.loss(stage)
    content = judge.content(stage, loss)
    for precision, iterations in (("32-true", 30), ("bf16-mixed", 40)):
        easel = make_easel(
            make_config(tmp_path / precision, PHOTO, "scales=[1]", f"iterations={iterations}", f"precision={precision}")
        )
        for state, _ in easel.painter.paint(easel.state, "spectral", 1.0):
            pixels = state.pixels
        with torch.no_grad():
            judged[precision] = float(loss(pixels, content)["total"])
    assert judged["bf16-mixed"] < judged["32-true"]


def test_bfloat16_rounds_paintings_as_it_rounds_pictures(tmp_path: Path) -> None:
    """Where a style is nearly reached, what rounding does to both sides of the difference has to cancel out.

    How much of it does varies from iteration to iteration: so several are looked at.
    """
    exact, rounded = (
        make_easel(make_config(tmp_path / name, PHOTO, "scales=[1]", "iterations=80", f"precision={name}"))
        for name in ("32-true", "bf16-mixed")
    )
    alike = unlike = 0.0
    for state, _ in exact.painter.paint(exact.state, "spectral", 1.0):
        if state.iteration in range(30, 81, 10):
            expected = gradient(state.pixels, exact.painter, exact.painter)
            alike += float((gradient(state.pixels, rounded.painter, rounded.painter) - expected).norm())
            unlike += float((gradient(state.pixels, rounded.painter, exact.painter) - expected).norm())
    assert alike < 0.75 * unlike


def test_each_scale_begins_where_the_one_before_stopped(tmp_path: Path) -> None:
    coarse_to_fine = curve(make_config(tmp_path, PHOTO, "scales=[0.5,1]", "iterations=[20,5]"))
    fine = curve(make_config(tmp_path, PHOTO, "scales=[1]", "iterations=5"))
    assert len(coarse_to_fine) == 25
    assert coarse_to_fine[-1] < 0.7 * fine[-1]


def test_first_step_of_lbfgs_measures_curvature() -> None:
    """A million values in one round valley: after one small step the second one lands near its bottom."""
    values = torch.ones(1000, 1000, requires_grad=True)
    steps = list(descend([values], lambda: {"total": 1e-6 * values.square().sum()}, "lbfgs", 4, 1.0))
    assert steps[0].losses["total"] == pytest.approx(1)
    assert steps[1].losses["total"] == pytest.approx((1 - 1 / 255) ** 2, abs=1e-3)
    assert steps[3].losses["total"] < 1e-6


def test_adam_descends_too(tmp_path: Path) -> None:
    values = curve(make_config(tmp_path, PHOTO, "scales=[1]", "iterations=10", "optimizer=adam"))
    assert values[-1] < values[0] / 1.3


def style_errors(picture: Image.Image, painting: Image.Image, layers: list[str]) -> dict[str, float]:
    """Relative errors of a picture's Gram matrices by the textbook, apart from `losses.PerceptualLoss`."""
    encoder = Encoder(layers)
    with torch.no_grad():
        found, wanted = (encoder(torch.from_numpy(to_array(image))) for image in (picture, painting))
    grams = {name: (gram_matrix(found[name]), gram_matrix(wanted[name])) for name in layers}
    return {name: float((g - t).norm() / t.norm()) for name, (g, t) in grams.items()}


def test_texture_matches_the_paintings_gram_matrices(tmp_path: Path) -> None:
    """Three times closer than two halves of one painting are to each other, as a file of 8 bits."""
    layers = ["conv1_1", "conv2_1", "conv3_1", "conv4_1"]
    optimize(make_config(tmp_path, "content=null", "style=great_wave", "scales=[0.5,1]", "iterations=40"))
    painting = open_picture(find_painting("great_wave"))
    painting = painting.resize((round(painting.width * 64 / painting.height), 64), Image.Resampling.LANCZOS)
    left, right = (painting.crop((x, 0, x + painting.width // 2, 64)) for x in (0, painting.width // 2))
    halves = style_errors(left, right, layers)
    errors = style_errors(open_picture(tmp_path / "texture_great_wave.jpg"), painting, layers)
    for name in layers:
        assert errors[name] < min(0.2, halves[name] / 3), (name, errors, halves)


def test_texture_has_the_size_asked_for(tmp_path: Path) -> None:
    optimize(make_config(tmp_path, "content=null", "size=[90,50]"))
    assert open_picture(tmp_path / "texture_starry_night.jpg").size == (90, 50)


def test_seamless_texture_is_seen_alike_wherever_it_is_cut(tmp_path: Path) -> None:
    """The objective does not change when the picture is rolled, which it does without `seamless`."""
    changes = []
    for seamless in ("true", "false"):
        easel = make_easel(make_config(tmp_path, "content=null", "size=64", f"seamless={seamless}"))
        loss = easel.painter.make_loss([torch.from_numpy(to_array(easel.painter.paintings[0].resize((96, 64))))])
        picture = torch.from_numpy(pixels(SAMPLE / "cat.jpg"))[..., :64, :64]
        with torch.no_grad():
            here, there = (float(loss(image, {})["total"]) for image in (picture, picture.roll((16, 32), (2, 3))))
        changes.append(abs(there / here - 1))
    assert changes[0] < 1e-4
    assert changes[1] > 100 * changes[0]


def seam(picture: np.ndarray) -> float:
    """The difference across the wrap, relative to the mean difference of neighbours inside."""
    across = np.abs(picture[..., 0] - picture[..., -1]).mean() + np.abs(picture[..., 0, :] - picture[..., -1, :]).mean()
    inside = np.abs(np.diff(picture, axis=3)).mean() + np.abs(np.diff(picture, axis=2)).mean()
    return float(across / inside)


def test_seamless_texture_has_no_seam(tmp_path: Path) -> None:
    settings = ["content=null", "size=70", "scales=[0.5,1]", "iterations=25", "style=great_wave"]
    optimize(make_config(tmp_path / "tile", *settings, "seamless=true"))
    optimize(make_config(tmp_path / "cut", *settings))
    tile, cut = (pixels(tmp_path / name / "texture_great_wave.jpg") for name in ("tile", "cut"))
    assert tile.shape == (1, 3, 64, 64)  # the nearest multiple of 16
    assert seam(tile) < 1.25
    assert seam(cut) > 1.5


def test_luminance_keeps_the_colours_in_their_places(tmp_path: Path) -> None:
    optimize(make_config(tmp_path, PHOTO, "preserve_color=luminance", "iterations=8"))
    painted = pixels(tmp_path / "dog_starry_night.jpg")
    photo = to_array(open_picture(SAMPLE / "dog.jpg").resize(painted.shape[:1:-1], Image.Resampling.LANCZOS))
    assert np.abs(luma(painted) - luma(photo)).mean() > 0.02
    chroma = np.abs((painted - luma(painted)) - (photo - luma(photo))).mean()
    assert chroma < 0.02  # JPEG's rounding, and colours that do not exist at the new luminance


def test_histogram_keeps_the_palette(tmp_path: Path) -> None:
    """The blue painting leaves a brown dog's photo brown."""
    for name, color in (("kept", "histogram"), ("lost", "null")):
        optimize(
            make_config(tmp_path / name, PHOTO, f"preserve_color={color}", "size=40", "scales=[1]", "iterations=30")
        )
    photo, _ = color_statistics(open_picture(SAMPLE / "dog.jpg"))
    kept, lost = (
        float(np.abs(color_statistics(open_picture(tmp_path / name / "dog_starry_night.jpg"))[0] - photo).max())
        for name in ("kept", "lost")
    )
    assert kept < 0.05
    assert lost > 2 * kept


def test_several_paintings_by_weight(encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor) -> None:
    """The target is the weighted mean of the targets; the weights need not add up to 1."""

    def target(style: Any, shares: Any) -> torch.Tensor:
        weights = {"relu2_1": 1.0}
        return PerceptualLoss(encoder, style, {}, weights, 0.0, "gram", "relative", shares).style_target_relu2_1  # type: ignore[return-value]

    mixed = target([painting, photo], [6, 2])
    assert torch.allclose(mixed, 0.75 * target(painting, None) + 0.25 * target(photo, None))
    assert torch.allclose(target([painting, photo], [1, 0]), target(painting, None))


def test_two_paintings_from_the_command_line(tmp_path: Path, run_program: Program) -> None:
    arguments = [PHOTO, "style.image=[starry_night,great_wave]", "style.weights=[0.6,0.4]", *SMALL]
    result = run_program("optimize", arguments)
    assert result.returncode == 0, result.stderr
    (picture,) = tmp_path.glob("runs/optimize/*/dog_starry_night_great_wave.jpg")
    assert f"The picture: {picture.relative_to(tmp_path)}" in result.stdout
    assert re.search(r"iteration 2 of 2, \d:\d\d:\d\d left, .*total \d", result.stdout)


def test_resumed_run_goes_on_with_the_same_pixels(tmp_path: Path) -> None:
    settings = [PHOTO, "scales=[0.5,1]", "iterations=4", "optimizer=adam"]
    stopped = make_easel(make_config(tmp_path / "stopped", *settings))
    for state, _ in stopped.painter.paint(stopped.state, "adam", 0.03):
        if state[1:] == (1, 2):
            stopped.state = state
            break
    stopped.keep()
    resumed = make_easel(make_config(tmp_path / "resumed", *settings, f"resume={tmp_path / 'stopped'}"))
    assert torch.equal(resumed.state.pixels, stopped.state.pixels)
    assert resumed.state[1:] == (1, 2)
    steps = [state[1:] for state, _ in resumed.painter.paint(resumed.state, "adam", 0.03)]
    assert steps == [(1, 3), (1, 4)]


def test_run_that_was_done_is_resumed_to_the_same_picture(tmp_path: Path) -> None:
    optimize(make_config(tmp_path / "done", PHOTO))
    optimize(make_config(tmp_path / "again", PHOTO, f"resume={tmp_path / 'done'}"))
    first, second = (tmp_path / name / "dog_starry_night.jpg" for name in ("done", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_the_picture(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "dog.jpg", tmp_path / "my dog.jpg")
    settings = ["content=my dog.jpg", "size=64", "scales=[1]", "preview_every=1"]
    command = [sys.executable, "-u", "-m", "stylenet.optimize", *settings, "iterations=500"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "iteration 3 of 500" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    (folder,) = tmp_path.glob("runs/optimize/*")
    assert f"The picture as it is: {folder.relative_to(tmp_path)}/preview.jpg" in rest
    assert open_picture(folder / "preview.jpg").height == 64
    (resume,) = re.findall(r"Resume: (python -m stylenet\.optimize 'content=my dog\.jpg'.* resume=\S+)", rest)
    assert f"resume={folder.relative_to(tmp_path)}" in resume
    stages = plan(85, 64, [1], 500, 32, 1)
    assert load_state(folder, stages).iteration >= 3


def test_dashboards_previews_and_output(tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "painted.png"
    settings = [PHOTO, "logger=[tensorboard,csv]", "keep_previews=true", f"output={output}"]
    optimize(make_config(tmp_path / "run", *settings))
    assert open_picture(output).height == 64
    names = sorted(path.name for path in (tmp_path / "run" / "previews").iterdir())
    assert names == ["iteration_00002.jpg", "iteration_00004.jpg"]
    assert (tmp_path / "run" / STATE).is_file()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"optimize/total", "optimize/style/conv5_1"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("optimize/total")) == 4
    assert [event.step for event in events.Images("picture")] == [2, 4]
    header = (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()[0]
    assert "optimize/content" in header


def test_starts_from_a_picture_or_noise(tmp_path: Path) -> None:
    def start(init: str) -> np.ndarray:
        return make_easel(make_config(tmp_path, PHOTO, "scales=[1]", f"init={init}")).state.pixels.numpy()

    photo, noise, cat = start("content"), start("noise"), start(str(SAMPLE / "cat.jpg"))
    assert photo.shape == noise.shape == cat.shape
    assert np.array_equal(photo, start("null"))
    assert np.abs(noise - photo).mean() > 0.1
    assert np.abs(cat - photo).mean() > 0.1
    assert np.array_equal(noise, start("noise"))


def test_plan() -> None:
    stages = plan(768, 512, [0.1, 0.25, 0.5, 1], [4, 3, 2, 1], 64, 1)
    assert [stage[:3] for stage in stages] == [(192, 128, 3), (384, 256, 2), (768, 512, 1)]
    assert [stage[:2] for stage in plan(100, 90, [1], 7, 64, 16)] == [(96, 96)]
    assert [stage.width for stage in plan(40, 40, [0.5, 1], 7, 64, 1)] == [40]


def test_painting_is_as_large_beside_a_coarse_picture_as_beside_the_final_one(tmp_path: Path) -> None:
    painter = make_easel(make_config(tmp_path, PHOTO, "scales=[0.5,1]", "style.size=96")).painter
    make_loss, seen = painter.make_loss, []

    def spy(paintings: Sequence[torch.Tensor]) -> PerceptualLoss:
        seen.append(min(paintings[0].shape[2:]))
        return make_loss(paintings)

    painter.make_loss = spy
    list(painter.paint(painter.start(painter.photo, 0), "lbfgs", 1.0))
    assert seen == [48, 96]


def bad(*overrides: str) -> Any:
    return pytest.param(overrides[:-1], overrides[-1], id=" ".join(overrides[:-1])[-60:])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        bad("content=no/such.jpg", "There is no picture no/such.jpg"),
        bad("style.image=no/such.jpg", "There is no painting no/such.jpg"),
        bad("style.image=[starry_night,no_such]", "There is no painting no_such"),
        bad("style.weights=[1,2]", "1 paintings need 1 weights"),
        bad("style.image=[starry_night,night_cafe]", "style.weights=[1,-1]", "must be a number, 0 or more, not -1"),
        bad("size=0", "size must be a whole number, 32 or more, not 0"),
        bad("size=big", "size must be a whole number"),
        bad("size=[64,64]", "[width,height] for a texture"),
        bad("content=null", "size=[64,64,64]", "[width,height] for a texture"),
        bad("scales=[1,0.5]", "scales must rise"),
        bad("scales=[]", "scales must rise"),
        bad("iterations=[1,2]", "one for each of the 3 scales"),
        bad("iterations=0", "iterations must be a whole number"),
        bad("optimizer=sgd", "optimizer must be spectral or lbfgs or adam"),
        bad("learning_rates.spectral=fast", "learning_rate must be a number"),
        bad("preserve_color=hue", "preserve_color must be luminance, histogram or null"),
        bad("content=null", "preserve_color=luminance", "need a photo"),
        bad("seamless=true", "a photo does not"),
        bad("init=no/such.jpg", "There is no picture no/such.jpg"),
        bad("resume=no/such/run", "resume=no/such/run"),
        bad("output=painted.xyz", "painted.xyz needs an ending"),
        bad("loss.statistic=mean", "loss.statistic"),
        bad("precision=16-true", "precision must be auto, 32-true or bf16-mixed, not '16-true'"),
        bad("+loss.style_weights.conv9_1=1", "no layer 'conv9_1'"),
        bad("encoder.padding=none", "Padding is one of zeros, reflect, circular"),
        bad("preview_every=0", "preview_every must be a whole number"),
    ],
)
def test_bad_settings_end_before_the_first_iteration(tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    content = [] if any(word.startswith("content=") for word in overrides) else [PHOTO]
    with pytest.raises(StylenetError) as caught:
        optimize(make_config(tmp_path, *content, *overrides))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.jpg"))


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "mine.jpg"
    output.write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"mine\.jpg exists already"):
        optimize(make_config(tmp_path, PHOTO, f"output={output}"))
    assert output.read_bytes() == b"precious"


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    optimize(make_config(tmp_path / "run", PHOTO))
    with pytest.raises(ConfigError, match="resume it with the settings that it was started with"):
        optimize(make_config(tmp_path / "other", PHOTO, f"resume={tmp_path / 'run'}", "size=70"))


def test_diverging_descent_ends_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StylenetError, match="no longer finite"):
        optimize(make_config(tmp_path, PHOTO, "optimizer=lbfgs", "learning_rates.lbfgs=1e30", "iterations=20"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["style=stary_night"], ["'stary_night'", "Did you mean starry_night?"]),
        (["contnet=photo.jpg"], ["contnet"]),
        (["content=photo.jpg"], ["There is no picture photo.jpg"]),
    ],
)
def test_command_line_ends_in_one_sentence(run_program: Program, arguments: list[str], words: list[str]) -> None:
    assert_one_sentence(run_program("optimize", arguments), *words)


def test_help_teaches(run_program: Program) -> None:
    result = run_program("optimize", ["--help"])
    assert result.returncode == 0
    for words in ("content=photo.jpg", "starry_night", "seamless", "conv4_2", "preserve_color"):
        assert words in result.stdout
