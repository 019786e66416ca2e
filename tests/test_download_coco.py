"""The COCO downloader against a real server on this machine, with a real archive of real pictures."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ranges = True
        self.drops = 0
        self.served = 0

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
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
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


@pytest.fixture
def server(archive: Path) -> Iterator[Server]:
    with Server(archive.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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


def test_a_damaged_picture_is_found_out(tmp_path: Path, server: Server) -> None:
    damaged = bytearray(server.content)
    damaged[len(damaged) // 2] ^= 0xFF
    server.content = bytes(damaged)
    assert_one_sentence(run(tmp_path, server.url, "--threads", "1"), "damaged on the server")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            picture.load()


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
