"""The evaluation: its numbers again by hand, its page, other programs' pictures, and going on after a stop."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Program, assert_one_sentence
from hydra import compose, initialize_config_dir
from PIL import Image

from stylenet import Stylizer, checkpoint
from stylenet.checkpoint import BUNDLED
from stylenet.data import SAMPLE
from stylenet.descent import descend
from stylenet.errors import StylenetError
from stylenet.evaluate import evaluate
from stylenet.image import load_image, open_picture, resize_picture, save_image, to_array
from stylenet.losses import PerceptualLoss, content_loss, gram_matrix, style_loss
from stylenet.program import CONFIGS, register_resolvers
from stylenet.ruler import equalled, objective_of
from stylenet.styles import PAINTINGS
from stylenet.vgg import Encoder

NETWORK = BUNDLED / "starry_night.safetensors"
QUICK = ["sizes=[64]", "iterations=40", "sheet=[5]", f"networks=[{NETWORK}]", "count=2"]
UNSEEN = ["relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_1"]


def run(folder: Path, *settings: str) -> dict[str, Any]:
    """Evaluate, and read the numbers."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        evaluate(compose("evaluate", [*QUICK, f"folder={folder}", *settings]))
    numbers: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return numbers


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished evaluation of two photos, with the same network's pictures as those of another program."""
    folder, pictures = tmp_path_factory.mktemp("evaluation"), tmp_path_factory.mktemp("pictures")
    stylizer = Stylizer.load(NETWORK)
    for name in ("neuschwanstein_castle", "dog"):
        photo = resize_picture(open_picture(SAMPLE / f"{name}.jpg"), 64)
        save_image(stylizer.paint_pictures([photo])[0], pictures / f"{name}.png")
    run(folder, f"pictures={pictures}", f"photos={_photos(folder / 'photos')}", "stop_when_equalled=false")
    return folder, pictures


def _photos(folder: Path) -> Path:
    folder.mkdir()
    for name in ("neuschwanstein_castle", "dog"):
        shutil.copy(SAMPLE / f"{name}.jpg", folder)
    return folder


def read(folder: Path, photo: str) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(
        (folder / "measured" / "starry_night" / f"{photo}_64" / "numbers.json").read_text()
    )
    return numbers


