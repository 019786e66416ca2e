"""Many pictures through the same brushes: reading and writing run beside the painting, equal sizes go together.

One picture that fails is noted, and the rest are done.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from stylenet.errors import PictureError, StylenetError
from stylenet.image import MAX_MEGAPIXELS, QUALITY, format_of, resize_picture, write_picture
from stylenet.jobs import Job
from stylenet.painting import Controls, Layer, paint
from stylenet.photo import Photo, encode_photo, read_photo

MOST_HELD = 64  # pictures read ahead
MOST_HELD_PIXELS = 48_000_000  # and their size in all; one picture may be larger
MOST_TOGETHER = 64  # pictures painted at once
PENDING_WRITES = 8


@dataclass(frozen=True)
class Settings:
    """What is the same for every picture of a run.

    Attributes:
        controls: how they are painted.
        shorter_side: resize before painting.
        file_format: Pillow's name; default: by the result's name, or as the picture came.
        quality: of formats that lose something, 1 to 100.
        max_megapixels: larger pictures are refused.
        pixels_together: pictures of one size are painted together up to this many pixels.
    """

    controls: Controls = field(default_factory=Controls)
    shorter_side: int | None = None
    file_format: str | None = None
    quality: int = QUALITY
    max_megapixels: float = MAX_MEGAPIXELS
    pixels_together: int = 2**19


@dataclass
class Result:
    """What came of a run."""

    painted: int = 0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)  # of the last picture
    failures: list[tuple[Job, str]] = field(default_factory=list)


def run(
    jobs: Sequence[Job], layers: Sequence[Layer], settings: Settings, advance: Callable[[], None] = lambda: None
) -> Result:
    """Paint them all.

    Args:
        jobs: what is painted and where it goes.
        layers: the brushes.
        settings: for all of them.
        advance: called after each picture, done or failed.

    Returns:
        How many were painted, and the failures in the jobs' order.
    """
    return _Run(layers, settings, advance).run(jobs)


class _Run:
    def __init__(self, layers: Sequence[Layer], settings: Settings, advance: Callable[[], None]) -> None:
        self.layers, self.settings, self.advance = layers, settings, advance
        self.result = Result()
        self.writes: deque[tuple[Job, Future[None]]] = deque()

    def run(self, jobs: Sequence[Job]) -> Result:
        start = time.monotonic()
        with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:
            try:
                for group in self._groups(self._read_ahead(jobs, readers)):
                    self._paint(group, writers)
                while self.writes:
                    self._settle()
            except BaseException:
                readers.shutdown(wait=False, cancel_futures=True)
                writers.shutdown(wait=True, cancel_futures=True)
                raise
        order = {job: index for index, job in enumerate(jobs)}
        self.result.failures.sort(key=lambda failure: order[failure[0]])
        self.result.seconds = time.monotonic() - start
        return self.result

    def _read_ahead(self, jobs: Sequence[Job], readers: ThreadPoolExecutor) -> Iterator[tuple[Job, Photo]]:
        waiting = deque(jobs)
        reading: deque[tuple[Job, Future[Photo]]] = deque()
        ahead = 4
        while waiting or reading:
            while waiting and len(reading) < ahead:
                job = waiting.popleft()
                reading.append((job, readers.submit(self._read, job)))
            job, future = reading.popleft()
            try:
                read = [(job, future.result())]
            except StylenetError as error:
                self._fail(job, error)
                continue
            finally:
                del future  # it keeps its picture
            ahead = max(2, min(MOST_HELD, MOST_HELD_PIXELS // _pixels(read[0][1])) // 2)
            yield read.pop()

    def _groups(self, photos: Iterator[tuple[Job, Photo]]) -> Iterator[list[tuple[Job, Photo]]]:
        """Pictures of one size together; an animation is a group by itself."""
        groups: dict[tuple[int, int], list[tuple[Job, Photo]]] = {}
        for read in photos:
            size = read[1].frames[0].size
            if len(read[1].frames) > 1 or self._together(size) == 1:
                alone = [read]
                del read  # a large picture must be gone once it is painted
                yield alone
                continue
            groups.setdefault(size, []).append(read)
            if len(groups[size]) == self._together(size):
                yield groups.pop(size)
            held = [photo for group in groups.values() for _, photo in group]
            if len(held) >= MOST_HELD or sum(map(_pixels, held)) >= MOST_HELD_PIXELS:
                yield groups.pop(max(groups, key=lambda size: len(groups[size])))
        yield from groups.values()

    def _together(self, size: tuple[int, int]) -> int:
        return max(1, min(MOST_TOGETHER, self.settings.pixels_together // (size[0] * size[1])))

    def _read(self, job: Job) -> Photo:
        source = job.source if job.source else sys.stdin.buffer.read()
        photo = read_photo(source, self.settings.max_megapixels)
        if self.settings.shorter_side is None:
            return photo
        return photo.with_frames([resize_picture(frame, self.settings.shorter_side) for frame in photo.frames])

    def _paint(self, group: list[tuple[Job, Photo]], writers: ThreadPoolExecutor) -> None:
        frames = [frame for _, photo in group for frame in photo.frames]
        together = self._together(frames[0].size)
        painted = []
        try:
            for first in range(0, len(frames), together):
                painted += paint(frames[first : first + together], self.layers, self.settings.controls)
        except StylenetError as error:
            for job, _ in group:
                self._fail(job, error)
            return
        self.result.size = frames[0].size
        del frames
        while group:
            job, photo = group.pop(0)
            count = len(photo.frames)
            finished, painted = photo.with_frames(painted[:count]), painted[count:]
            del photo  # a large one must go before its painting is encoded
            self.writes.append((job, writers.submit(self._write, job, finished)))
        while len(self.writes) > PENDING_WRITES:
            self._settle()

    def _write(self, job: Job, photo: Photo) -> None:
        file_format = self.settings.file_format or (
            format_of(job.target) if job.target else _standard_format(photo.file_format)
        )
        content = encode_photo(photo, file_format, self.settings.quality)
        if job.target:
            write_picture(content, job.target)
            return
        try:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise PictureError(f"Standard output cannot be written: {error.strerror or error}") from None

    def _settle(self) -> None:
        job, future = self.writes.popleft()
        try:
            future.result()
        except StylenetError as error:
            self._fail(job, error)
            return
        self.result.painted += 1
        self.advance()

    def _fail(self, job: Job, error: StylenetError) -> None:
        self.result.failures.append((job, str(error)))
        self.advance()


def _standard_format(file_format: str) -> str:
    try:
        return format_of(Path(f"picture.{file_format.lower()}"))
    except PictureError:
        return "PNG"


def _pixels(photo: Photo) -> int:
    return len(photo.frames) * photo.frames[0].width * photo.frames[0].height
