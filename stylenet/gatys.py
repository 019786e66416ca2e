"""Gatys' method: a picture's own pixels descend the perceptual loss, coarse to fine.

Gatys et al. 2015 (arXiv 1508.06576) for photos, Gatys et al. 2015 (arXiv 1505.07376) for textures, and Gatys et al.
2017 (arXiv 1611.07865) for going from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stylenet.color import match_colors, match_luminance
from stylenet.descent import Optimizer, computing_in, descend
from stylenet.errors import ConfigError, require_number
from stylenet.image import to_array
from stylenet.losses import PerceptualLoss
from stylenet.speed import Precision

MakeLoss = Callable[[Sequence[Tensor]], PerceptualLoss]  # paintings, each (1, 3, H, W) -> the loss, on their device
NOISE = 0.1  # times the deviation of the painting's colours
CALLS = 10_000  # pixels that take as long as what an iteration does at any size
LEAST = 32  # px of a picture's shorter side: two pixels of VGG19's block 5


class Scale(NamedTuple):
    """One stage on the way from coarse to fine.

    Attributes:
        width: px.
        height: px.
        iterations: of the descent at this size.
        share: of the final size.
    """

    width: int
    height: int
    iterations: int
    share: float

    @property
    def work(self) -> int:
        """What the stage costs, in pixels."""
        return (self.width * self.height + CALLS) * self.iterations


class State(NamedTuple):
    """Where a descent stands: all that is needed to go on from there.

    Attributes:
        pixels: (1, 3, H, W), RGB in about [0, 1].
        scale: index of the present stage.
        iteration: done at this stage.
    """

    pixels: Tensor
    scale: int
    iteration: int


def plan(
    width: float, height: float, shares: Sequence[float], iterations: int | Sequence[int], coarsest: int, multiple: int
) -> list[Scale]:
    """The stages of a descent.

    Args:
        width: of the final picture, in px.
        height: of the final picture, in px.
        shares: of the final size, rising, the last one 1.
        iterations: at each stage; one number stands for all.
        coarsest: stages with a shorter side below are left out, but for the last one.
        multiple: sides are rounded to multiples of it.

    Raises:
        ConfigError: for settings that make no plan.
    """
    require_number("coarsest", coarsest, LEAST, whole=True)
    for share in shares:
        require_number("Each of scales", share, 0, 1)
    if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1:
        raise ConfigError(f"scales must rise and end with 1, as in [0.25,0.5,1], not {list(shares)}.")
    counts = [iterations] * len(shares) if isinstance(iterations, int) else list(iterations)
    for count in counts:
        require_number("iterations", count, 1, whole=True)
    if len(counts) != len(shares):
        raise ConfigError(f"iterations needs one number, or one for each of the {len(shares)} scales, not {counts}.")

    def side(pixels: float) -> int:
        return max(1, round(pixels / multiple)) * multiple

    stages = [
        Scale(side(width * share), side(height * share), count, share)
        for share, count in zip(shares, counts, strict=True)
    ]
    return [stage for stage in stages[:-1] if min(stage.width, stage.height) >= coarsest] + stages[-1:]


class Painter:
    """What a picture is asked for at each size: its photo, if there is one, and its paintings.

    Args:
        photo: RGB; `None` for a texture.
        paintings: RGB, at least one.
        make_loss: of the paintings at their sizes.
        stages: see `plan`.
        painting_size: px of the paintings' shorter side beside the final picture; default: as the picture's.
        device: where to compute.
        seamless: whether the picture goes on at its opposite edges.
        precision: of what the encoder computes, of photo and paintings as of the picture: in bfloat16 its weights are
            others, which cancels out only where both sides of a difference are made with them.
    """

    def __init__(
        self,
        photo: Image.Image | None,
        paintings: Sequence[Image.Image],
        make_loss: MakeLoss,
        stages: Sequence[Scale],
        painting_size: int | None,
        device: torch.device,
        seamless: bool = False,
        precision: Precision = "32-true",
    ) -> None:
        self.photo = photo
        self.paintings = paintings
        self.make_loss = make_loss
        self.stages = stages
        self.painting_size = painting_size
        self.device = device
        self.seamless = seamless
        self.precision = precision

    def start(self, init: Image.Image | None, seed: int) -> State:
        """The first stage before its first iteration: from a picture, or from faint noise about the painting's colour.

        Faint, because the finest part of strong noise changes no layer much, and so would stay.
        """
        stage = self.stages[0]
        if init is not None:
            return State(self._tensor(init.resize((stage.width, stage.height), Image.Resampling.LANCZOS)), 0, 0)
        painting = torch.from_numpy(to_array(self.paintings[0]))
        mean, deviation = painting.mean((2, 3), keepdim=True), NOISE * painting.std((2, 3), keepdim=True)
        noise = torch.randn((1, 3, stage.height, stage.width), generator=torch.Generator().manual_seed(seed))
        return State((mean + noise * deviation).to(self.device), 0, 0)

    def paint(
        self, state: State, optimizer: Optimizer, learning_rate: float
    ) -> Iterator[tuple[State, Mapping[str, float]]]:
        """Go on from `state` to the end, and give the state and the losses after each iteration.

        The state's pixels are changed by the next iteration: whoever keeps them copies them.
        """
        for index in range(state.scale, len(self.stages)):
            stage = self.stages[index]
            done = state.iteration if index == state.scale else 0
            pixels = self._fitted(state.pixels.to(self.device), index).requires_grad_()
            loss = self.loss(stage)
            content = self.content(stage, loss)
            objective = _objective(loss, pixels, content)
            left = stage.iterations - done
            for step in descend([pixels], objective, optimizer, left, learning_rate, self.precision):
                state = State(pixels.detach(), index, done + step.iteration)
                yield state, step.losses

    def loss(self, stage: Scale) -> PerceptualLoss:
        """What the picture of a stage is asked for."""
        with computing_in(self.precision, self.device):
            return self.make_loss([self._tensor(self._painting(picture, stage)) for picture in self.paintings])

    def content(self, stage: Scale, loss: PerceptualLoss) -> dict[str, Tensor]:
        """The photo's features at the size of a stage; none for a texture."""
        photo = self._photo(stage)
        with computing_in(self.precision, self.device):
            return {} if photo is None else loss.content_targets(photo)

    def _fitted(self, pixels: Tensor, index: int) -> Tensor:
        """The pixels at the size of a stage: as they are, or what the stage before has made of them, enlarged.

        Enlarging leaves the finest details empty. A photo has them, so they are taken from there.
        """
        stage = self.stages[index]
        if pixels.shape[2:] == (stage.height, stage.width):
            return pixels.clone()
        if self.seamless:  # among its like, so that the enlarged one still wraps
            around = _resized(pixels.repeat(1, 1, 3, 3), 3 * stage.height, 3 * stage.width)
            return around[..., stage.height : 2 * stage.height, stage.width : 2 * stage.width].contiguous()
        enlarged = _resized(pixels, stage.height, stage.width)
        photo = self._photo(stage)
        if photo is None or index == 0:
            return enlarged
        before = self._photo(self.stages[index - 1])
        assert before is not None
        return enlarged + photo - _resized(before, stage.height, stage.width)

    def _photo(self, stage: Scale) -> Tensor | None:
        if self.photo is None:
            return None
        return self._tensor(self.photo.resize((stage.width, stage.height), Image.Resampling.LANCZOS))

    def _painting(self, picture: Image.Image, stage: Scale) -> Image.Image:
        final = self.stages[-1]
        shorter = (self.painting_size or min(final.width, final.height)) * stage.share
        factor = max(shorter, LEAST) / min(picture.size)
        size = (round(picture.width * factor), round(picture.height * factor))
        return picture.resize(size, Image.Resampling.LANCZOS)

    def _tensor(self, picture: Image.Image) -> Tensor:
        return torch.from_numpy(to_array(picture)).to(self.device)


def _objective(loss: PerceptualLoss, pixels: Tensor, content: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    def objective() -> dict[str, Tensor]:
        losses: dict[str, Tensor] = loss(pixels, content)
        return losses

    return objective


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)


def prepare_colors(
    photo: Image.Image, paintings: Sequence[Image.Image], preserve_color: str | None
) -> tuple[Image.Image, list[Image.Image]]:
    """Photo and paintings as they are asked for when the photo's colours are to be kept (Gatys et al. 2016).

    Args:
        photo: RGB.
        paintings: RGB.
        preserve_color: `luminance`: all in greys, the paintings' as bright and contrasty as the photo's (the colours
            come back with `color.keep_luminance_only`); `histogram`: paintings in the photo's palette; or `None`.
    """
    if preserve_color == "luminance":
        return photo.convert("L").convert("RGB"), [match_luminance(painting, photo) for painting in paintings]
    if preserve_color == "histogram":
        return photo, [match_colors(painting, photo) for painting in paintings]
    return photo, list(paintings)
