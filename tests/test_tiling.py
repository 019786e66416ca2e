"""Painting in tiles is painting whole: same pixels, no seams, bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import small_photo
from PIL import Image

from stylenet.errors import ModelFileError, PictureError
from stylenet.image import to_array, to_picture
from stylenet.tiling import paint_in_tiles
from stylenet.transformer_net import TransformerNet

SIZES = [(101, 67), (64, 64), (43, 90), (500, 24), (24, 400)]  # odd, even, tall, very wide, very tall


def whole(net: TransformerNet, photo: Image.Image) -> Image.Image:
    with torch.inference_mode():
        return to_picture(net(torch.from_numpy(to_array(photo))).numpy())


def make_net(*arguments: object) -> TransformerNet:
    torch.manual_seed(0)
    return TransformerNet(*arguments).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("arguments", [([8, 12, 16], 2, 9, 0.1), ([8], 1, 3), ([8, 12], 0, 5), ([4, 6, 8, 10], 1, 3)])
def test_tiles_equal_the_whole(arguments: tuple[object, ...], size: tuple[int, int]) -> None:
    net = make_net(*arguments)
    photo = small_photo(max(size[0], net.architecture.min_size), max(size[1], net.architecture.min_size))
    tiled = np.asarray(paint_in_tiles(net, photo, tile_values=6000), np.float64)
    distance = np.abs(tiled - np.asarray(whole(net, photo), np.float64))
    assert distance.mean() < 0.15  # of 255: the rounding to 8 bits, here and there to the other side
    assert distance.max() <= 2


def test_no_seams() -> None:
    """Errors, if any, are spread: columns at tile borders differ from the whole no more than other columns."""
    net = make_net([8, 12, 16], 2, 9)
    photo = small_photo(300, 60)
    tiled, expected = (to_array(p) for p in (paint_in_tiles(net, photo, tile_values=6000), whole(net, photo)))
    steps = np.abs(np.diff(tiled, axis=3) - np.diff(expected, axis=3)).mean(axis=(0, 1, 2)) * 255  # per column border
    assert steps.max() < 0.5
    contrast = np.abs(np.diff(expected, axis=3)).mean() * 255
    assert steps.max() < contrast / 10


def test_progress_reaches_the_end() -> None:
    parts: list[float] = []
    paint_in_tiles(make_net([8, 12], 1, 3), small_photo(80, 60), progress=parts.append, tile_values=4000)
    assert len(parts) > 20
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1)


def test_too_small() -> None:
    with pytest.raises(PictureError, match="10 x 10 px; the network takes 20 x 20"):
        paint_in_tiles(make_net([8, 12, 16], 1, 9), small_photo(10, 10))


def test_values_out_of_range_are_an_error_and_not_a_picture() -> None:
    net = make_net([8, 12], 1, 3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1e4)
    with pytest.raises(ModelFileError, match="too large"):
        paint_in_tiles(net, small_photo(80, 60))


def test_temporary_space_that_gives_out(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses the write just as it would there."""
    code = """
import resource, signal, torch
from PIL import Image
from stylenet.tiling import paint_in_tiles
from stylenet.transformer_net import TransformerNet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    paint_in_tiles(TransformerNet([8, 12], 1, 3).eval(), Image.new("RGB", (300, 300)))
except Exception as error:
    print(type(error).__name__, error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.startswith("PictureError The temporary space in "), result.stdout + result.stderr
    assert "gave out: File too large" in result.stdout


def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    """Four times the pixels: what painting adds to the picture and its painting themselves stays the same."""
    code = """
import resource, sys, torch
from PIL import Image
from stylenet.tiling import paint_in_tiles
from stylenet.transformer_net import TransformerNet
torch.set_num_threads(1)
photo = Image.effect_noise((int(sys.argv[1]),) * 2, 50).convert("RGB")
paint_in_tiles(TransformerNet([8, 8], 0, 3).eval(), photo, tile_values=1_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    peaks = []
    for side in (1200, 2400):
        command = [sys.executable, "-c", code, str(side)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
        peaks.append(int(result.stdout))
    pictures = 3 * 4 * (2400**2 - 1200**2)  # Pillow's four bytes per pixel; noise, photo and painting
    whole_network = 4 * (8 + 8 + 8) * (2400**2 - 1200**2)  # what painting it whole would add at the very least
    assert peaks[1] - peaks[0] < pictures + 20e6
    assert peaks[1] - peaks[0] < whole_network / 3
