"""Dreams and what excites neurons: the real network, small pictures."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Program, assert_one_sentence
from hydra import compose, initialize_config_dir
from PIL import Image

from stylenet.contact_sheet import contact_sheet
from stylenet.data import SAMPLE
from stylenet.deepdream import Recipe, dream, octave_sizes
from stylenet.descent import descend
from stylenet.dream import dream as run_dream
from stylenet.errors import PictureError, StylenetError
from stylenet.excitation import before_relu, excitation, favourites, mean_activations, view
from stylenet.fourier import FourierPictures
from stylenet.program import CONFIGS, register_resolvers
from stylenet.vgg import Encoder

RECIPE = Recipe(octaves=2, octave_scale=1.4, iterations=4, step_size=0.006, jitter=4, seed=0)
QUICK = ["dream.octaves=1", "dream.iterations=3", "size=64", "layer=relu2_1"]


@pytest.fixture(scope="module")
def seer() -> Encoder:
    return Encoder(["conv3_1", "relu3_1", "relu4_1"])


def activation(encoder: Encoder, layer: str, image: torch.Tensor, channels: slice = slice(None)) -> float:
    with torch.no_grad():
        return float(encoder(image, [layer])[layer][:, channels].square().mean().sqrt())


def test_a_dream_raises_its_layers_activation(seer: Encoder, photo: torch.Tensor) -> None:
    *_, last = dream(seer, photo, "relu3_1", [], RECIPE)
    assert last.pixels.shape == photo.shape
    assert last.pixels.min() >= 0 and last.pixels.max() <= 1
    assert activation(seer, "relu3_1", last.pixels) > 1.3 * activation(seer, "relu3_1", photo)
    difference = (last.pixels - photo).abs().mean()
    assert 0.01 < difference < 0.15  # changed, and still the photo


def test_a_dream_of_some_channels_raises_those(seer: Encoder, photo: torch.Tensor) -> None:
    *_, last = dream(seer, photo, "relu3_1", [7], RECIPE)
    own, all_channels = (
        activation(seer, "relu3_1", last.pixels, which) / activation(seer, "relu3_1", photo, which)
        for which in (slice(7, 8), slice(None))
    )
    assert own > 1.5 * all_channels


def test_the_same_seed_dreams_the_same(seer: Encoder, photo: torch.Tensor) -> None:
    first, again, other = (
        list(dream(seer, photo, "relu3_1", [], RECIPE._replace(seed=seed, octaves=1)))[-1] for seed in (0, 0, 1)
    )
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)


def test_octaves_grow_to_the_photos_size_and_too_small_ones_are_left_out() -> None:
    recipe = RECIPE._replace(octaves=4, octave_scale=2.0)
    assert octave_sizes(200, 300, recipe) == [(50, 75), (100, 150), (200, 300)]
    with pytest.raises(PictureError, match="40 x 300 px; a dream needs 48 x 48"):
        octave_sizes(300, 40, recipe)


def test_pictures_of_waves_begin_nearly_grey_and_have_their_size() -> None:
    pictures = FourierPictures(2, 48, 63, seed=0)()
    assert pictures.shape == (2, 3, 48, 63)
    assert pictures.mean().item() == pytest.approx(0.5, abs=0.05)
    assert pictures.std() < 0.2


def test_a_channel_is_excited_more_than_by_any_photograph(seer: Encoder) -> None:
    """Also without the layer's best photograph being small: its mean over the picture is what is compared."""
    channels = [5, 40]
    pictures = FourierPictures(len(channels), 64, 64, seed=0)
    generator = torch.Generator().manual_seed(0)
    layer = before_relu("relu3_1")

    def objective() -> dict[str, torch.Tensor]:
        features = seer(view(pictures(), generator), [layer])[layer]
        return {"total": -excitation(features, channels, center=False).sum()}

    for _ in descend([pictures.coefficients], objective, "adam", 40, 0.05):
        pass
    photographs = mean_activations(seer, "relu3_1", sorted(SAMPLE.glob("*.jpg")))
    assert len(photographs) == 69
    with torch.no_grad():
        own = excitation(seer(pictures(), ["relu3_1"])["relu3_1"], channels, center=False)
    for index, channel in enumerate(channels):
        assert own[index] > photographs[:, channel].max()


