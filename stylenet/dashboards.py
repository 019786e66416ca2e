"""The dashboards of a descent: losses and pictures go there when asked for, and nothing is imported when not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from stylenet.program import build


class Dashboards:
    """Lightning's loggers without its trainer; their libraries take seconds to import, so that they come late.

    Args:
        configs: the config group `logger`, or None.
        settings: of the run, as plain values.
        folder: the run's.
        prefix: of the losses' names.
    """

    def __init__(
        self, configs: Mapping[str, Any] | None, settings: Mapping[str, Any], folder: Path, prefix: str
    ) -> None:
        self.loggers = [build(config) for config in (configs or {}).values()]
        self.folder = folder
        self.prefix = prefix
        for logger in self.loggers:
            logger.log_hyperparams(dict(settings))

    def log(self, losses: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        for logger in self.loggers:
            logger.log_metrics({f"{self.prefix}/{name}": value for name, value in losses.items()}, step)

    def show(self, picture: Image.Image, step: int) -> None:
        """Send a picture to those that show pictures, and write out what was sent before."""
        if not self.loggers:
            return
        from stylenet.loggers import log_picture

        log_picture(self.loggers, "picture", picture, step)
        for logger in self.loggers:
            logger.save()

    def close(self) -> list[str]:
        """End the run; a line for each dashboard: how to watch it."""
        if not self.loggers:
            return []
        from stylenet.loggers import finish, how_to_watch

        lines = how_to_watch(self.loggers, self.folder)
        finish(self.loggers)
        return lines
