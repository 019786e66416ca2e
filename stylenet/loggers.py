"""Dashboards: Weights & Biases that works without an account, TensorBoard, CSV."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from stylenet.image import to_array
from stylenet.program import shortest

log = logging.getLogger(__name__)


def wandb_logger(folder: str, project: str, name: str, mode: str) -> WandbLogger:
    """Weights & Biases, without a question asked.

    Args:
        folder: where runs are kept.
        project: the project's name.
        name: the run's name.
        mode: `online`, `offline`, or `auto`: online when logged in, otherwise offline.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    Path(folder).mkdir(parents=True, exist_ok=True)  # or wandb falls back to the system's temporary folder
    run = wandb.init(
        project=project,
        name=name,
        dir=folder,
        mode=mode,  # type: ignore[arg-type]  # a plain string here; wandb checks it
        settings=wandb.Settings(silent=True, console="off"),  # the run's own report says what wandb would
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def _logged_in() -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except (wandb.Error, OSError) as error:
        log.warning("Weights & Biases: %s. This run is logged offline.", str(error).rstrip("."))
        return False


def tensorboard_logger(folder: str) -> TensorBoardLogger:
    """TensorBoard's event files in `folder/tensorboard`."""
    return TensorBoardLogger(save_dir=folder, name="tensorboard", version="", default_hp_metric=False)


def csv_logger(folder: str) -> CSVLogger:
    """A table in `folder/csv/metrics.csv`."""
    return CSVLogger(save_dir=folder, name="csv", version="")


def log_picture(loggers: Sequence[Any], name: str, picture: Image.Image, step: int) -> None:
    """Send a picture to every logger that shows pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=step, caption=[f"step {step}"])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, to_array(picture)[0], step)


def how_to_watch(loggers: Sequence[Any], folder: Path) -> list[str]:
    """A line for each dashboard: the command that shows the run, or sends it."""
    lines = []
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run = shortest(Path(logger.experiment.dir).parent)
            if logger.experiment.offline:
                lines += [f"wandb leet {run}   (in the terminal)", f"wandb sync {run}   (to your account)"]
            else:
                lines.append(f"{logger.experiment.url}   (in the browser)")
        elif isinstance(logger, TensorBoardLogger):
            lines.append(f"tensorboard --logdir {shortest(folder.parent)}   (in the browser)")
        elif isinstance(logger, CSVLogger):
            lines.append(f"{shortest(Path(logger.log_dir) / 'metrics.csv')}   (a table)")
    return lines


def finish(loggers: Sequence[Any]) -> None:
    """Close what must be closed before another run may begin."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
