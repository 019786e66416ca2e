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
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stylenet.errors import StylenetError, one_sentence
from stylenet.image import write_atomically

if TYPE_CHECKING:
    from rich.progress import Progress

URL = "http://images.cocodataset.org/zips/train2017.zip"
FOLDER = Path("data/coco/train2017")
BLOCK = 2**19  # bytes read at a time: a few pictures, so that neighbours come in one request
ATTEMPTS = 6
SEED = 2017


class DownloadError(StylenetError):
    """The pictures cannot be had, or not be put where they should go."""


@dataclass(frozen=True)
class Archive:
    """A zip archive on a server.

    Attributes:
        url: where it is.
        size: in bytes.
        version: what the server says of its state; it must not change between two requests.
        end: its last bytes, the table of contents among them, read once for all threads; empty until then.
    """

    url: str
    size: int
    version: str
    end: bytes = b""


class RemoteFile(io.RawIOBase):
    """An archive on a server as a file that can be read from any place: every read is a request.

    Args:
        archive: which.
        pause: seconds to wait before a failed request is tried again; doubled each time.
    """

    def __init__(self, archive: Archive, pause: float) -> None:
        self.archive = archive
        self.pause = pause
        self.position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.archive.size}[whence]
        self.position = base + offset
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer from here on: from the archive's end where that is at hand, otherwise from the server."""
        stop = min(self.position + len(buffer), self.archive.size)
        if stop <= self.position:
            return 0
        place = self.position - (self.archive.size - len(self.archive.end))
        if place >= 0:
            part = self.archive.end[place : place + stop - self.position]
        else:
            part, version, _ = request(self.archive.url, f"bytes={self.position}-{stop - 1}", self.pause)
            if version != self.archive.version:
                raise DownloadError(f"{self.archive.url} has changed on the server meanwhile; start again.")
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)


def request(url: str, span: str, pause: float) -> tuple[bytes, str, int]:
    """Read a range of bytes; try again when the connection fails.

    Returns:
        The bytes, the file's version, and its whole size.

    Raises:
        DownloadError: when the server refuses, knows no ranges, or cannot be reached after several tries.
    """
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": span}), timeout=60) as reply:
                if reply.status != 206:
                    raise DownloadError(f"The server of {url} gives no parts of a file, which this download needs.")
                content = reply.read()
                size = int(reply.headers["Content-Range"].rpartition("/")[2])
                version = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or str(size)
                return content, version, size
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DownloadError(f"{url} cannot be had: the server answers {error.code} {error.reason}.") from None
            reason: object = f"{error.code} {error.reason}"
        except (HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
        if attempt < ATTEMPTS - 1:
            time.sleep(pause * 2**attempt)
    raise DownloadError(f"{url} cannot be reached ({reason}); check the network and run the same command again.")


class Fetcher:
    """Saves members of the archive, from several threads, each with a connection and a place of its own.

    Raises:
        DownloadError: when the archive cannot be had, or is none.
    """

    def __init__(self, url: str, pause: float) -> None:
        self.pause = pause
        self.local = threading.local()
        _, version, size = request(url, "bytes=0-0", pause)
        self.archive = Archive(url, size, version)
        contents = self._open()
        pictures = [info for info in contents.infolist() if info.filename.lower().endswith(".jpg")]
        self.pictures = sorted(pictures, key=lambda info: info.filename)
        if not self.pictures:
            raise DownloadError(f"{url} holds no pictures.")
        start = contents.start_dir
        end, _, _ = request(url, f"bytes={start}-{size - 1}", pause)
        self.archive = Archive(url, size, version, end)

    def save(self, info: zipfile.ZipInfo, target: Path) -> int:
        """Read a picture, check it, and put it in its place; returns its size in bytes."""
        if not hasattr(self.local, "view"):
            self.local.view = self._open()
        for attempt in (1, 2):
            try:
                content: bytes = self.local.view.read(info)  # checks the archive's CRC-32
                break
            except (zipfile.BadZipFile, zlib.error) as error:
                self.local.view = self._open()  # what was read ahead may be what is damaged
                if attempt == 2:
                    raise DownloadError(f"{info.filename} is damaged on the server: {error}") from None
        try:
            write_atomically(target, content)
        except OSError as error:
            raise DownloadError(f"{target} cannot be written: {error.strerror or error}") from None
        return len(content)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(io.BufferedReader(RemoteFile(self.archive, self.pause), BLOCK))
        except zipfile.BadZipFile as error:
            raise DownloadError(f"{self.archive.url} is no zip archive: {error}") from None


def choose(pictures: list[zipfile.ZipInfo], subset: int | None) -> list[zipfile.ZipInfo]:
    """The pictures to get, in the archive's order; a larger subset contains every smaller one."""
    if subset is None or subset >= len(pictures):
        chosen = list(pictures)
    else:
        chosen = random.Random(SEED).sample(pictures, len(pictures))[:subset]
    return sorted(chosen, key=lambda info: info.header_offset)


def download(fetcher: Fetcher, subset: int | None, folder: Path, threads: int) -> tuple[int, int]:
    """Get the chosen pictures that are not there yet.

    Returns:
        How many were fetched, and how many of the chosen ones are there now.

    Raises:
        DownloadError: for a folder that cannot be written or is too small, and when a picture cannot be had.
        KeyboardInterrupt: after Ctrl-C, when the pictures under way are written.
    """
    chosen = choose(fetcher.pictures, subset)
    places = {info: folder / PurePosixPath(info.filename).name for info in chosen}
    missing = [info for info in chosen if not _is_there(places[info], info.file_size)]
    _prepare(folder, sum(info.file_size for info in missing))
    with progress_bar() as progress, ThreadPoolExecutor(threads) as pool:
        task = progress.add_task("", total=sum(info.file_size for info in missing), count=0, of=len(missing))
        futures = [pool.submit(fetcher.save, info, places[info]) for info in missing]
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                progress.update(task, advance=future.result(), count=count)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return len(missing), len(chosen)


def _is_there(place: Path, size: int) -> bool:
    return place.is_file() and place.stat().st_size == size


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
    if options.threads < 1:
        parser.error(f"--threads must be 1 or more, not {options.threads}")
    return options


@one_sentence
def main(arguments: list[str] | None = None) -> None:
    """Get the pictures, and say where they are and what to do with them."""
    options = parse(arguments)
    try:
        fetched, there = download(Fetcher(options.url, options.pause), options.subset, options.folder, options.threads)
    except KeyboardInterrupt:
        print("Stopped. What is there is whole; the same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{fetched} pictures fetched; {there} are in {options.folder}.")
    use = "" if options.folder == FOLDER else f" data.root={options.folder}"
    print(f"Train with them: python -m stylenet.train style=starry_night{use}")


if __name__ == "__main__":
    main()