def test_the_middle_neuron_is_the_middle_of_its_own_channel() -> None:
    features = torch.zeros(2, 3, 5, 7)
    features[0, 2, 2, 3], features[1, 0, 2, 3] = 4.0, 6.0
    assert excitation(features, [2, 0], center=True).tolist() == [4.0, 6.0]
    assert excitation(features, [2, 0], center=False).tolist() == pytest.approx([4 / 35, 6 / 35])


def test_views_differ_a_little_and_keep_the_picture(photo: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = view(photo, generator), view(photo, generator)
    assert first.shape == photo.shape
    assert 0 < (first - second).abs().mean() < 0.2
    flat = torch.full((1, 3, 32, 32), 0.3)
    assert torch.allclose(view(flat, generator), flat, atol=1e-5)


def test_a_photo_excites_its_favourites_more_than_others_do(seer: Encoder) -> None:
    own = SAMPLE / "dog.jpg"
    channels = favourites(seer, "relu4_1", own, 5)
    others = [SAMPLE / f"{name}.jpg" for name in ("petra", "eiffel_tower", "machu_picchu")]
    activations = mean_activations(seer, "relu4_1", [own, *others])[:, channels]
    assert (activations[0] > activations[1:].mean(0)).all()


def test_a_contact_sheet_holds_every_picture_and_its_label() -> None:
    images = np.stack([np.full((3, 20, 40), value, np.float32) for value in (0.0, 0.5, 1.0)])
    sheet = np.asarray(contact_sheet(images, ["a", "", "b"]))
    assert sheet.shape == (2 * (20 + 18 + 6) + 6, 2 * (40 + 6) + 6, 3)
    assert sheet[16, 20].tolist() == [0, 0, 0]
    assert sheet[16, 66].tolist() == [128, 128, 128]
    assert (sheet[28:44, 6:46] < 128).any()  # the label
    assert (sheet[28:44, 52:92] == 255).all()  # none
    assert contact_sheet(images[:1], ["a"]).size == (40, 20)


def test_the_program_dreams(run_program: Program, tmp_path: Path) -> None:
    photo = str(SAMPLE / "dog.jpg")
    result = run_program("dream", [f"content={photo}", *QUICK, "output=dreamt.png", "logger=csv", "preview_every=2"])
    assert result.returncode == 0, result.stderr
    assert "dreamt.png" in result.stdout
    with Image.open(tmp_path / "dreamt.png") as dreamt, Image.open(photo) as original:
        assert min(dreamt.size) == 64
        assert dreamt.width / dreamt.height == pytest.approx(original.width / original.height, rel=0.02)
    assert list(tmp_path.rglob("preview.jpg"))
    assert "dream/total" in next(tmp_path.rglob("metrics.csv")).read_text()
    again = run_program("dream", [f"content={photo}", *QUICK, "output=dreamt.png"])
    assert_one_sentence(again, "dreamt.png exists already")


def test_the_program_shows_what_excites_channels(run_program: Program, tmp_path: Path) -> None:
    settings = ["layer=relu2_1", "channels=[3,17]", "size=48", "neuron.iterations=3", "output=sheet.png"]
    result = run_program("dream", settings)
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 54 + 6, 48 + 18 + 12)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_the_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "stylenet.dream", f"content={SAMPLE / 'dog.jpg'}", *QUICK]
    command += ["dream.iterations=100000", "preview_every=1", "output=kept.png"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "iteration 2" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "Stopped" in rest
    assert "Traceback" not in rest
    with Image.open(tmp_path / "kept.png") as kept:
        assert min(kept.size) == 64


def test_a_photo_that_is_not_there_gets_one_sentence(run_program: Program) -> None:
    assert_one_sentence(run_program("dream", ["content=no/such.jpg"]), "no/such.jpg")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("layer=relu9_1", "no layer 'relu9_1'"),
        ("channels=[512]", "relu4_3 has the channels 0 to 511, not 512"),
        ("channels=3", "channels must be a list .* not 3"),
        ("like=dog.jpg", "one of the two"),
        ("neuron.where=corner", "channel or center, not 'corner'"),
        ("dream.octave_scale=1", "dream.octave_scale .* not 1"),
        ("output=sheet.xyz", "sheet.xyz"),
    ],
)
def test_bad_settings_are_named_before_anything_is_made(tmp_path: Path, setting: str, words: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("dream", ["channels=[3]", f"folder={tmp_path / 'run'}", setting])
    with pytest.raises(StylenetError, match=words):
        run_dream(cfg)
    assert not (tmp_path / "run").exists()
