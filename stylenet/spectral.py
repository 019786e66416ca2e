"""L-BFGS for pictures: a quasi-Newton method that knows how the curvature differs between coarse and fine.

L-BFGS (Liu and Nocedal 1989) corrects a first guess of the inverse curvature by what it has seen in its last steps. The
guess is one number for all directions, where a perceptual loss bends a hundred times more along some frequencies of a
picture than along others. Here it is one number for each octave of frequencies, measured from the same steps: Gatys'
objective falls in two thirds to four fifths of the iterations, at 256 px and at 512.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stylenet.errors import ConfigError

HISTORY = 80  # steps that are remembered, two pictures each
MEMORY = 10**9  # bytes that they may take; of large pictures fewer are remembered,
LEAST_HISTORY = 20  # but no fewer than these
MEASURED = 10  # steps at least from which the octaves' curvatures are measured
SHARE = 0.5  # of the remembered ones, where that is more: bfloat16's errors even out
BOLDNESS = 0.3  # between the two steps of Barzilai and Borwein (1988): 0 the short one, 1 the long one
OVERSHOT = 1.005  # times the value before: from there on, half of the step is taken back; bfloat16 alone errs by less
SPREAD = 4.0  # times more or less than the guess for all directions: an octave's guess at most
FIRST_CHANGE = 10 / 255  # of a value, in the mean, in the first step, before any curvature has been measured


class Pair(NamedTuple):
    """One step, and what it did to the gradient.

    Attributes:
        step: as the parameter.
        change: of the gradient, as the parameter.
        curvature: their inner product, positive.
        octaves: (3, octaves): of step and change, their inner product and both squared lengths, by octave.
    """

    step: Tensor
    change: Tensor
    curvature: float
    octaves: Tensor


class SpectralLBFGS(torch.optim.Optimizer):
    """Quasi-Newton steps of one evaluation each; one that led up, by more than rounding, is halved instead.

    Args:
        parameters: one, (..., H, W), float32.
        lr: 1 is the natural step.

    Raises:
        ConfigError: for several parameters.
    """

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        if len(parameters) != 1:
            raise ConfigError(f"spectral descends one picture, or one batch of them, not {len(parameters)} at once.")
        self.picture = parameters[0]
        fitting = MEMORY // (2 * self.picture.nbytes)
        self.pairs: deque[Pair] = deque(maxlen=min(max(fitting, LEAST_HISTORY), HISTORY))
        self.gradient: Tensor | None = None  # before the last step
        self.step_taken: Tensor | None = None
        self.value = math.inf  # before the last step
        self.octave, self.weight = _octaves(self.picture)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Evaluate, and go one step; returns the value before it."""
        with torch.enable_grad():
            value = closure()
        assert self.picture.grad is not None
        if self.step_taken is not None and float(value) > OVERSHOT * self.value:
            self.step_taken /= 2
            self.picture.sub_(self.step_taken)
            return value
        self.value = float(value)
        gradient = self.picture.grad.clone()
        if self.gradient is not None and self.step_taken is not None:
            self._remember(self.step_taken, gradient - self.gradient)
        step = self.param_groups[0]["lr"] * self._direction(gradient)
        self.picture.add_(step)
        self.gradient, self.step_taken = gradient, step
        return value

    def _remember(self, step: Tensor, change: Tensor) -> None:
        curvature = float(_inner(step, change))
        if curvature <= 1e-10 * float(_inner(change, change)):  # bends the other way: no quadratic bowl has that
            return
        one, other = torch.fft.rfft2(step), torch.fft.rfft2(change)
        products = torch.stack([(one * other.conj()).real, one.abs().square(), other.abs().square()])
        by_frequency = (products * self.weight).flatten(1, -3).sum(1).flatten(1)  # (3, frequencies)
        octaves = by_frequency.new_zeros(3, int(self.octave.max()) + 1)
        octaves.index_add_(1, self.octave.flatten(), by_frequency)
        self.pairs.append(Pair(step, change, curvature, octaves))

    def _direction(self, gradient: Tensor) -> Tensor:
        """Where to go: the two loops of L-BFGS, around the first guess."""
        if not self.pairs:
            return -FIRST_CHANGE * gradient / gradient.abs().mean().clamp(min=1e-20)
        direction = -gradient
        shares: list[Tensor] = []
        for pair in reversed(self.pairs):
            shares.append(_inner(pair.step, direction) / pair.curvature)
            direction.addcmul_(pair.change, shares[-1], value=-1)
        direction = self._guess(direction)
        for pair, share in zip(self.pairs, reversed(shares), strict=True):
            rest = share - _inner(pair.change, direction) / pair.curvature
            direction.addcmul_(pair.step, rest)
        return direction

    def _guess(self, direction: Tensor) -> Tensor:
        """The inverse curvature by octaves, applied."""
        newest = self.pairs[-1]
        lengths = (float(_inner(vector, vector)) for vector in (newest.step, newest.change))
        overall = _inverse_curvature(newest.curvature, *lengths)
        measured = max(MEASURED, round(SHARE * len(self.pairs)))
        both, steps, changes = sum(pair.octaves for pair in list(self.pairs)[-measured:]).tolist()  # type: ignore[union-attr]
        guesses = [
            min(max(_inverse_curvature(*octave), overall / SPREAD), overall * SPREAD) if octave[0] > 0 else overall
            for octave in zip(both, steps, changes, strict=True)
        ]
        factors = direction.new_tensor(guesses)[self.octave]
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(direction) * factors, s=direction.shape[-2:])
        return filtered


def _inverse_curvature(both: float, steps: float, changes: float) -> float:
    """Between Barzilai and Borwein's two estimates, in logarithms."""
    short, long = both / changes, steps / both
    return math.exp((1 - BOLDNESS) * math.log(short) + BOLDNESS * math.log(long))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


def _octaves(picture: Tensor) -> tuple[Tensor, Tensor]:
    """The octave of each frequency of `rfft2`, and how often it stands for itself and its mirror: (H, W // 2 + 1)."""
    height, width = picture.shape[-2:]
    down = torch.fft.fftfreq(height, device=picture.device)[:, None]
    across = torch.fft.rfftfreq(width, device=picture.device)[None]
    waves = torch.hypot(down, across) * max(height, width)  # on the longer side
    weight = torch.full_like(waves, 2.0)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    return waves.clamp(min=1).log2().floor().long(), weight
