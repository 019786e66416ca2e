"""Get COCO train2017, whole or a part of it, for training.

    python scripts/download_coco.py --subset 2000     2,000 pictures, about 330 MB
    python scripts/download_coco.py                   all 118,287 pictures, about 18 GB

Pictures are read straight out of the archive on its server, a range of bytes at a time, so that a part of it costs
only that part. Each is checked against the archive's own checksum and appears under its name only when it is whole.
The same command again goes on where it stopped, and fetches nothing that is there already.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import struct
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stylenet.errors import StylenetError, one_sentence

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.progress import Progress

URL = "http://images.cocodataset.org/zips/train2017.zip"
FOLDER = Path("data/coco/train2017")
RUN = 2**22  # bytes of neighbouring pictures that come in one request
GAP = 2**14  # bytes between two pictures that cost less than a request of their own
END = 2**10  # bytes at the archive's end that hold the way to its table of contents
PIECE = 2**16  # bytes between two looks at whether to stop
ATTEMPTS = 6
SEED = 2017

Run = list[zipfile.ZipInfo]


class DownloadError(StylenetError):
    """The pictures cannot be had, or not be put where they should go."""


class Server:
    """An archive on a server, read by ranges of bytes; any number of threads may read at a time.

    Args:
        url: where the archive is.
        pause: seconds to wait before a failed request is tried again; doubled each time.

    Attributes:
        size: of the archive, in bytes.
        stop: set to let requests under way end at once.

    Raises:
        DownloadError: when the server refuses, knows no ranges, or cannot be reached after several tries.
    """

    def __init__(self, url: str, pause: float) -> None:
        self.url = url
        self.pause = pause
        self.stop = threading.Event()
        self.version: str | None = None
        self.size = 1
        self.read(0, 1)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to, but without, `stop`; tried again when the connection fails."""
        from http.client import HTTPException  # these two are slow to import, and --help needs neither
        from urllib.error import HTTPError

        for attempt in range(ATTEMPTS):
            try:
                return self._read(start, stop)
            except HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in {408, 429}:
                    raise DownloadError(
                        f"{self.url} cannot be had: the server answers {error.code} {error.reason}."
                    ) from None
                reason: object = f"{error.code} {error.reason}"
            except (HTTPException, OSError) as error:
                reason = getattr(error, "reason", None) or error
            if attempt < ATTEMPTS - 1 and self.stop.wait(self.pause * 2**attempt):
                break
        raise DownloadError(
            f"{self.url} cannot be reached ({reason}); check the network and run the same command again."
        )

    def _read(self, start: int, stop: int) -> bytes:
        from urllib.request import Request, urlopen

        with urlopen(Request(self.url, headers={"Range": f"bytes={start}-{stop - 1}"}), timeout=30) as reply:
            size = (reply.headers["Content-Range"] or "").rpartition("/")[2]
            if reply.status != 206 or not size.isdigit():
                raise DownloadError(f"The server of {self.url} gives no parts of a file, which this download needs.")
            version = f"{size} {reply.headers['ETag'] or reply.headers['Last-Modified']}"
            if self.version not in {None, version}:
                raise DownloadError(f"{self.url} has changed on the server meanwhile; run the same command again.")
            self.version, self.size = version, int(size)
            content = bytearray()
            while len(content) < stop - start and (piece := reply.read(PIECE)):
                content += piece
                if self.stop.is_set():
                    raise OSError("stopped")
        if len(content) != stop - start:
            raise OSError("the connection broke off")
        return bytes(content)


class RemoteFile(io.RawIOBase):
    """An archive on a server as a file for `zipfile`: from the bytes at hand, or else by a request.

    Args:
        server: whose archive.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.position = 0
        self.hold(max(server.size - END, 0), server.size)

    def hold(self, start: int, stop: int, content: bytes | None = None) -> None:
        """Keep the bytes from `start` to `stop` at hand, fetched here unless given, in place of those before."""
        self.start, self.content = start, self.server.read(start, stop) if content is None else content

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.server.size}[whence]
        self.position = base + offset
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer from here on."""
        stop = min(self.position + len(buffer), self.server.size)
        if stop <= self.position:
            return 0
        if not self.start <= self.position <= stop <= self.start + len(self.content):
            self.hold(self.position, stop)
        part = self.content[self.position - self.start : stop - self.start]
        buffer[: len(part)] = part
        self.position = stop
        return len(part)


