"""The LightningModule: one step, the optimiser, what is logged; nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from stylenet.data import Batch
from stylenet.errors import StylenetError
from stylenet.losses import PerceptualLoss
from stylenet.transformer_net import TransformerNet


class StyleTransfer(pl.LightningModule):
    """Trains a `TransformerNet` against a `PerceptualLoss`.

    Args:
        net: the network to train.
        loss: with the painting's targets inside.
        learning_rate: Adam's, at its highest.
        warmup_fraction: share of the steps in which the learning rate rises; after that it falls along a cosine to
            nearly 0 (one cycle, Smith and Topin 2017, arXiv 1708.07120). The paper keeps it constant.
        steps: of the whole run.
        settings: the run's configuration as plain values, stored in checkpoints and sent to the loggers.
    """

    def __init__(
        self,
        net: TransformerNet,
        loss: PerceptualLoss,
        learning_rate: float,
        warmup_fraction: float,
        steps: int,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.loss = loss
        self.learning_rate = learning_rate
        self.warmup_fraction = warmup_fraction
        self.steps = steps
        self.save_hyperparameters(dict(settings))
        self.strict_loading = False  # a checkpoint holds what was learned, not the frozen encoder

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), RGB in about [0, 1]."""
        painted: Tensor = self.net(photos)
        return painted

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Total loss of one batch."""
        losses = self._losses(batch.photos)
        if not losses["total"].isfinite():
            raise StylenetError(
                f"The loss is no longer finite at step {self.global_step}. What was learned before is kept. Try a "
                f"lower learning rate than optimizer.learning_rate={self.learning_rate}, or lower style weights."
            )
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        bar = {name: losses[name].detach() for name in ("total", "content", "style")}
        self.log_dict(bar, prog_bar=True, logger=False)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return losses["total"]

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the held-out photographs' losses."""
        losses = self._losses(batch.photos)
        self.log_dict({f"held_out/{name}": value for name, value in losses.items()}, batch_size=len(batch.photos))

    def _losses(self, photos: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.loss(self.net(photos), self.loss.content_targets(photos))
        return losses

    def configure_optimizers(self) -> Any:
        """Adam, with a one-cycle learning rate over the whole run."""
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.learning_rate)
        schedule = OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps, pct_start=self.warmup_fraction)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen encoder and the painting's targets: both are made anew from the settings."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith("loss.")}
