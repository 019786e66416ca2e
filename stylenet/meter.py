"""How far a long descent is: a bar with losses and the time left, or lines of text where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)


class Meter:
    """Shows progress while it is open; use it in a `with`.

    Args:
        work: of the whole, in any unit that takes equally long throughout: pixels, say.
        done: what was done before.
        every: calls of `show` to a line of text.
    """

    def __init__(self, work: int, done: int, every: int) -> None:
        self.work = work
        self.first = self.done = done
        self.every = every
        self.calls = 0
        self.begin = 0.0
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Meter:
        if sys.stdout.isatty():
            columns = ("{task.description}", BarColumn(), TimeElapsedColumn(), "{task.fields[left]} left")
            self.bar = Progress(*columns, TextColumn("{task.fields[losses]}"))
            self.task = self.bar.add_task("", total=self.work, completed=self.done, left="-:--:--", losses="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, done: int, what: str, losses: Mapping[str, float]) -> None:
        """Say how far it is.

        Args:
            done: of the work.
            what: is being done.
            losses: by name; those of single layers (`style/relu1_1`) are not shown.
        """
        if self.calls == 0:  # what came before had all to prepare, and says nothing of the speed
            self.first, self.begin = done, time.perf_counter()
        self.done = done
        self.calls += 1
        text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items() if "/" not in name)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=what, left=self.time_left(), losses=text)
        elif self.calls % self.every == 0 or done >= self.work:
            log.info("%s, %s left, %s", what, self.time_left(), text)

    def time_left(self) -> str:
        """Hours, minutes and seconds, from the speed so far."""
        if self.done == self.first:
            return "-:--:--"
        seconds = (time.perf_counter() - self.begin) * (self.work - self.done) / (self.done - self.first)
        return str(timedelta(seconds=round(seconds)))
