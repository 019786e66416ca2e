"""The engine paints what PyTorch paints, without PyTorch, in the memory that it says it takes."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import PHOTOS, small_photo

from stylenet import Stylizer, checkpoint, engine_cache
from stylenet.checkpoint import Model, ModelCard
from stylenet.engine import Engine
from stylenet.errors import PictureError
from stylenet.image import Array, open_picture, resize_picture, to_array
from stylenet.memory import engine_bytes, largest_that_fits
from stylenet.transformer_net import TransformerNet

SIZES = [(64, 64), (61, 83), (98, 47), (39, 40)]  # (width, height): even, odd, tall, near the smallest
SHAPES = [([32, 64, 128], 5, 9), ([8], 1, 5), ([8, 12], 0, 1), ([6, 10, 14, 16], 2, 3)]


@pytest.fixture(scope="session")
def bundled() -> Model:
    """The bundled network, trained on The Starry Night."""
    return checkpoint.read(checkpoint.BUNDLED / "starry_night.safetensors")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stylenet"


def exported(net: TransformerNet, folder: Path) -> Model:
    return checkpoint.read(
        checkpoint.export(net, ModelCard("dots", net.arguments), folder / "dots.safetensors", half=False)
    )


def by_pytorch(model: Model, images: Array) -> Array:
    with torch.inference_mode():
        painted: Array = checkpoint.build(model)(torch.from_numpy(images)).numpy()
    return painted


def psnr(painted: Array, expected: Array) -> float:
    """Peak signal-to-noise ratio in dB, of pictures in [0, 1]."""
    return -10 * math.log10(float(((painted - expected).clip(-1, 1) ** 2).mean()))


@pytest.mark.parametrize(("widths", "blocks", "kernel"), SHAPES)
def test_pytorch_paints_the_same(tmp_path: Path, widths: list[int], blocks: int, kernel: int) -> None:
    torch.manual_seed(0)
    net = TransformerNet(widths, blocks, kernel, grain=0.1)
    for parameter in net.parameters():  # biases and scales as after training, not zeros and ones
        parameter.data += 0.1 * torch.randn_like(parameter) if parameter.ndim == 1 else 0
    model = exported(net, tmp_path)
    engine = Engine(model, "f32")
    for width, height in SIZES:
        photo = to_array(small_photo(width, height))
        painted, expected = engine.paint(photo), by_pytorch(model, photo)
        assert painted.shape == expected.shape
        assert psnr(painted, expected) > 90, (width, height)  # float32 rounds at about 1e-6 of a value: 120 dB


@pytest.mark.parametrize(("name", "size"), [("cat", (131, 96)), ("petra", (97, 142)), ("dog", (63, 64))])
def test_precisions_stay_with_float32(bundled: Model, name: str, size: tuple[int, int]) -> None:
    """The precision that this processor computes fastest, and bfloat16, which any can imitate."""
    photo = to_array(small_photo(*size, name))
    expected = by_pytorch(bundled, photo)
    assert psnr(Engine(bundled).paint(photo), expected) > 40
    assert psnr(Engine(bundled, "bf16").paint(photo), expected) > 40
    assert psnr(Engine(bundled, "f32").paint(photo), expected) > 90


def test_pictures_together_are_painted_like_each_alone(tmp_path: Path, net: TransformerNet) -> None:
    engine = Engine(exported(net, tmp_path), "f32")
    photos = [to_array(small_photo(50, 41, name)) for name in ("cat", "dog", "petra")]
    together = engine.paint(np.concatenate(photos))
    for index, photo in enumerate(photos):
        assert np.abs(together[index : index + 1] - engine.paint(photo)).max() < 1e-5


def test_several_threads_may_paint_at_once(tmp_path: Path, net: TransformerNet) -> None:
    engine = Engine(exported(net, tmp_path))
    photos = [to_array(small_photo(40 + 4 * index, 60)) for index in range(8)]
    expected = [engine.paint(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        for painted, alone in zip(pool.map(engine.paint, photos), expected, strict=True):
            assert np.array_equal(painted, alone)


def test_too_small(bundled: Model) -> None:
    with pytest.raises(PictureError, match="11 x 40 px; the network takes 12 x 12"):
        Engine(bundled).paint(np.zeros((1, 3, 40, 11), np.float32))


def test_compiled_engines_are_kept_and_found(cache: Path, tmp_path: Path, net: TransformerNet) -> None:
    model, photo = exported(net, tmp_path), to_array(small_photo(40, 36))
    first = Engine(model).paint(photo)
    (kept,) = cache.iterdir()
    content, written = kept.read_bytes(), kept.stat().st_ino
    assert np.array_equal(Engine(model).paint(photo), first)
    assert kept.stat().st_ino == written  # read, not made again
    blob = content[: -engine_cache.CHECK_BYTES]
    damaged = [b"", content[:-100], content[:500] + b"x" + content[501:]]
    for wrong in damaged:
        kept.write_bytes(wrong)
        assert np.array_equal(Engine(model).paint(photo), first)
        assert kept.read_bytes()[: -engine_cache.CHECK_BYTES][:64] == blob[:64]  # whole again
    engine_cache.keep(kept.stem, b"whole, but of no use to this version")
    assert np.array_equal(Engine(model).paint(photo), first)
    with torch.no_grad():
        net.layers[0][0].weight.mul_(-1)  # type: ignore[index]
    assert not np.array_equal(Engine(exported(net, tmp_path)).paint(photo), first)
    assert len(list(cache.iterdir())) == 2


def test_engines_used_longest_ago_go_first(cache: Path) -> None:
    for index in range(engine_cache.MOST_KEPT):
        engine_cache.keep(f"{index}", b"engine")
        os.utime(cache / f"{index}{engine_cache.ENDING}", (index, index))
    assert engine_cache.find("0") == b"engine"
    assert time.time() - (cache / f"0{engine_cache.ENDING}").stat().st_mtime < 60
    engine_cache.keep("new", b"engine")
    assert engine_cache.find("0") == engine_cache.find("new") == b"engine"
    assert engine_cache.find("1") is None
    assert len(list(cache.iterdir())) == engine_cache.MOST_KEPT


def test_no_place_for_a_cache(tmp_path: Path, net: TransformerNet, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    photo = to_array(small_photo(40, 36))
    model = exported(net, tmp_path)
    assert psnr(Engine(model, "f32").paint(photo), by_pytorch(model, photo)) > 90


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
    )


def test_painting_a_photo_imports_only_what_it_needs(tmp_path: Path) -> None:
    code = """
