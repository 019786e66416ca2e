"""Which picture goes where."""

from __future__ import annotations

from pathlib import Path

import pytest

from stylenet.errors import PictureError
from stylenet.jobs import Job, plan


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "trip/a.jpg", "trip/deep/a.png", "other/a.jpg", "odd [1] = ü.jpg"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    return tmp_path


def targets(*arguments: object, **options: object) -> list[str]:
    jobs, _ = plan(*arguments, **options)  # type: ignore[arg-type]
    return [str(job.target) for job in jobs]


@pytest.mark.usefixtures("here")
def test_names() -> None:
    assert targets(["photo.jpg"], None, "night") == ["photo_night.jpg"]
    assert targets(["photo.jpg"], None, "night", ".png") == ["photo_night.png"]
    assert targets(["photo.jpg"], "painted.png", "night") == ["painted.png"]
    assert targets(["photo.jpg"], "new/", "night") == ["new/photo.jpg"]
    assert targets(["photo.jpg"], "other", "night") == ["other/photo.jpg"]
    assert targets(["odd [1] = ü.jpg"], None, "night") == ["odd [1] = ü_night.jpg"]
    assert targets(["trip/*.jpg", "photo.jpg"], "new", "night") == ["new/a.jpg", "new/photo.jpg"]
    assert plan(["-"], None, "night") == ([Job(None, None)], 0)
    assert plan(["photo.jpg"], "-", "night") == ([Job(Path("photo.jpg"), None)], 0)


def test_folders_are_mirrored(here: Path) -> None:
    assert targets(["trip"], "new", "night") == ["new/a.jpg", "new/deep/a.png"]
    assert targets(["trip"], None, "night") == [str(here / "trip_night/a.jpg"), str(here / "trip_night/deep/a.png")]


def test_results_inside_the_folder_are_not_painted_again(here: Path) -> None:
    (here / "trip/painted").mkdir()
    (here / "trip/painted/a.jpg").touch()
    assert targets(["trip"], "trip/painted", "night", existing="overwrite") == [
        "trip/painted/a.jpg",
        "trip/painted/deep/a.png",
    ]


@pytest.mark.usefixtures("here")
def test_names_do_not_collide() -> None:
    assert targets(["trip/a.jpg", "other/a.jpg"], "new", "night") == ["new/a.jpg", "new/a-2.jpg"]
    assert targets(["trip/a.jpg", "trip/deep/a.png"], "new", "night", ".webp") == ["new/a.webp", "new/a-2.webp"]
    assert targets(["trip/a.jpg", "trip/a.jpg"], "new", "night") == ["new/a.jpg"]  # the same photo, once


def test_existing_results(here: Path) -> None:
    (here / "photo_night.jpg").write_text("precious")
    with pytest.raises(PictureError, match=r"photo_night\.jpg exists already.*--overwrite"):
        plan(["photo.jpg"], None, "night")
    assert plan(["photo.jpg"], None, "night", existing="skip") == ([], 1)
    assert targets(["photo.jpg"], None, "night", existing="overwrite") == ["photo_night.jpg"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["photo.jpg"], "photo.jpg", "replace its photo"),
        (["trip"], "trip", "replace its photo"),
        (["*.nothing"], None, r"No file matches \*\.nothing"),
        (["trip", "photo.jpg"], "photo.jpg", "is a file, and 3 pictures need a folder"),
        (["photo.jpg", "trip"], "-", "takes one picture, not 3"),
        (["photo.jpg"], "painted.xyz", "ending that names a picture format"),
    ],
)
def test_what_is_refused(inputs: list[str], output: str | None, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        plan(inputs, output, "night", existing="overwrite")


def test_folder_without_pictures(here: Path) -> None:
    (here / "bare").mkdir()
    with pytest.raises(PictureError, match="bare holds no pictures"):
        plan(["bare"], None, "night")
