"""DeepDream (Mordvintsev, Olah and Tyka 2015): whatever a layer sees in a photo, let there be more of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stylenet.descent import descend
from stylenet.errors import PictureError
from stylenet.speed import Precision
from stylenet.vgg import Encoder

LEAST = 48  # px of the shorter side at which the deepest layer still sees something


class Recipe(NamedTuple):
    """How a dream goes.

    Attributes:
        octaves: sizes that are dreamed at, from small to full.
        octave_scale: each so many times the one before.
        iterations: at each.
        step_size: mean change of a pixel in an iteration, of a range of 1.
        jitter: px; the photo is shifted by up to so many before each look, so that no raster shows.
        seed: of the shifts.
        precision: of what the network computes.
    """

    octaves: int
    octave_scale: float
    iterations: int
    step_size: float
    jitter: int
    seed: int
    precision: Precision = "32-true"


class Moment(NamedTuple):
    """A dream after one iteration.

    Attributes:
        pixels: (1, 3, h, w), at the present octave's size.
        octave: from 0.
        iteration: at that octave, from 1.
        losses: `total`, which falls as the activations rise.
    """

    pixels: Tensor
    octave: int
    iteration: int
    losses: dict[str, float]


def dream(encoder: Encoder, photo: Tensor, layer: str, channels: Sequence[int], recipe: Recipe) -> Iterator[Moment]:
    """Amplify what a layer sees, from coarse to fine.

    What is dreamed at one size is enlarged and added to the photo at the next.

    Args:
        encoder: sees `layer`.
        photo: (1, 3, H, W), RGB in [0, 1].
        layer: whose activations are raised.
        channels: of them; empty: all.
        recipe: how.

    Yields:
        A `Moment` after each iteration; the last has the photo's size.

    Raises:
        PictureError: for a photo that is too small for one octave.
    """
    sizes = octave_sizes(photo.shape[-2], photo.shape[-1], recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    detail = torch.zeros_like(photo)
    for octave, size in enumerate(sizes):
        base = _resize(photo, size)
        pixels = (base + _resize(detail, size)).contiguous(memory_format=torch.channels_last).requires_grad_()

        def objective(pixels: Tensor = pixels) -> dict[str, Tensor]:
            shifts = torch.randint(-recipe.jitter, recipe.jitter + 1, (2,), generator=generator).tolist()
            features = encoder(pixels.roll(shifts, (2, 3)), [layer])[layer]
            seen = features[:, list(channels)] if channels else features
            return {"total": -seen.square().mean().sqrt()}

        for step in descend([pixels], objective, "gradient", recipe.iterations, recipe.step_size, recipe.precision):
            with torch.no_grad():
                pixels.clamp_(0, 1)
            yield Moment(pixels.detach(), octave, step.iteration, step.losses)
        detail = pixels.detach() - base


def octave_sizes(height: int, width: int, recipe: Recipe) -> list[tuple[int, int]]:
    """(height, width) of each octave, the smallest first; those that are too small for the network are left out."""
    if min(height, width) < LEAST:
        raise PictureError(f"The photo is {width} x {height} px; a dream needs {LEAST} x {LEAST} and larger.")
    factors = [recipe.octave_scale**-octave for octave in reversed(range(recipe.octaves))]
    sizes = [(round(height * factor), round(width * factor)) for factor in factors]
    return [size for size in sizes if min(size) >= LEAST]


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size, mode="bicubic", antialias=True)
