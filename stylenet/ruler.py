"""The ruler: a painted picture's objective beside Gatys' curve, and its distances on layers that no training used.

Johnson et al. 2016, section 4.1 and Figure 5: a network is as good as so many iterations of optimisation, where the
curve of the objective over the iterations crosses the network's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylenet.checkpoint import ModelCard
from stylenet.descent import descend
from stylenet.errors import ConfigError
from stylenet.image import load_image
from stylenet.losses import PerceptualLoss, content_loss, gram_matrix, style_loss
from stylenet.memory import best_device
from stylenet.styles import find_painting
from stylenet.vgg import Encoder

SETTINGS = ("content_weights", "style_weights", "total_variation_weight", "statistic", "normalization")


@dataclass(frozen=True)
class Objective:
    """What a network was trained to reach, and its painting: (1, 3, H, W), as large as in training."""

    loss: PerceptualLoss
    painting: Tensor


def objective_of(card: ModelCard) -> Objective:
    """The training objective of a network, from what its model file says.

    Values alone are taken from the file; nothing that it names is called.

    Raises:
        ConfigError: when the file does not say enough.
        PictureError: when the painting is not here.
    """
    try:
        training: Mapping[str, Any] = card.training
        loss = {name: training["loss"][name] for name in SETTINGS}
        style, encoder = training["style"], training["encoder"]
        layers = [*loss["content_weights"], *loss["style_weights"]]
        device = best_device()
        painting = torch.from_numpy(load_image(find_painting(style["image"]), style["size"])).to(device)
        seer = Encoder(layers, encoder["weights"], encoder["pooling"], encoder.get("padding", "zeros")).to(device)
        return Objective(PerceptualLoss(seer, painting, **loss), painting)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"The model file for {card.style} does not say how it was trained ({error}).") from None


@dataclass(frozen=True)
class Curve:
    """Gatys' method on one photo.

    Attributes:
        totals: the objective before each iteration.
        seconds: from the start to the end of each iteration.
        pictures: (1, 3, H, W), after the iterations asked for.
    """

    totals: list[float]
    seconds: list[float]
    pictures: dict[int, Tensor]


def gatys_curve(
    objective: Objective,
    photo: Tensor,
    start: Tensor,
    iterations: int,
    keep: Sequence[int],
    advance: Callable[[], None],
    until: float = 0.0,
) -> Curve:
    """Let the pixels descend a network's own objective by L-BFGS, at the photo's size from the first iteration on.

    After each iteration they are clipped to [0, 1], as Johnson et al. do (section 4.1, "Baseline"): the network's
    picture has 8 bits per channel too.

    Args:
        objective: the network's.
        photo: (1, 3, H, W), RGB in [0, 1].
        start: (1, 3, H, W), where the descent begins.
        iterations: how many, at most.
        keep: iterations after which the picture is kept; the last one's always is.
        advance: called after each.
        until: once the objective is lower than this, and all of `keep` are there, the curve ends.
    """
    content = objective.loss.content_targets(photo.to(best_device()))
    pixels = start.to(best_device(), copy=True).requires_grad_()
    curve = Curve([], [], {})
    began = time.perf_counter()

    def terms() -> dict[str, Tensor]:
        losses: dict[str, Tensor] = objective.loss(pixels, content)
        return losses

    for step in descend([pixels], terms, "lbfgs", iterations, 1.0):
        curve.totals.append(step.losses["total"])
        curve.seconds.append(time.perf_counter() - began)
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if step.iteration in keep:
            curve.pictures[step.iteration] = pixels.detach().to("cpu", copy=True)
        advance()
        if step.losses["total"] < until and step.iteration >= max(keep, default=0):
            break
    curve.pictures[len(curve.totals)] = pixels.detach().cpu()
    return curve


@torch.no_grad()
def measure(objective: Objective, photo: Tensor, picture: Tensor) -> float:
    """The objective of a picture: (1, 3, H, W), RGB in [0, 1], of the photo's size."""
    content = objective.loss.content_targets(photo.to(best_device()))
    return float(objective.loss(picture.to(best_device()), content)["total"])


def equalled(totals: Sequence[float], value: float) -> float | None:
    """How many iterations bring the objective down to `value`, between two by proportion; `None`: more than there are.

    `totals[i]` is the objective after i iterations.
    """
    if value >= totals[0]:
        return 0.0
    for index, (before, after) in _steps(totals):
        if after <= value:
            return index + (before - value) / (before - after)
    return None


def _steps(totals: Sequence[float]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Each iteration with the lowest objective before it and after it: a curve that never rises."""
    lowest = totals[0]
    for index, total in enumerate(totals[1:]):
        after = min(lowest, total)
        yield index, (lowest, after)
        lowest = after


class UnseenLayers:
    """Distances on layers that training did not use, so that a network cannot please its own ruler.

    Args:
        content: layers.
        style: layers, compared by Gram matrices.
    """

    def __init__(self, content: Sequence[str], style: Sequence[str]) -> None:
        self.content, self.style = list(content), list(style)
        self.encoder = Encoder([*content, *style]).to(best_device())

    @torch.no_grad()
    def distances(self, painting: Tensor, photo: Tensor, picture: Tensor) -> dict[str, float]:
        """Relative errors, means over the layers; 0 is the photo's content or the painting's style itself.

        Args:
            painting: (1, 3, h, w).
            photo: (1, 3, H, W).
            picture: (1, 3, H, W).

        Returns:
            `content` and `style`.
        """
        seen, there = self.encoder(picture.to(best_device())), self.encoder(photo.to(best_device()), self.content)
        grams = self.encoder(painting.to(best_device()), self.style)
        content = [float(content_loss(seen[name], there[name])) for name in self.content]
        style = [float(style_loss(gram_matrix(seen[name]), gram_matrix(grams[name]))) for name in self.style]
        return {"content": sum(content) / len(content), "style": sum(style) / len(style)}