class Pictures:
    """The pictures in an archive on a server.

    Attributes:
        all: every picture, by name.

    Raises:
        DownloadError: when the archive cannot be had, or is none.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.file = RemoteFile(server)
        try:
            self.contents = zipfile.ZipFile(self.file)
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
            raise DownloadError(f"{server.url} is no zip archive: {error}.") from None
        members = self.contents.infolist()
        self.all = sorted((i for i in members if i.filename.lower().endswith(".jpg")), key=lambda i: i.filename)
        if not self.all:
            raise DownloadError(f"{server.url} holds no pictures.")
        starts = sorted(info.header_offset for info in members)
        self.ends = dict(zip(starts, [*starts[1:], self.contents.start_dir], strict=True))

    def runs(self, chosen: Run) -> Iterator[Run]:
        """The chosen pictures, in the archive's order, as runs of neighbours that are worth one request."""
        run: Run = []
        for info in chosen:
            if run:
                far = info.header_offset - self.ends[run[-1].header_offset] > GAP
                if far or self.ends[info.header_offset] - run[0].header_offset > RUN:
                    yield run
                    run = []
            run.append(info)
        if run:
            yield run

    def fetch(self, run: Run) -> bytes:
        """A run's bytes as they are in the archive; for any thread."""
        return self.server.read(run[0].header_offset, self.ends[run[-1].header_offset])

    def unpack(self, info: zipfile.ZipInfo, start: int, content: bytes) -> bytes | None:
        """A picture out of a run's bytes, checked; None when it is damaged on the server. For one thread."""
        for again in (False, True):
            if again:  # it may have been damaged on its way here
                start, content = info.header_offset, self.fetch([info])
            self.file.hold(start, start + len(content), content)
            try:
                return self.contents.read(info)  # checks the archive's CRC-32
            except (zipfile.BadZipFile, zlib.error, EOFError):
                continue
        return None


def choose(pictures: Run, subset: int | None) -> Run:
    """The pictures to get, in the archive's order; a larger subset contains every smaller one."""
    shuffled = random.Random(SEED).sample(pictures, len(pictures))
    return sorted(shuffled[:subset], key=lambda info: info.header_offset)


def fetch_ahead(pictures: Pictures, chosen: Run, threads: int) -> Generator[tuple[Run, bytes], None, None]:
    """Runs with their bytes, in order, fetched by several threads: no more at a time than memory holds with ease."""
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[tuple[Run, Future[bytes]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for run in pictures.runs(chosen):
                waiting.append((run, pool.submit(pictures.fetch, run)))
                if len(waiting) >= 2 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pictures.server.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def download(pictures: Pictures, subset: int | None, folder: Path, threads: int) -> tuple[int, int]:
    """Get the chosen pictures that are not there yet. Only this thread writes, so that Ctrl-C leaves whole pictures.

    Returns:
        How many were fetched, and how many of the chosen ones are there now.

    Raises:
        DownloadError: for a folder that cannot be written or is too small, and when a picture cannot be had.
    """
    from stylenet.image import write_atomically

    chosen = choose(pictures.all, subset)
    places = {info: folder / PurePosixPath(info.filename).name for info in chosen}
    sizes = {path: path.stat().st_size for path in places.values() if path.is_file()}
    missing = [info for info in chosen if sizes.get(places[info]) != info.file_size]
    needed = sum(info.file_size for info in missing)
    _prepare(folder, needed)
    damaged = []
    with progress_bar() as progress, closing(fetch_ahead(pictures, missing, threads)) as fetched:
        task = progress.add_task("", total=needed, count=0, of=len(missing))
        count = 0
        for run, content in fetched:
            for info in run:
                picture = pictures.unpack(info, run[0].header_offset, content)
                if picture is None:
                    damaged.append(info.filename)
                    continue
                try:
                    write_atomically(places[info], picture)
                except OSError as error:
                    raise DownloadError(f"{places[info]} cannot be written: {error.strerror or error}.") from None
                count += 1
                progress.update(task, advance=info.file_size, count=count)
    if damaged:
        raise DownloadError(
            f"{len(damaged)} of {len(chosen)} pictures are damaged on the server and left out, {damaged[0]} the first; "
            "the others are there: run the same command again later, or take a mirror with --url."
        )
    return len(missing), len(chosen)


def _prepare(folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"The folder {folder} cannot be made: {error.strerror or error}") from None
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"The pictures need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; make room, or take "
            "fewer with --subset."
        )


def progress_bar() -> Progress:
    """Pictures, bytes, speed and the time left."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    pictures = TextColumn("{task.fields[count]} of {task.fields[of]} pictures")
    return Progress(pictures, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--subset", type=int, metavar="N", help="only N pictures, chosen from all over the set, always the same ones")
    add("--folder", type=Path, default=FOLDER, metavar="PATH", help="where to put them (default: %(default)s)")
    add("--url", default=URL, help="of the archive, for a mirror (default: %(default)s)")
    add("--threads", type=int, default=8, metavar="N", help="connections at a time (default: %(default)s)")
    add("--pause", type=float, default=1.0, metavar="SECONDS", help="before a failed request is tried again, doubled "
        "each time (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.subset is not None and options.subset < 1:
        parser.error(f"--subset must be 1 or more, not {options.subset}")
    if not options.url.startswith(("http://", "https://")):
        parser.error(f"--url must start with http:// or https://, not {options.url!r}")
    if options.threads < 1:
        parser.error(f"--threads must be 1 or more, not {options.threads}")
    return options


@one_sentence
def main(arguments: list[str] | None = None) -> None:
    """Get the pictures, and say where they are and what to do with them."""
    options = parse(arguments)
    try:
        pictures = Pictures(Server(options.url, options.pause))
        fetched, there = download(pictures, options.subset, options.folder, options.threads)
    except KeyboardInterrupt:
        print("Stopped. What is there is whole; the same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{fetched} pictures fetched; {there} are in {options.folder}.")
    use = "" if options.folder == FOLDER else f" data.root={options.folder}"
    print(f"Train with them: python -m stylenet.train style=starry_night{use}")


if __name__ == "__main__":
    main()
