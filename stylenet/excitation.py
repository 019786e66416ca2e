"""What excites a neuron: objectives on a layer's activations, robust views of a picture, and who likes what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import ImageOps
from torch import Tensor
from torch.nn import functional as F

from stylenet.data import SAMPLE
from stylenet.errors import ConfigError
from stylenet.image import open_picture, to_array
from stylenet.vgg import CHANNELS, Encoder

COMPARED = 128  # px of the squares by which photographs are compared
TURN, ZOOM, SHIFT = 5.0, 0.1, 1 / 16  # of a view: degrees, share of the scale, share of the side


def channel_count(layer: str) -> int:
    """How many channels a layer has: `relu4_2` -> 512."""
    return CHANNELS[int(layer.removeprefix("conv").removeprefix("relu").removeprefix("pool")[0]) - 1]


def check_channels(layer: str, channels: Sequence[int]) -> None:
    """Raise `ConfigError` for the first channel that the layer does not have."""
    for channel in channels:
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < channel_count(layer):
            raise ConfigError(f"{layer} has the channels 0 to {channel_count(layer) - 1}, not {channel!r}.")


def before_relu(layer: str) -> str:
    """The convolution under a ReLU, which has a slope even where the ReLU is silent; other layers as they are."""
    return layer.replace("relu", "conv")


def excitation(features: Tensor, channels: Sequence[int], center: bool) -> Tensor:
    """How much the n-th picture excites the n-th channel.

    Args:
        features: (N, C, h, w), of one layer.
        channels: N of them.
        center: the one neuron in the middle instead of the mean over the whole picture.

    Returns:
        (N,)
    """
    own = features[torch.arange(len(channels)), list(channels)]  # (N, h, w)
    return own[:, own.shape[1] // 2, own.shape[2] // 2] if center else own.mean(dim=(1, 2))


def view(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures, a little turned, scaled and shifted: what excites a neuron must do so from there too.

    Against patterns that only one exact raster of pixels can have (Olah et al. 2017, "Transformation Robustness").

    Args:
        pictures: (N, 3, H, W), in [0, 1].
        generator: of the random view, one for all N; on the CPU.

    Returns:
        The same shape; mirrored at the borders.
    """
    turn, zoom, down, across = (torch.rand(4, generator=generator) * 2 - 1).tolist()
    angle, scale = math.radians(TURN * turn), 1 + ZOOM * zoom
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    matrix = torch.tensor([[cosine, -sine, 2 * SHIFT * across], [sine, cosine, 2 * SHIFT * down]])
    grid = F.affine_grid(matrix.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid.to(pictures), padding_mode="reflection", align_corners=False)


@torch.no_grad()
def mean_activations(encoder: Encoder, layer: str, photos: Sequence[Path]) -> Tensor:
    """The mean activation of every channel in the middle square of each photograph: (photos, C)."""
    rows = []
    for path in photos:
        square = ImageOps.fit(open_picture(path, near=COMPARED), (COMPARED, COMPARED))
        pixels = torch.from_numpy(to_array(square)).to(encoder.mean.device)
        rows.append(encoder(pixels, [layer])[layer].mean(dim=(2, 3)))
    return torch.cat(rows)


@cache
def _sample() -> tuple[Path, ...]:
    return tuple(sorted(SAMPLE.glob("*.jpg")))


def favourites(encoder: Encoder, layer: str, photo: Path, count: int) -> list[int]:
    """The channels that a photograph excites most, compared with the bundled photographs; most first.

    Compared by standard score: how many deviations the photo is above the mean photograph.
    """
    others = mean_activations(encoder, layer, _sample())
    own = mean_activations(encoder, layer, [photo])[0]
    score = (own - others.mean(0)) / (others.std(0) + others.std() / 100)  # channels that never stir prove nothing
    return [int(channel) for channel in score.topk(count).indices]
