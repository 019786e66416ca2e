"""The loop in which a picture itself descends an objective: Gatys' method, textures, dreams, and their curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from stylenet.errors import ConfigError, StylenetError
from stylenet.spectral import SpectralLBFGS
from stylenet.speed import Precision

Optimizer = Literal["spectral", "lbfgs", "adam", "gradient"]
Objective = Callable[[], Mapping[str, Tensor]]  # reads the parameters; scalars by name, one of them `total`
HISTORY = 50  # gradients that L-BFGS remembers; more costs memory (two pictures each) and gains little
FIRST_CHANGE = 1 / 255  # of a value, in the mean, in L-BFGS's first step, before it has measured any curvature


class Step(NamedTuple):
    """One iteration of a descent.

    Attributes:
        iteration: counts from 1.
        losses: by name, as they were before the iteration's step.
    """

    iteration: int
    losses: dict[str, float]


def descend(
    parameters: list[Tensor],
    objective: Objective,
    optimizer: Optimizer,
    iterations: int,
    learning_rate: float,
    precision: Precision = "32-true",
) -> Iterator[Step]:
    """Change `parameters` in place, down the objective, one evaluation and one step at a time.

    The caller may look at the parameters between the steps, and stop when it likes. L-BFGS goes without a line search,
    as Gatys' and Johnson's own programs do: an iteration costs one evaluation, and is comparable with one of Adam's.

    Args:
        parameters: float32 leaves that require gradients.
        objective: what the parameters are worth.
        optimizer: `spectral`: L-BFGS that knows how coarse and fine differ (see `spectral`); `lbfgs`: the textbook's;
            `adam`; or `gradient`: steps along the gradient over its mean absolute value, as dreams take.
        iterations: at most.
        learning_rate: 1 is the natural step of both kinds of L-BFGS; the others' is in the parameters' own scale.
        precision: `bf16-mixed`: the network in `objective` computes in bfloat16, while the parameters, their sums and
            the optimiser's memory stay in float32, where L-BFGS would stall.

    Yields:
        One `Step` after each step.

    Raises:
        ConfigError: for an unknown optimiser.
        StylenetError: when the objective is no longer finite.
    """
    stepper = _make_optimizer(parameters, optimizer, learning_rate)
    losses: dict[str, float] = {}

    def evaluate() -> Tensor:
        stepper.zero_grad()
        with computing_in(precision, parameters[0].device):
            terms = objective()
        terms["total"].backward()  # type: ignore[no-untyped-call]
        losses.update({name: float(value.detach()) for name, value in terms.items()})
        return terms["total"].detach()

    for iteration in range(1, iterations + 1):
        if optimizer == "lbfgs":
            # PyTorch's first step has a sum of changes of `lr`, over a whole picture: lost in rounding, and with it the
            # curvature that it should measure; the second step then goes anywhere.
            first = sum(parameter.numel() for parameter in parameters) * FIRST_CHANGE
            stepper.param_groups[0]["lr"] = learning_rate * (first if iteration == 1 else 1)
        stepper.step(evaluate)  # type: ignore[arg-type]
        if not torch.tensor(losses["total"]).isfinite():
            raise StylenetError(
                f"The objective is no longer finite at iteration {iteration}. Try a lower learning_rate than "
                f"{learning_rate:g}, or lower weights."
            )
        yield Step(iteration, dict(losses))


def computing_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Within it, networks compute in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def _make_optimizer(parameters: list[Tensor], name: str, learning_rate: float) -> torch.optim.Optimizer:
    if name == "spectral":
        return SpectralLBFGS(parameters, learning_rate)
    if name == "lbfgs":
        return torch.optim.LBFGS(
            parameters, learning_rate, max_iter=1, history_size=HISTORY, tolerance_grad=0, tolerance_change=0
        )
    if name == "adam":
        return torch.optim.Adam(parameters, learning_rate)
    if name == "gradient":
        return _NormalizedGradient(parameters, {"lr": learning_rate})
    raise ConfigError(f"The optimizer is 'spectral', 'lbfgs', 'adam' or 'gradient', not {name!r}.")


class _NormalizedGradient(torch.optim.Optimizer):
    """Steps of a mean length of `lr`, however steep it is (Mordvintsev et al. 2015)."""

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        value = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(group["lr"] * parameter.grad / parameter.grad.abs().mean().clamp(min=1e-20))
        return value
