"""The COCO downloader against a real server on this machine, with a real archive of real pictures."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylenet.data import SAMPLE

SCRIPT = Path(__file__).parent.parent / "scripts" / "download_coco.py"
COUNT = 12


class Server(ThreadingHTTPServer):
    """Serves one file by ranges of bytes.

    Attributes:
        content: the file.
        ranges: whether parts are served.
        drops: how many replies break off half-way.
        served: bytes sent.
        delay: seconds that every longer reply takes.
        version: what the server says of the file's state.
        asked: set once a longer reply is under way.
        changes: whether that becomes another with every longer reply.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ranges = True
        self.drops = 0
        self.served = 0
        self.delay = 0.0
        self.changes = False
        self.asked = threading.Event()
        self.version = "1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/zips/train2017.zip"


class Handler(BaseHTTPRequestHandler):
    """Answers `GET` with `Range`, as the standard library's own handler does not."""

    server: Server

    def do_GET(self) -> None:
        content = self.server.content
        if not self.path.endswith("train2017.zip"):
            self.send_error(404)
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1] if self.server.ranges else content
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("ETag", f'"{self.server.version}"')
        self.end_headers()
        if len(part) > 1000:
            self.server.asked.set()
            time.sleep(self.server.delay)
            self.server.version += "1" if self.server.changes else ""
        if self.server.drops and len(part) > 1000:
            self.server.drops -= 1
            part = part[: len(part) // 2]
        self.wfile.write(part)
        self.server.served += len(part)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small photographs under COCO's names, packed as COCO is."""
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(folder / "train2017.zip", "w") as packed:
        packed.mkdir("train2017")
        for number, path in enumerate(sorted(SAMPLE.glob("*.jpg"))[:COUNT]):
            with Image.open(path) as photo:
                photo.thumbnail((160, 160))
                photo.save(folder / "photo.jpg")
            packed.write(folder / "photo.jpg", f"train2017/{number:012}.jpg")
    return folder / "train2017.zip"


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(archive: Path) -> Iterator[Server]:
    with serving(archive.read_bytes()) as server:
        yield server


def run(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--folder", str(folder), "--url", url, "--pause", "0.01", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def assert_whole(folder: Path, archive: Path, count: int) -> None:
    """The folder holds `count` of the archive's pictures, byte for byte, and nothing else."""
    with zipfile.ZipFile(archive) as packed:
        wanted = {Path(name).name: packed.read(name) for name in packed.namelist() if name.endswith(".jpg")}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == count
    assert all(wanted[name] == content for name, content in files.items())


def assert_one_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_the_whole_set(tmp_path: Path, server: Server, archive: Path) -> None:
    result = run(tmp_path / "coco", server.url)
    assert result.returncode == 0, result.stderr
    assert_whole(tmp_path / "coco", archive, COUNT)
    assert f"{COUNT} pictures fetched" in result.stdout
    assert f"data.root={tmp_path / 'coco'}" in result.stdout


def test_a_subset_costs_only_itself_and_grows(tmp_path: Path, server: Server, archive: Path) -> None:
    run(tmp_path, server.url, "--subset", "4")
    assert_whole(tmp_path, archive, 4)
    first = {path.name for path in tmp_path.iterdir()}
    before = server.served
    again = run(tmp_path, server.url, "--subset", "4")
    assert "0 pictures fetched; 4 are in" in again.stdout
    assert server.served - before < 5_000  # the table of contents
    run(tmp_path, server.url, "--subset", "7")
    assert_whole(tmp_path, archive, 7)
    assert first < {path.name for path in tmp_path.iterdir()}


def test_dropped_connections_are_tried_again(tmp_path: Path, server: Server, archive: Path) -> None:
    server.drops = 3
    assert run(tmp_path, server.url).returncode == 0
    assert server.drops == 0
    assert_whole(tmp_path, archive, COUNT)


def test_a_stopped_download_goes_on(tmp_path: Path, server: Server, archive: Path) -> None:
    server.drops = 10**6
    assert_one_sentence(run(tmp_path, server.url, "--threads", "1"), "cannot be reached", "same command again")
    server.drops = 0
    (tmp_path / f"{0:012}.jpg").write_bytes(b"half of a pict")  # as another program may leave it
    assert run(tmp_path, server.url).returncode == 0
    assert_whole(tmp_path, archive, COUNT)


def test_a_damaged_picture_is_found_out(tmp_path: Path, server: Server, archive: Path) -> None:
    damaged = bytearray(server.content)
    damaged[len(damaged) // 2] ^= 0xFF
    server.content = bytes(damaged)
    assert_one_sentence(run(tmp_path, server.url, "--threads", "1"), "damaged on the server")
    assert_whole(tmp_path, archive, COUNT - 1)  # the others are not held up


def test_no_byte_is_fetched_twice(tmp_path: Path) -> None:
    """Of pictures as large as COCO's, in one run and far apart."""
    noise = np.random.default_rng(0).bytes(160_000)
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as packed:
        for number in range(120):
            packed.writestr(f"train2017/{number:012}.jpg", noise)
    with serving((tmp_path / "large.zip").read_bytes()) as server:
        for folder, arguments, count in (("part", ["--subset", "9"], 9), ("whole", [], 120)):
            before = server.served
            assert run(tmp_path / folder, server.url, *arguments).returncode == 0
            assert len(list((tmp_path / folder).iterdir())) == count
            assert server.served - before < 1.05 * count * len(noise)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_whole_pictures(tmp_path: Path, server: Server, archive: Path) -> None:
    server.delay = 3
    command = [sys.executable, str(SCRIPT), "--folder", str(tmp_path), "--url", server.url, "--subset", "5"]
    with subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert server.asked.wait(30)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()  # or leaving the block would wait for one that hangs
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert_whole(tmp_path, archive, len(list(tmp_path.iterdir())))
    server.delay = 0
    assert run(tmp_path, server.url, "--subset", "5").returncode == 0
    assert_whole(tmp_path, archive, 5)


def test_an_archive_that_changes_meanwhile(tmp_path: Path, server: Server) -> None:
    server.changes = True
    assert_one_sentence(run(tmp_path, server.url, "--subset", "5"), "changed on the server")


def test_a_disk_that_refuses(tmp_path: Path, server: Server) -> None:
    (tmp_path / f"{0:012}.jpg").mkdir()  # where a picture should go; not even the administrator may write there
    assert_one_sentence(run(tmp_path, server.url), "cannot be written")


def test_an_address_of_another_kind(tmp_path: Path) -> None:
    result = run(tmp_path, "train2017.zip")
    assert result.returncode == 2
    assert "http://" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_without_ranges(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    assert_one_sentence(run(tmp_path, server.url), "no parts of a file")


def test_no_such_file_on_the_server(tmp_path: Path, server: Server) -> None:
    assert_one_sentence(run(tmp_path, server.url + ".old"), "404")


def test_no_archive(tmp_path: Path, server: Server) -> None:
    server.content = b"<html>a page</html>" * 200
    assert_one_sentence(run(tmp_path, server.url), "no zip archive")


def test_nobody_listens(tmp_path: Path) -> None:
    assert_one_sentence(run(tmp_path, "http://127.0.0.1:9/train2017.zip"), "cannot be reached")


def test_a_folder_that_is_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "coco").write_text("")
    assert_one_sentence(run(tmp_path / "coco", server.url), "cannot be made")


def test_help_teaches() -> None:
    result = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--subset 2000" in result.stdout
    assert "goes on where it stopped" in result.stdout
