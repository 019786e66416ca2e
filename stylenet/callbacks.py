"""What happens beside the training steps: pictures to look at, speed and memory, and keeping what was learned."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import ProgressColumn, Task
from rich.text import Text

from stylenet import checkpoint
from stylenet.data import Batch, PhotoDataModule
from stylenet.image import encode, open_picture, save_image, to_picture
from stylenet.loggers import log_picture
from stylenet.module import StyleTransfer
from stylenet.styles import find_painting

log = logging.getLogger(__name__)

GAP = 8  # px of white between the pictures of a panel
RECIPE = frozenset(
    {
        "version",
        "steps",
        "steps_before",
        "seed",
        "init",
        "optimizer",
        "style",
        "model",
        "encoder",
        "loss",
        "weave_weight",
        "content_lead",
        "content_lead_fraction",
        "data",
    }
)
"""What a model file tells of its run's settings: what made the network, and not where on whose machine."""
THUMBNAIL = 128  # px, the longer side of the painting inside a model file


class Panels(Callback):
    """Every so often, paints held-out photographs and shows them beside the painting.

    The panel goes to a folder and to every logger that shows pictures.

    Args:
        every_n_steps: how often; the first and the last step are always shown.
        pictures: how many held-out photographs.
        folder: where the panels are saved.
        painting: the painting's file or name.
    """

    def __init__(self, every_n_steps: int, pictures: int, folder: str, painting: str) -> None:
        self.every_n_steps = every_n_steps
        self.pictures = pictures
        self.folder = Path(folder)
        self.painting = open_picture(find_painting(painting))
        self.photos = torch.empty(0)
        self.shown = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the photographs and show the network before its first step."""
        data: PhotoDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.photos = torch.cat([batch.photos for batch in data.val_dataloader()])[: self.pictures]
        self._show(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the network when it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the network as it is exported."""
        self._show(trainer, pl_module)

    @torch.no_grad()
    def _show(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or step == self.shown:
            return
        self.shown = step
        training = module.training
        module.eval()  # or it would show the frame along the edges that is cut off when painting
        painted = torch.cat([module(photo[None].to(module.device)).float().cpu() for photo in self.photos])
        module.train(training)
        panel = panel_picture(self.painting, self.photos, painted)
        save_image(panel, self.folder / f"step_{step:06d}.jpg")
        log_picture(trainer.loggers, "panel", panel, step)


def panel_picture(style: Image.Image, photos: torch.Tensor, painted: torch.Tensor) -> Image.Image:
    """The painting, and beside it each photograph above its painted version.

    Args:
        style: the painting.
        photos: (N, 3, S, S), RGB in [0, 1].
        painted: (N, 3, S, S), RGB in about [0, 1].

    Returns:
        One picture, 2 S + 3 gaps high.
    """
    side = photos.shape[-1]
    height = 2 * side + GAP
    painting = style.resize((round(style.width * height / style.height), height), Image.Resampling.LANCZOS)
    width = painting.width + 2 * GAP + len(photos) * (side + GAP)
    panel = Image.new("RGB", (width, height + 2 * GAP), "white")
    panel.paste(painting, (GAP, GAP))
    for column, (photo, picture) in enumerate(zip(photos, painted, strict=True)):
        left = painting.width + 2 * GAP + column * (side + GAP)
        panel.paste(to_picture(photo[None].numpy()), (left, GAP))
        panel.paste(to_picture(picture[None].numpy()), (left, GAP + side + GAP))
    return panel


class Speedometer(Callback):
    """Logs pictures per second, the most memory used so far, and with the held-out losses the minutes of training."""

    def __init__(self) -> None:
        self.pictures = 0
        self.start = self.since = 0.0
        self.minutes_before = 0.0  # of the run that was resumed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.pictures, self.start = 0, time.perf_counter()
        self.since = self.start

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log how long it took to come so far."""
        pl_module.log("minutes", self._minutes())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on counting from."""
        return {"minutes": self._minutes()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.minutes_before = state_dict["minutes"]

    def _minutes(self) -> float:
        return self.minutes_before + (time.perf_counter() - self.start) / 60

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log the mean since the last logged step."""
        self.pictures += len(batch.photos) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        now = time.perf_counter()
        speed = self.pictures / (now - self.since)
        self.pictures, self.since = 0, now
        pl_module.log("pictures_per_second", speed, prog_bar=True, batch_size=len(batch.photos))
        pl_module.log("memory_gb", _memory_gb(pl_module.device), batch_size=len(batch.photos))


def _memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return float(psutil.Process().memory_info().rss) / 1e9


class Keeper(Callback):
    """Keeps what was learned: every so often, at the end, and on Ctrl-C.

    The folder then holds `last.ckpt`, to resume from, and `{name}.safetensors`, to paint with.

    Args:
        every_n_steps: how often.
        folder: where to.
        name: the style's name.
        painting: the painting's file or name.
    """

    def __init__(self, every_n_steps: int, folder: str, name: str, painting: str) -> None:
        self.every_n_steps = every_n_steps
        self.folder = Path(folder)
        self.name = name
        self.thumbnail = _thumbnail(open_picture(find_painting(painting)))
        self.skipped: set[str] = set()
        self.kept = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep, when it is time; and remember which pictures could not be read."""
        self.skipped.update(batch.skipped)
        if trainer.global_step % self.every_n_steps == 0:
            self._keep(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the finished network with its last held-out losses, and name the pictures that were skipped."""
        self.kept = -1  # what was kept after the last step had not seen them yet
        self._keep(trainer, pl_module)
        if self.skipped:
            log.warning("Unreadable pictures skipped: %d", len(self.skipped))
            for name in sorted(self.skipped):
                log.warning("  %s", name)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep what was learned until Ctrl-C; after an error, what was kept before stays."""
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            self._keep(trainer, pl_module)

    def _keep(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.global_step == self.kept:
            return
        self.kept = trainer.global_step
        if isinstance(module, StyleTransfer):
            module.check_finite()
        trainer.save_checkpoint(self.folder / "last.ckpt")
        if not trainer.is_global_zero or not isinstance(module, StyleTransfer):
            return
        card = checkpoint.ModelCard(
            style=self.name,
            network=module.net.arguments,
            training={
                **_recipe(module.hparams),
                "steps_done": trainer.global_step,
            },
            losses={name: float(value) for name, value in trainer.callback_metrics.items()},
            thumbnail=self.thumbnail,
        )
        checkpoint.export(module.net, card, self.folder / f"{self.name}{checkpoint.EXTENSION}")


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's settings, what a model file tells; of a folder of photographs or another network, the name alone."""
    recipe = {name: value for name, value in settings.items() if name in RECIPE}
    root, init = recipe["data"]["root"], recipe["init"]
    data = {**recipe["data"], "root": root and Path(root).name}
    return {**recipe, "data": data, "init": init and Path(init).name.removesuffix(checkpoint.EXTENSION)}


def _thumbnail(painting: Image.Image) -> bytes:
    small = painting.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return bytes(encode(small, "JPEG"))


class Progress(RichProgressBar):
    """A bar with step, elapsed and remaining time, losses and pictures per second; lines where there is no terminal.

    Args:
        line_every_n_steps: how often a line of text says how far training is, where there is no terminal.
    """

    def __init__(self, line_every_n_steps: int) -> None:
        super().__init__(leave=True, theme=RichProgressBarTheme(metrics_format=".3f"))
        self.line_every_n_steps = line_every_n_steps
        self.first_step, self.start = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.first_step, self.start = trainer.global_step, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        step = trainer.global_step
        if sys.stdout.isatty() or step % self.line_every_n_steps:
            return
        losses = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        log.info("step %d of %d, %s left, %s", step, trainer.max_steps, self.time_left(), text)

    def time_left(self) -> str:
        """Hours, minutes and seconds to the end of the run."""
        done, left = self.trainer.global_step - self.first_step, self.trainer.max_steps - self.trainer.global_step
        if not done:
            return "-:--:--"
        seconds = (time.perf_counter() - self.start) * left / done
        return str(timedelta(seconds=round(seconds)))

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Lightning's columns, with the time as we know it."""
        columns = super().configure_columns(trainer)
        return [_Times(self) if type(column).__name__ == "CustomTimeColumn" else column for column in columns]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What the bar shows beside the time: the losses and the speed."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


class _Times(ProgressColumn):
    """Elapsed and remaining time."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def render(self, task: Task) -> Text:
        elapsed = timedelta(seconds=round(task.finished_time or task.elapsed or 0))
        is_training = task.id == self.progress.train_progress_bar_id
        left = f" • {self.progress.time_left()}" if is_training else ""
        return Text(f"{elapsed}{left}")
