"""Photographs in, batches out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from stylenet.data import SAMPLE, ContinueAt, Crops, PhotoDataModule, Schedule, collate
from stylenet.errors import ConfigError, PictureError

SCHEDULE = Schedule(steps=6, batch_size=2, sizes=(32,), scale=(0.25, 1.0))


def make_data(**changes: Any) -> PhotoDataModule:
    settings: dict[str, Any] = {
        "root": None,
        "coco": None,
        "held_out": ["dog.jpg", "owl.jpg"],
        "size": 32,
        "scale": [0.25, 1.0],
        "batch_size": 2,
        "steps": 6,
        "workers": 0,
        "cache_mb": 100.0,
        "seed": 0,
    }
    return PhotoDataModule(**(settings | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs in a tree, with a hidden one and a text file among them."""
    for name, place in (("cat", "a"), ("pig", "a/b"), ("cow", "."), ("bison", ".hidden")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLE / f"{name}.jpg", tmp_path / place)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_folders_are_searched_recursively_without_hidden_files(folder: Path) -> None:
    assert {path.name for path in make_data(root=str(folder)).pictures} == {"cat.jpg", "pig.jpg", "cow.jpg"}


def test_coco_is_taken_where_it_is_there(folder: Path) -> None:
    assert make_data(coco=str(folder)).folder == folder


def test_without_coco_the_sample_is_taken_and_the_run_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = make_data(coco=str(tmp_path / "nowhere"))
    assert data.folder == SAMPLE
    assert "download_coco.py" in caplog.text


def test_held_out_photographs_are_never_trained_on() -> None:
    data = make_data()
    names = {path.name for path in data.pictures}
    assert len(names) == len(list(SAMPLE.glob("*.jpg"))) - 2
    assert not names & {"dog.jpg", "owl.jpg"}
    photos = torch.cat([batch.photos for batch in data.val_dataloader()])
    assert photos.shape == (2, 3, 32, 32)


def test_batches_are_as_many_and_as_large_as_asked_for() -> None:
    batches = list(make_data().train_dataloader())
    assert [tuple(batch.photos.shape) for batch in batches] == [(2, 3, 32, 32)] * 6
    photos = batches[-1].photos
    assert photos.dtype == torch.float32
    assert 0 <= float(photos.min()) < float(photos.max()) <= 1
    assert photos.is_contiguous(memory_format=torch.channels_last)


def test_crops_come_with_what_is_around_them_and_held_out_photographs_alone() -> None:
    data = make_data(context=4)
    sides = [batch.photos.shape[-1] for batch in data.train_dataloader()]
    assert sides == [32 + 8] * 6
    assert next(iter(data.val_dataloader())).photos.shape[-1] == 32


def test_of_several_sizes_each_step_takes_the_next() -> None:
    data = make_data(size=[32, 48], context=4)
    assert [tuple(batch.photos.shape[2:]) for batch in data.train_dataloader()] == [(40, 40), (56, 56)] * 3
    assert next(iter(data.val_dataloader())).photos.shape[-1] == 32


def test_an_item_is_always_the_same_and_a_seed_makes_others() -> None:
    pictures = sorted(SAMPLE.glob("*.jpg"))[:5]
    first, again, other = (Crops(pictures, SCHEDULE, seed, cache_mb=0)[7][0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_picture_comes_once_in_a_round(tmp_path: Path) -> None:
    greys = [10, 60, 110, 160, 210, 250]
    for grey in greys:
        Image.new("L", (40, 40), grey).save(tmp_path / f"{grey}.png")
    crops = Crops(sorted(tmp_path.iterdir()), SCHEDULE, seed=3, cache_mb=0)
    for lap in range(2):
        seen = sorted(round(float(crops[6 * lap + place][0].mean()) * 255) for place in range(6))
        assert seen == greys
    assert [float(crops[place][0].mean()) for place in range(6)] != [
        float(crops[6 + place][0].mean()) for place in range(6)
    ]


def test_crops_differ_in_place_scale_and_flip() -> None:
    crops = Crops([SAMPLE / "dog.jpg"], SCHEDULE, seed=0, cache_mb=0)
    items = [crops[index][0] for index in range(6)]
    assert all(not torch.equal(a, b) for i, a in enumerate(items) for b in items[:i])


def test_damaged_pictures_give_way_and_are_named(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes((SAMPLE / "cat.jpg").read_bytes()[:3000])
    (folder / "text.png").write_text("not a picture")
    data = make_data(root=str(folder))
    skipped = {name for batch in data.train_dataloader() for name in batch.skipped}
    assert skipped == {str(folder / "broken.jpg"), str(folder / "text.png")}


def test_nothing_but_damaged_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match="None of the 1 pictures"):
        Crops([tmp_path / "text.png"], SCHEDULE, seed=0, cache_mb=0)[0]


def test_a_resumed_loader_goes_on_with_the_next_crop() -> None:
    whole = list(ContinueAt(0, 12))
    assert list(ContinueAt(5, 12)) == whole[5:]
    assert len(ContinueAt(5, 12)) == 12


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (40, 50), 128).save(tmp_path / "grey.png")
    Image.new("RGBA", (50, 40), (255, 0, 0, 0)).save(tmp_path / "glass.png")
    crops = Crops(sorted(tmp_path.iterdir()), SCHEDULE, seed=0, cache_mb=0)
    assert collate([crops[0], crops[1]]).photos.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "no/such/folder"}, "no/such/folder is no folder"),
        ({"size": 0}, "data.size"),
        ({"size": [32, 0]}, "data.size"),
        ({"size": []}, "data.size"),
        ({"size": "large"}, "data.size"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"steps": 0}, "data.steps"),
        ({"scale": [0.5, 0.2]}, "data.scale"),
        ({"scale": [0.0, 1.0]}, "data.scale"),
        ({"workers": -1}, "data.workers"),
    ],
)
def test_bad_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_data(**changes)


def test_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no pictures"):
        make_data(root=str(tmp_path))


def test_kept_photographs_give_the_same_crops_as_files_read_again(folder: Path) -> None:
    pictures = sorted((folder / "a").rglob("*.jpg"))
    read_again = Crops(pictures, SCHEDULE, seed=0, cache_mb=0)
    kept = Crops(pictures, SCHEDULE, seed=0, cache_mb=100)
    first = [kept[index][0] for index in range(len(kept))]
    for path in pictures:
        path.unlink()  # from here on only memory can know them
    with pytest.raises(PictureError, match="None of the 2 pictures"):
        read_again[len(kept) - 1]
    assert torch.equal(kept[len(kept) - 1][0], first[-1])


def test_no_more_is_kept_than_was_allowed(folder: Path) -> None:
    pictures = sorted((folder / "a").rglob("*.jpg"))
    crops = Crops(pictures, SCHEDULE, seed=0, cache_mb=0.01)  # less than any photograph
    assert crops[0][0].shape == (3, 32, 32)
    for path in pictures:
        path.unlink()
    with pytest.raises(PictureError, match="None of the 2 pictures"):
        crops[0]
