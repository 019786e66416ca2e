"""The LightningModule: one step, the optimiser, what is logged; nothing else."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError
from torch.optim.lr_scheduler import LambdaLR

from stylenet.data import Batch
from stylenet.errors import ConfigError, StylenetError, require_number
from stylenet.losses import PerceptualLoss, weave_loss
from stylenet.transformer_net import TransformerNet

log = logging.getLogger(__name__)

LEAST_SHARE = 1 / 25  # of the learning rate, with which it begins to rise


class StyleTransfer(pl.LightningModule):
    """Trains a `TransformerNet` against a `PerceptualLoss`.

    Args:
        net: the network to train.
        loss: with the painting's targets inside.
        algorithm: `soap` (Vyas et al. 2024, arXiv 2409.11321) or `adam`, the paper's.
        learning_rate: at its highest.
        warmup_fraction: share of the steps in which the learning rate rises; after that it falls along a cosine to 0
            (one cycle, Smith and Topin 2017, arXiv 1708.07120). The paper keeps it constant.
        weave_weight: of `losses.weave_loss`, beside the perceptual loss.
        content_lead: how many times its weight the content counts at first. A network that knows nothing finds the
            painting's texture first, and loses what it paints over for good; so it learns to see before it paints.
        content_lead_fraction: share of the steps in which that falls to once, along a cosine.
        steps: of the whole run.
        settings: the run's configuration as plain values, stored in checkpoints and sent to the loggers.
    """

    def __init__(
        self,
        net: TransformerNet,
        loss: PerceptualLoss,
        algorithm: Literal["soap", "adam"],
        learning_rate: float,
        warmup_fraction: float,
        weave_weight: float,
        content_lead: float,
        content_lead_fraction: float,
        steps: int,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        if algorithm not in ("soap", "adam"):
            raise ConfigError(f"optimizer.algorithm is soap or adam, not {algorithm!r}.")
        require_number("optimizer.learning_rate", learning_rate, 0)
        require_number("optimizer.warmup_fraction", warmup_fraction, 0, 1)
        require_number("weave_weight", weave_weight, 0)
        require_number("content_lead", content_lead, 0)
        require_number("content_lead_fraction", content_lead_fraction, 0, 1)
        self.net = net.to(memory_format=torch.channels_last)
        self.loss = loss
        self.algorithm = algorithm
        self.learning_rate = learning_rate
        self.warmup_fraction = warmup_fraction
        self.weave_weight = weave_weight
        self.content_lead = content_lead
        self.content_lead_fraction = content_lead_fraction
        self.steps = steps
        self.finite: Tensor | None = None  # whether all losses since the last check were; read without haste on a GPU
        self.compiled: Callable[[Tensor, int, Tensor | None], dict[str, Tensor]] | None = None
        self.save_hyperparameters(dict(settings))
        self.strict_loading = False  # a checkpoint holds what was learned, not the frozen encoder

    def compile_steps(self) -> None:
        """Compile the training steps, for each size of crops anew; validation and panels stay as they are."""
        self.compiled = torch.compile(self._losses, dynamic=False)

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), RGB in about [0, 1]."""
        painted: Tensor = self.net(photos)
        return painted

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """What is descended: the total loss of one batch, the content's lead, and the weave."""
        losses = self._training_losses(batch.photos)
        finite = losses["total"].detach().isfinite()
        self.finite = finite if self.finite is None else self.finite & finite
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.check_finite()
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        bar = {name: losses[name].detach() for name in ("total", "content", "style")}
        self.log_dict(bar, prog_bar=True, logger=False)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        lead = self.content_share(self.global_step) - 1
        return losses["total"] + lead * losses["content"] + self.weave_weight * losses["weave"]

    def content_share(self, step: int) -> float:
        """How many times its weight the content counts at a step."""
        return 1 + (self.content_lead - 1) * _fall(step, self.content_lead_fraction * self.steps)

    def check_finite(self) -> None:
        """Raise `StylenetError` when a loss since the last check was not finite.

        Not at every step: a GPU would have to wait for the answer. Whoever keeps the network asks first.
        """
        if self.finite is not None and not self.finite:
            raise StylenetError(
                f"The loss is no longer finite at step {self.global_step}. What was kept before is there. Try a "
                f"lower learning rate than optimizer.learning_rate={self.learning_rate}, or lower style weights."
            )
        self.finite = None

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the held-out photographs' losses."""
        losses = self._losses(batch.photos, context=0)
        self.log_dict({f"held_out/{name}": value for name, value in losses.items()}, batch_size=len(batch.photos))

    def _noise(self, photos: Tensor) -> Tensor | None:
        """A step's grain: another at every step, and the same again in a run that was resumed."""
        if not self.net.architecture.grain:
            return None
        random = torch.Generator(photos.device).manual_seed(self.hparams["seed"] * 1_000_003 + self.global_step)
        return torch.randn(photos.shape, generator=random, device=photos.device)

    def _training_losses(self, photos: Tensor) -> dict[str, Tensor]:
        context, noise = self.net.architecture.context, self._noise(photos)
        if self.compiled is not None:
            try:
                return self.compiled(photos, context, noise)
            except (BackendCompilerFailed, InductorError) as error:
                sentence = str(error).strip().splitlines()[0]
                log.warning("Going on without compiling, which needs a C++ compiler that works: %s", sentence)
                self.compiled = None
        return self._losses(photos, context, noise)

    def _losses(self, photos: Tensor, context: int, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Of photos less `context` px on each side, which the network alone sees."""
        height, width = photos.shape[-2:]
        inside = (..., slice(context, height - context), slice(context, width - context))
        painted = self.net(photos, noise)[inside]
        losses: dict[str, Tensor] = self.loss(painted, self.loss.content_targets(photos[inside]))
        losses["weave"] = weave_loss(painted, self.net.architecture.stride)
        return losses

    def configure_optimizers(self) -> Any:
        """The optimiser, with a one-cycle learning rate over the whole run."""
        optimizer = make_optimizer(list(self.net.parameters()), self.algorithm, self.learning_rate)
        schedule = LambdaLR(optimizer, self._share_of_learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _share_of_learning_rate(self, step: int) -> float:
        rise = self.warmup_fraction * self.steps
        if step < rise:
            return LEAST_SHARE + (1 - LEAST_SHARE) * (1 - _fall(step, rise))
        return _fall(step - rise, self.steps - rise)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen encoder and the painting's targets: both are made anew from the settings."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith("loss.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ConfigError` when another optimiser made it, whose state means nothing to this one."""
        algorithm = checkpoint["hyper_parameters"]["optimizer"].get("algorithm", "adam")
        if algorithm != self.algorithm:
            raise ConfigError(f"The checkpoint was trained with algorithm={algorithm}; add that to resume it.")


def _fall(step: float, steps: float) -> float:
    """From 1 at step 0 to 0 at `steps`, along a cosine."""
    return (1 + math.cos(math.pi * min(1, step / steps))) / 2 if steps > 0 else 0.0


def make_optimizer(parameters: list[nn.Parameter], algorithm: str, learning_rate: float) -> torch.optim.Optimizer:
    """`soap` or `adam`. See `StyleTransfer`."""
    if algorithm == "adam":
        return torch.optim.Adam(parameters, learning_rate)
    from pytorch_optimizer import SOAP

    return SOAP(parameters, learning_rate, weight_decay=0)
