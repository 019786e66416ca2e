"""The progress bar of painting; costs nothing where painting takes no time or nobody looks on."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 0.5  # seconds before the bar is drawn


class Bar:
    """A progress bar on a terminal, drawn once painting has taken a moment: importing rich takes a while too."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._done, self._finished, self._over = 0.0, 0, False
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._timer = threading.Timer(PATIENCE, self._draw)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if sys.stderr.isatty():  # standard output may carry a picture
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._progress:
                self._progress.stop()

    def advance(self) -> None:
        """One more picture is done."""
        self._finished += 1
        self.part(0.0)

    def part(self, part: float) -> None:
        """So much of the picture in hand is done, from 0 to 1."""
        self._done = self._finished + part
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=self._done)

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        progress.update(progress.add_task("painting", total=self.total), completed=self._done)
        with self._lock:
            if not self._over:
                progress.start()
                self._progress = progress
