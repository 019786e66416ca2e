"""The command line that paints, from real files to real files."""

from __future__ import annotations

import io
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Program, assert_one_sentence
from pictures import small_photo
from PIL import Image, ImageSequence
from safetensors.torch import save_file

from stylenet import Stylizer, checkpoint
from stylenet.contact_sheet import GAP
from stylenet.data import SAMPLE
from stylenet.engine import best_precision
from stylenet.errors import ConfigError, PictureError
from stylenet.image import load_image
from stylenet.infer import main, parse_style
from stylenet.transformer_net import TransformerNet


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `dots` and `lines` are trained networks."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("dots", "lines")):
        torch.manual_seed(seed)
        net = TransformerNet([8, 12, 16], 1, 5)
        checkpoint.export(net, checkpoint.ModelCard(name, net.arguments), folder / "runs" / f"{name}.safetensors")
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two trained networks below `runs` and one photo."""
    (tmp_path / "runs").symlink_to(models / "runs")
    monkeypatch.chdir(tmp_path)
    small_photo(60, 45).save("photo.png")
    return tmp_path


def run(*arguments: str) -> int:
    """The exit status."""
    try:
        main([*arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def pixels(path: str | Path) -> np.ndarray:
    return load_image(path) * 255


def most_rounding() -> int:
    """Levels of 255 that a network's sums, in another order, may move a pixel: the engine's precision decides."""
    from openvino import Core

    return 4 if best_precision(Core()) == "bf16" else 1


def expected(name: str = "dots", photo: str = "photo.png") -> np.ndarray:
    return np.asarray(Stylizer.load(name)(photo), np.float64).transpose(2, 0, 1)[None]


@pytest.mark.usefixtures("here")
def test_one_photo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("photo.png", "--style", "dots") == 0
    assert np.array_equal(pixels("photo_dots.png").round(), expected())
    assert "photo_dots.png: 60 x 45 px, dots" in capsys.readouterr().err
    assert run("photo.png", "--style", "runs/dots.safetensors", "-o", "deep/painted.png", "--tile") == 0
    assert np.abs(pixels("deep/painted.png") - expected()).mean() < (0.15 if most_rounding() == 1 else 1)


def test_nothing_is_overwritten_by_accident(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "painted.png").write_text("precious")
    assert run("photo.png", "--style", "dots", "-o", "painted.png") == 1
    assert "exists already" in capsys.readouterr().err
    assert (here / "painted.png").read_text() == "precious"
    assert run("photo.png", "--style", "dots", "-o", "painted.png", "--overwrite") == 0
    assert np.array_equal(pixels("painted.png").round(), expected())


def test_folder_with_bad_files_among_good_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(12):
        path = here / "in" / ("deep" if index % 2 else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small_photo(40 + 8 * (index % 3), 40).save(path)
    (here / "in/broken.jpg").write_bytes((here / "photo.png").read_bytes()[:200])
    (here / "in/deep/empty.png").touch()
    small_photo(8, 8).save(here / "in/tiny.png")
    assert run("in", "-s", "dots", "-o", "out") == 1
    said = capsys.readouterr().err
    assert "Painted 12 of 15 pictures into out" in said
    assert "3 failed" in said
    for words in ("broken.jpg cannot be read", "empty.png is not a picture", "8 x 8 px; the network takes"):
        assert words in said
    assert len(list((here / "out").rglob("*.png"))) == 12
    for name in ("0.png", "deep/1.png", "8.png"):  # each size, painted together or alone, as by itself
        assert np.abs(pixels(f"out/{name}") - expected(photo=f"in/{name}")).max() <= most_rounding()


def test_going_on_after_a_stop(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        small_photo(40, 40).save(here / f"{name}.png")
    assert run("a.png", "-s", "dots", "-o", "out/") == 0
    before = (here / "out/a.png").stat().st_mtime_ns
    assert run("[ab].png", "-s", "dots", "-o", "out/", "--skip-existing") == 0
    assert "1 results exist already" in capsys.readouterr().err
    assert (here / "out/a.png").stat().st_mtime_ns == before
    assert (here / "out/b.png").is_file()


def test_standard_input_and_output(here: Path) -> None:
    command = [sys.executable, "-m", "stylenet.infer", "-", "--style", "dots"]
    with (here / "photo.png").open("rb") as photo:
        result = subprocess.run(command, stdin=photo, capture_output=True, check=True, timeout=120, cwd=here)
    with Image.open(io.BytesIO(result.stdout)) as painted:
        assert painted.format == "PNG"
        assert np.array_equal(np.asarray(painted, np.float64).transpose(2, 0, 1)[None], expected())


@pytest.mark.usefixtures("here")
def test_format_quality_and_size() -> None:
    for quality in ("20", "90"):
        assert run("photo.png", "-s", "dots", "--format", "jpg", "--quality", quality, "-o", f"q{quality}/") == 0
    assert Path("q20/photo.jpg").stat().st_size < 0.6 * Path("q90/photo.jpg").stat().st_size
    assert run("photo.png", "-s", "dots", "--size", "30", "-o", "small.webp") == 0
    with Image.open("small.webp") as painted:
        assert (painted.size, painted.format) == ((40, 30), "WEBP")


@pytest.mark.usefixtures("here")
def test_animation_is_painted_frame_by_frame() -> None:
    frames = [small_photo(40, 32, name) for name in ("cat", "dog", "petra")]
    frames[0].save("in.gif", save_all=True, append_images=frames[1:], duration=[50, 60, 70], loop=0)
    assert run("in.gif", "-s", "dots", "-o", "out.png") == 0
    stylizer = Stylizer.load("dots")
    with Image.open("in.gif") as photo, Image.open("out.png") as painted:
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(painted)] == [50, 60, 70]
        for index in range(3):
            photo.seek(index)
            painted.seek(index)
            wanted = np.asarray(stylizer(photo.convert("RGB")), np.int16)
            assert np.abs(np.asarray(painted.convert("RGB"), np.int16) - wanted).max() <= most_rounding()
    assert run("in.gif", "-s", "dots", "-o", "out.jpg") == 1


@pytest.mark.usefixtures("here")
def test_alpha_is_carried_over_to_the_painting() -> None:
    rgba = small_photo(60, 45).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize((60, 45)))
    rgba.save("rgba.png")
    assert run("rgba.png", "-s", "dots") == 0
    with Image.open("rgba_dots.png") as painted:
        assert painted.mode == "RGBA"
        assert np.array_equal(np.asarray(painted.getchannel("A")), np.asarray(rgba.getchannel("A")))
        assert np.array_equal(np.asarray(painted), np.asarray(Stylizer.load("dots")("rgba.png")))


@pytest.mark.usefixtures("here")
def test_two_styles_in_two_masks_and_mixed() -> None:
    left = Image.new("L", (60, 45))
    left.paste(255, (0, 0, 30, 45))
    left.save("left.png")
    Image.eval(left, lambda value: 255 - value).save("right.png")
    masks = ["-s", "dots", "--mask", "left.png", "-s", "lines", "--mask", "right.png", "--feather", "0"]
    assert run("photo.png", *masks, "-o", "masked.png") == 0
    assert np.abs(pixels("masked.png") - expected())[..., :30].max() <= 1
    assert np.abs(pixels("masked.png") - expected("lines"))[..., 30:].max() <= 1
    assert run("photo.png", "-s", "dots:3,lines:1", "-o", "mixed.png") == 0
    distances = [np.abs(pixels("mixed.png") - expected(name)).mean() for name in ("dots", "lines")]
    assert 0 < distances[0] < distances[1]


@pytest.mark.usefixtures("here")
def test_names_that_are_hard() -> None:
    for name in ("with space.png", "[1].png", "a=b.png", "Ünïcødé 絵画.png", "-dash.png", "%s{}.png"):
        small_photo(40, 32).save(name)
        argument = f"./{name}" if name.startswith("-") else name
        assert run(argument, "-s", "dots") == 0, name
        assert Path(f"{name[:-4]}_dots.png").is_file()


def foreign_models(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch '{folder}/executed'",)

    (folder / "pickle.safetensors").write_bytes(pickle.dumps(Trap()))
    (folder / "pickle.pt").write_bytes(pickle.dumps(Trap()))
    torch.save({"weight": torch.ones(3)}, folder / "torch.pth")
    save_file({"weight": torch.ones(3)}, folder / "other.safetensors")
    (folder / "text.safetensors").write_text("I am a letter.")
    (folder / "empty.safetensors").touch()
    torch.manual_seed(0)
    net = TransformerNet([8, 12], 1, 3)
    state = {name: tensor * float("nan") for name, tensor in net.state_dict().items()}
    good = checkpoint.export(net, checkpoint.ModelCard("good", net.arguments), folder / "good.safetensors")
    from safetensors import safe_open

    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    save_file(state, folder / "nan.safetensors", metadata)
    (folder / "cut.safetensors").write_bytes(good.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("pickle.safetensors", "not a stylenet model file"),
        ("pickle.pt", "not a stylenet model file"),
        ("torch.pth", "not a stylenet model file"),
        ("other.safetensors", "not one of a stylenet network"),
        ("text.safetensors", "not a stylenet model file"),
        ("empty.safetensors", "not a stylenet model file"),
        ("nan.safetensors", "not finite"),
        ("cut.safetensors", "broken"),
        ("missing.safetensors", "no model file"),
        ("photo.png", "not a stylenet model file"),
        ("dotz", "Did you mean dots"),
    ],
)
def test_models_of_another_kind(here: Path, capsys: pytest.CaptureFixture[str], model: str, words: str) -> None:
    foreign_models(here)
    assert run("photo.png", "-s", model, "-o", "out.png") == 1
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not (here / "executed").exists()
    assert not (here / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png", "-s", "dots"], "no picture missing.png"),
        (["photo.png", "-s", "dots:x"], "cannot be read; expected NAME"),
        (["photo.png", "-s", "dots:-1,lines:2"], "positive weights"),
        (["photo.png", "-s", "dots", "-s", "lines"], "need a --mask each"),
        (["photo.png", "-s", "dots", "--mask", "photo.png", "--mask", "photo.png"], "1 --style and 2 --mask"),
        (["photo.png", "-s", "dots", "--mask", "nix.png"], "no picture nix.png"),
        (["photo.png", "-s", "dots", "--strength", "2"], "strength must be"),
        (["photo.png", "-s", "dots", "--quality", "0"], "--quality must be from 1 to 100"),
        (["photo.png", "-s", "dots", "--size", "-4"], "--size must be at least 1"),
        (["photo.png", "-s", "dots", "--max-megapixels", "0.001"], "raise the limit with --max-megapixels"),
        (["photo.png", "-s", "dots", "-o", "photo.png", "--overwrite"], "replace its photo"),
        (["photo.png", "-s", "dots", "-o", "a.jpg", "--format", "png"], "another format"),
        (["photo.png", "-s", "dots", "-o", "/proc/a.png"], "cannot be written"),
        (["photo.png", "-s", "dots", "-o", "photo.png/a.png"], "cannot be written"),
        (["photo.png", "-s", "dots", "--device", "toaster"], "'toaster' cannot be used here"),
        (["photo.png", "-s", "dots", "--scale", "9"], "For strokes of scale 9"),
    ],
)
@pytest.mark.usefixtures("here")
def test_bad_input_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 1
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


def test_as_a_program(run_program: Program, models: Path, tmp_path: Path) -> None:
    assert_one_sentence(
        run_program("infer", ["missing.jpg", "-s", str(models / "runs/dots.safetensors")]), "missing.jpg"
    )
    result = run_program("infer", ["--help"])
    assert result.returncode == 0
    assert "examples:" in result.stdout
    assert run_program("infer", ["photo.jpg"]).returncode == 2  # argparse's own: no style
    (tmp_path / "runs").symlink_to(models / "runs")
    assert "lines" in run_program("infer", ["--list"]).stdout


@pytest.mark.usefixtures("here")
def test_a_sheet_shows_the_photo_in_every_style(capsys: pytest.CaptureFixture[str]) -> None:
    networks = checkpoint.list_networks()
    assert {"dots", "lines", "starry_night"} <= set(networks)
    assert run("--sheet", "photo.png", "--size", "48") == 0
    assert f"photo_styles.png: {len(networks)} styles" in capsys.readouterr().err
    cells = math.ceil(math.sqrt(1 + len(networks)))
    with Image.open("photo_styles.png") as sheet:
        assert sheet.width == cells * (64 + GAP) + GAP
        first, second = (
            np.asarray(sheet.crop((left, GAP, left + 64, GAP + 48)), float) for left in (GAP, GAP * 2 + 64)
        )
    photo = np.asarray(small_photo(60, 45).resize((64, 48), Image.Resampling.LANCZOS), float)
    assert np.array_equal(first, photo)
    assert np.abs(second - photo).mean() > 5
    assert run("--sheet", "photo.png", "--size", "48") == 1
    assert "exists already" in capsys.readouterr().err
    assert run("--sheet", ".", "-o", "sheets/") == 1
    assert "A sheet shows one photo" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_the_list_says_what_is_broken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "runs").unlink()
    (tmp_path / "mine").rename(tmp_path / "runs")
    (tmp_path / "runs" / "torn.safetensors").write_bytes(b"torn")
    assert run("--list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "broken" in lines["torn"]
    assert "steps" in lines["starry_night"]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_was_painted_and_nothing_half_made(models: Path, tmp_path: Path) -> None:
    model = str(models / "runs" / "dots.safetensors")
    command = [sys.executable, "-m", "stylenet.infer", str(SAMPLE), "-s", model, "-o", "painted", "--format", "png"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("painted/*.png")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped; what was painted is kept" in said
    assert "Traceback" not in said
    kept = sorted((tmp_path / "painted").iterdir())
    assert 0 < len(kept) < len(list(SAMPLE.glob("*.jpg")))
    for path in kept:
        with Image.open(path) as painted:
            painted.load()  # whole, every one


def test_painting_imports_neither_lightning_nor_hydra() -> None:
    code = "import sys, stylenet.infer, stylenet.batch, stylenet.stylizer; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"hydra", "lightning", "pytorch_lightning", "omegaconf", "wandb"} & set(output)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("dots", [("dots", 1.0)]),
        ("a:0.6,b:0.4", [("a", 0.6), ("b", 0.4)]),
        ("a,b:2", [("a", 1.0), ("b", 2.0)]),
        ("runs/x.safetensors:3", [("runs/x.safetensors", 3.0)]),
        (r"C:\x.safetensors", [(r"C:\x.safetensors", 1.0)]),
    ],
)
def test_styles(text: str, networks: list[tuple[str, float]]) -> None:
    assert parse_style(text) == networks


@pytest.mark.usefixtures("here")
def test_a_file_whose_name_looks_like_a_mixture(models: Path) -> None:
    Path("a:1,b:2.safetensors").write_bytes((models / "runs/dots.safetensors").read_bytes())
    assert parse_style("a:1,b:2.safetensors") == [("a:1,b:2.safetensors", 1.0)]
    with pytest.raises(ConfigError):
        parse_style("a:1,b:two")


@pytest.mark.usefixtures("here")
def test_python_takes_paths_pictures_arrays_and_tensors() -> None:
    stylizer = Stylizer.load("dots")
    with Image.open("photo.png") as photo:
        array = np.asarray(photo)
        wanted = np.asarray(stylizer("photo.png"))
        tensor = torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32) / 255)
        for given in (Path("photo.png"), photo, array, array.astype(np.float64) / 255, tensor, tensor[None]):
            assert np.array_equal(np.asarray(stylizer(given)), wanted)
    for shape in ((45, 60), (45, 60, 4), (0, 60, 3), (2, 45, 60, 3)):
        with pytest.raises(PictureError, match="an array is"):
            stylizer(np.zeros(shape, np.uint8))
    faint = np.asarray(stylizer("photo.png", strength=0.0))
    assert np.array_equal(faint, array)