def test_the_numbers_of_one_picture_by_hand(folders: tuple[Path, Path]) -> None:
    numbers = read(folders[0], "dog")
    photo = torch.from_numpy(to_array(resize_picture(open_picture(SAMPLE / "dog.jpg"), 64)))
    painted = torch.from_numpy(load_image(folders[1] / "dog.png"))
    painting = torch.from_numpy(load_image(PAINTINGS / "starry_night.jpg", 384))
    style = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu4_1"), 1.0)
    loss = PerceptualLoss(Encoder(style), painting, {"relu3_1": 0.5}, style, 0.0, "gram", "relative")
    content = loss.content_targets(photo)
    with torch.no_grad():
        objective = float(loss(painted, content)["total"])
    assert numbers["rows"]["network"]["objective"] == pytest.approx(objective, rel=1e-3)

    pixels = torch.rand(photo.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    totals = []
    for step in descend([pixels], lambda: loss(pixels, content), "lbfgs", 40, 1.0):
        totals.append(step.losses["total"])
        pixels.data.clamp_(0, 1)
    assert numbers["totals"] == pytest.approx(totals, rel=1e-3)
    after = next(index for index, total in enumerate(totals) if total <= objective)
    iterations = after - (objective - totals[after]) / (totals[after - 1] - totals[after])
    assert numbers["rows"]["network"]["iterations"] == pytest.approx(iterations, abs=0.1)

    encoder = Encoder(UNSEEN)
    with torch.no_grad():
        ours, there, target = encoder(painted), encoder(photo), encoder(painting)
        far = [float(style_loss(gram_matrix(ours[name]), gram_matrix(target[name]))) for name in UNSEEN]
        apart = float(content_loss(ours["relu4_2"], there["relu4_2"]))
    assert numbers["rows"]["network"]["style"] == pytest.approx(sum(far) / len(far), rel=1e-3)
    assert numbers["rows"]["network"]["content"] == pytest.approx(apart, rel=1e-3)


def test_the_photo_itself_has_all_of_its_content_and_less_of_the_style(folders: tuple[Path, Path]) -> None:
    rows = read(folders[0], "neuschwanstein_castle")["rows"]
    assert rows["photo"]["content"] == pytest.approx(0, abs=1e-3)
    assert rows["photo"]["style"] > rows["network"]["style"]
    assert rows["Gatys 40"]["objective"] < rows["photo"]["objective"]
    assert rows["Gatys 40"]["objective"] < rows["Gatys 5"]["objective"]


def test_another_programs_pictures_are_held_to_the_same_ruler(folders: tuple[Path, Path]) -> None:
    """They are the network's own pictures here, so that every number must be the same."""
    for photo in ("dog", "neuschwanstein_castle"):
        rows = read(folders[0], photo)["rows"]
        assert rows["other"] == pytest.approx(rows["network"])


def test_the_summary_holds_medians_and_a_mean_over_the_photos(folders: tuple[Path, Path]) -> None:
    results = json.loads((folders[0] / "results.json").read_text())["summary"]
    rows = [read(folders[0], photo)["rows"]["network"] for photo in ("dog", "neuschwanstein_castle")]
    row = results["starry_night, 64 px"]
    assert row["photos"] == 2
    for key in ("objective", "style", "iterations"):
        assert row[key] == pytest.approx(sum(each[key] for each in rows) / 2)
    assert row["mean objective"] == pytest.approx(sum(each["objective"] for each in rows) / 2)
    assert row["seconds"] > 0


def test_the_page_needs_nothing_else(folders: tuple[Path, Path]) -> None:
    page = (folders[0] / "page.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{,30})', page)
    assert len(sources) == 2  # the plot and one sheet
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", page)
    with Image.open(folders[0] / "starry_night.jpg") as sheet:
        assert sheet.height > 2 * 220


def test_the_slow_method_stops_once_it_is_better(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(tmp_path, f"photos={folders[0] / 'photos'}", "count=1", "iterations=60", "sheet=[1]")
    numbers = read(tmp_path, "dog")
    assert 1 < len(numbers["totals"]) < 60
    assert numbers["totals"][-1] < numbers["rows"]["network"]["objective"] < min(numbers["totals"][:-1])


def test_what_was_measured_is_not_measured_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    files = sorted(folder.glob("measured/*/*/numbers.json"))
    shutil.rmtree(files[0].parent)
    before = files[1].stat().st_mtime_ns
    run(folder, f"photos={folders[0] / 'photos'}", f"resume={folder}")
    assert files[0].is_file()
    assert files[1].stat().st_mtime_ns == before


def test_fewer_iterations_than_the_sheet_shows(tmp_path: Path) -> None:
    """The last of them is shown instead."""
    run(tmp_path, "count=1", "iterations=1", "sheet=[10,30]", "sizes=[48]")
    (numbers,) = tmp_path.glob("measured/starry_night/*/numbers.json")
    assert "Gatys 1" in json.loads(numbers.read_text())["rows"]


def test_a_network_that_learned_on_is_measured_again(tmp_path: Path) -> None:
    path, folder = tmp_path / "starry_night.safetensors", tmp_path / "run"
    shutil.copy(NETWORK, path)
    quick = [f"networks=[{path}]", "count=1", "iterations=2", "sheet=[1]", "sizes=[48]"]
    first = run(folder, *quick)["summary"]
    again = [*quick, f"resume={folder}"]
    net, card = checkpoint.load(path)
    checkpoint.export(net, replace(card, evaluation={"objective, 48 px": 1.0}), path)  # what `stamp` does to a file
    assert run(folder, *again)["summary"] == first
    other, _ = checkpoint.load(BUNDLED / "great_wave.safetensors")
    checkpoint.export(other, card, path)
    (before,), (after,) = first.values(), run(folder, *again)["summary"].values()
    assert after["objective"] > before["objective"]


@pytest.mark.parametrize(
    ("totals", "value", "iterations"),
    [
        ([4.0, 2.0, 1.0], 3.0, 0.5),
        ([4.0, 2.0, 1.0], 1.0, 2.0),
        ([4.0, 5.0, 2.0], 3.0, 1.5),  # a rise does not count
        ([4.0, 2.0, 1.0], 5.0, 0.0),
        ([4.0, 2.0, 1.0], 0.5, None),
    ],
)
def test_equalled_iterations(totals: list[float], value: float, iterations: float | None) -> None:
    assert equalled(totals, value) == iterations


def test_a_model_file_is_not_believed_what_to_call(tmp_path: Path) -> None:
    card = checkpoint.read_card(NETWORK)
    training = dict(card.training)
    training["loss"] = {**training["loss"], "_target_": "os.system"}
    hostile = checkpoint.ModelCard(card.style, card.network, training)
    assert isinstance(objective_of(hostile).loss, PerceptualLoss)
    silent = checkpoint.ModelCard("mine", card.network)
    with pytest.raises(StylenetError, match="mine does not say how it was trained"):
        objective_of(silent)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("networks=[stary_night]", "Did you mean starry_night"),
        ("photos=no/such", "photos=no/such is no folder"),
        ("pictures=no/such", "pictures=no/such is no folder"),
        ("sizes=[]", "sizes must name at least one"),
        ("iterations=0", "iterations must be a whole number, 1 or more"),
        ("init=style", "init must be content or noise"),
        ("unseen.style=[relu9_9]", "no layer 'relu9_9'"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(StylenetError, match=words):
        run(tmp_path / "run", setting)


def test_the_program_says_where_its_page_is(run_program: Program, tmp_path: Path) -> None:
    result = run_program("evaluate", [*QUICK[1:], "sizes=[48]", "count=1", "hydra.run.dir=out"])
    assert result.returncode == 0, result.stderr
    assert str(Path("out", "page.html")) in result.stdout
    assert_one_sentence(run_program("evaluate", ["photos=nowhere"]), "photos=nowhere is no folder")
