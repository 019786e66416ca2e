"""L-BFGS by octaves, on bowls whose curvature is known and on a photograph with the real VGG19."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stylenet import spectral
from stylenet.descent import Optimizer, descend
from stylenet.errors import ConfigError
from stylenet.losses import PerceptualLoss
from stylenet.spectral import SpectralLBFGS
from stylenet.vgg import Encoder


def waves(height: int, width: int) -> Tensor:
    """How many waves each frequency of `rfft2` has on the longer side."""
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    return torch.hypot(down, across) * max(height, width)


def steep_in_the_fine(height: int, width: int) -> Callable[[Tensor], Tensor]:
    """A bowl that bends a thousand times more along the finest waves than along the coarsest."""
    bends = (1 + waves(height, width)) ** 1.5
    return lambda x: (torch.fft.rfft2(x, norm="ortho").abs().square() * bends).sum() / 2


def last_value(start: Tensor, bowl: Callable[[Tensor], Tensor], optimizer: Optimizer, iterations: int) -> float:
    x = start.clone().requires_grad_()
    steps = descend([x], lambda: {"total": bowl(x)}, optimizer, iterations, 1.0)
    return [step.losses["total"] for step in steps][-1]


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_knows_that_fine_waves_are_steep(size: tuple[int, int]) -> None:
    start = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    bowl = steep_in_the_fine(*size)
    spectral, textbook = (last_value(start, bowl, optimizer, 20) for optimizer in ("spectral", "lbfgs"))
    assert spectral < textbook / 10


def test_comes_further_than_the_textbooks_on_a_photo(encoder: Encoder, photo: Tensor, painting: Tensor) -> None:
    layers = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0}
    loss = PerceptualLoss(encoder, painting, {"relu4_1": 1.0}, layers, 0.0, "gram", "relative")
    content = loss.content_targets(photo)

    def objective(image: Tensor) -> Tensor:
        total: Tensor = loss(image, content)["total"]
        return total

    assert last_value(photo, objective, "spectral", 30) < last_value(photo, objective, "lbfgs", 30)


def test_a_step_that_led_up_is_halved_until_it_leads_down() -> None:
    """From the foot of a wall: the first step, of 10/255, lands high on it."""
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)

    def objective() -> dict[str, Tensor]:
        return {"total": (1e-3 * x + 1e3 * x.clamp(max=0).square()).mean()}

    values = [step.losses["total"] for step in descend([x], objective, "spectral", 30, 1.0)]
    assert values[1] > 1
    assert values[-1] < values[0] == 0
    assert min(values) == pytest.approx(-2.5e-10, rel=0.05)


def test_takes_one_picture() -> None:
    with pytest.raises(ConfigError, match="not 2 at once"):
        SpectralLBFGS([torch.zeros(1, 3, 8, 8, requires_grad=True) for _ in range(2)], 1.0)


@pytest.mark.parametrize(("remembered", "size"), [(80, 32), (50, 64), (20, 256)])
def test_remembers_fewer_steps_of_a_large_picture(remembered: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "MEMORY", 50 * 2 * 3 * 4 * 64**2)
    picture = torch.zeros(1, 3, size, size, requires_grad=True)
    optimizer = SpectralLBFGS([picture], 1.0)
    bends = torch.logspace(-4, 0, picture.numel()).view_as(picture)  # so many that the bottom stays far away

    def bowl() -> Tensor:
        picture.grad = bends * (picture.detach() - 1)
        return (bends * (picture.detach() - 1).square()).sum() / 2

    for _ in range(remembered + 5):
        optimizer.step(bowl)
    assert len(optimizer.pairs) == remembered