import sys
from stylenet.infer import main
main([sys.argv[1], "-s", "starry_night", "-o", sys.argv[2], "--size", "48", "--device", "cpu"])
from stylenet import Stylizer
Stylizer.load("starry_night", "cpu")(sys.argv[2])
print(*sys.modules)
"""
    modules = set(run(code, str(PHOTOS / "cat.jpg"), str(tmp_path / "painted.jpg")).stdout.split())
    assert (tmp_path / "painted.jpg").is_file()
    assert "openvino" in modules
    # The last two belong to OpenVINO's converter of models, which would report every start over the network.
    assert not modules & {"torch", "safetensors.torch", "rich", "openvino.tools.ovc", "openvino_telemetry"}


def test_without_openvino_pytorch_paints(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["openvino"] = None
from stylenet import Stylizer
Stylizer.load("starry_night", "cpu")(sys.argv[1]).save(sys.argv[2])
"""
    small_photo(60, 47).save(tmp_path / "photo.png")
    result = run(code, str(tmp_path / "photo.png"), str(tmp_path / "painted.png"))
    assert "OpenVINO cannot be imported, so PyTorch paints" in result.stderr
    expected = np.asarray(Stylizer.load("starry_night", "cpu")(tmp_path / "photo.png"), np.float32)
    with_pytorch = to_array(open_picture(tmp_path / "painted.png"))[0].transpose(1, 2, 0) * 255
    assert np.abs(with_pytorch - expected).mean() < 1


def test_what_does_not_fit_is_said_and_painted_in_tiles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stylizer = Stylizer.load("starry_night", "cpu")
    photo = small_photo(64, 48)
    whole = np.asarray(stylizer.paint_pictures([photo])[0], np.float64)
    monkeypatch.setattr("stylenet.memory.SHARE", 1e-6)
    with caplog.at_level(logging.WARNING):
        tiled = np.asarray(stylizer.paint_pictures([photo])[0], np.float64)
    assert "64 x 48 px would take" in caplog.text
    assert "px would fit" in caplog.text
    assert np.abs(tiled - whole).mean() < 0.5


def test_sizes_that_fit() -> None:
    assert largest_that_fits((64, 64), 300, "cpu") is None
    width, height = largest_that_fits((4_000_000, 1_000_000), 300, "cpu") or (0, 0)
    assert 0 < height < 1_000_000
    assert width / height == pytest.approx(4, rel=0.01)


def test_memory_is_what_was_said(bundled: Model) -> None:
    code = r"""
import re, sys
import numpy as np
from pathlib import Path
from stylenet import checkpoint
from stylenet.engine import Engine
engine = Engine(checkpoint.read(checkpoint.find_network("starry_night")), "f32")
peaks = []
for side in (64, int(sys.argv[1])):
    engine.paint(np.random.default_rng(0).random((1, 3, side, side), np.float32))
    peaks.append(int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
print(peaks[1] - peaks[0])
"""
    side = 512
    grown = side + sum(bundled.architecture.growth(side))
    measured = int(run(code, str(side)).stdout) / grown**2
    assert 0.7 * engine_bytes(bundled.architecture) < measured < 1.1 * engine_bytes(bundled.architecture)


def test_memory_that_gives_out_is_an_error_of_memory() -> None:
    code = """
import resource
import numpy as np
from stylenet import checkpoint
from stylenet.engine import Engine
engine = Engine(checkpoint.read(checkpoint.find_network("starry_night")), "f32")
engine.paint(np.zeros((1, 3, 64, 64), np.float32))
image = np.zeros((1, 3, 1600, 1600), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    engine.paint(image)
except MemoryError:
    print("MemoryError")
"""
    assert run(code).stdout == "MemoryError\n"


@pytest.mark.parametrize("network", sorted(path.stem for path in checkpoint.BUNDLED.glob("*.safetensors")))
def test_no_frame_is_painted_along_the_edges(network: str) -> None:
    """Strokes along the outermost pixels are about as lively as inside; without a margin, about half as lively."""
    photo = resize_picture(open_picture(PHOTOS / "eiffel_tower.jpg"), 384)
    painted = to_array(Stylizer.load(network, "cpu").paint_pictures([photo])[0])[0]
    turned = painted.transpose(0, 2, 1)

    def along(columns: slice) -> float:
        return float(np.mean([np.abs(np.diff(way[:, :, columns], axis=1)).mean() for way in (painted, turned)]))

    assert along(slice(0, 2)) + along(slice(-2, None)) > 2 * 0.7 * along(slice(20, -20))
