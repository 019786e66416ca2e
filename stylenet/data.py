"""Photographs in, batches out: COCO, any folder, or the bundled sample."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional as tv

from stylenet.errors import ConfigError, PictureError, require_number
from stylenet.image import find_pictures, open_picture
from stylenet.memory import has_gpu

log = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "assets" / "photos"
"""The bundled photographs; see SOURCES.md there."""


Item = tuple[Tensor, list[str]]
"""(3, S, S), RGB in [0, 1], and the files that could not be read on the way to it."""


class Batch(NamedTuple):
    """What a step is made of.

    Attributes:
        photos: (N, 3, H, W), RGB in [0, 1].
        skipped: files that could not be read and were passed over on the way.
    """

    photos: Tensor
    skipped: list[str]


class Schedule(NamedTuple):
    """How a run draws its crops.

    Attributes:
        steps: optimiser steps of the whole run.
        batch_size: crops to a step.
        sizes: sides of a crop, in pixels; of several, each step takes the next.
        scale: least and most share of the picture's area that a crop covers, with what is around it.
        context: pixels around a crop, on each side, that come with it.
    """

    steps: int
    batch_size: int
    sizes: tuple[int, ...]
    scale: tuple[float, float]
    context: int = 0

    def size(self, step: int) -> int:
        """Side of a step's crops, in pixels."""
        return self.sizes[step % len(self.sizes)]

    @property
    def largest(self) -> int:
        """Side of the largest crops, in pixels."""
        return max(self.sizes)


class Crops(Dataset[Item]):
    """All crops of a training run in their order: item i is the same crop of the same picture whenever it is asked for.

    That makes a run repeatable with any number of workers, and lets a resumed one continue with the very next crop.

    Args:
        pictures: files to draw from; each comes once in every round through them, in a new order.
        schedule: how many crops, and of what size.
        seed: of order, places and flips.
        cache_mb: decoded photographs are kept in so much memory; what finds no room is read again.
    """

    def __init__(self, pictures: Sequence[Path], schedule: Schedule, seed: int, cache_mb: float) -> None:
        self.pictures = list(pictures)
        self.schedule = schedule
        self.seed = seed
        self.cache_mb = cache_mb
        self._kept: dict[Path, Image.Image] = {}
        self._kept_mb = 0.0

    def __len__(self) -> int:
        return self.schedule.steps * self.schedule.batch_size

    def __getitem__(self, index: int) -> Item:
        """(3, s, s), RGB in [0, 1], with its context, and the unreadable files that gave way to the next."""
        lap, place = divmod(index, len(self.pictures))
        order = torch.randperm(len(self.pictures), generator=self._random(lap, 0)).tolist()
        skipped: list[str] = []
        for choice in order[place:] + order[:place]:
            try:
                picture = self._open(self.pictures[choice])
            except PictureError:
                skipped.append(str(self.pictures[choice]))
                continue
            side = self.schedule.size(index // self.schedule.batch_size) + 2 * self.schedule.context
            return _random_crop(picture, side, self.schedule.scale, self._random(index, 1)), skipped
        raise PictureError(f"None of the {len(self.pictures)} pictures for training can be read.")

    def _open(self, path: Path) -> Image.Image:
        if path in self._kept:
            return self._kept[path]
        picture = open_picture(path, near=2 * (self.schedule.largest + 2 * self.schedule.context))
        megabytes = picture.width * picture.height * 3 / 1e6
        if self._kept_mb + megabytes <= self.cache_mb:
            self._kept[path] = picture
            self._kept_mb += megabytes
        return picture

    def _random(self, index: int, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + index) * 2 + purpose)


def _random_crop(picture: Image.Image, size: int, scale: tuple[float, float], random: torch.Generator) -> Tensor:
    """A square of a random share of the area, anywhere, flipped or not, resized to `size`."""
    share, across, down, flip = torch.rand(4, generator=random).tolist()
    area = (scale[0] + share * (scale[1] - scale[0])) * picture.width * picture.height
    side = max(1, min(round(area**0.5), picture.width, picture.height))
    left, top = round(across * (picture.width - side)), round(down * (picture.height - side))
    square = picture.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    if flip < 0.5:
        square = ImageOps.mirror(square)
    return _to_tensor(square)


def _to_tensor(picture: Image.Image) -> Tensor:
    tensor: Tensor = tv.to_dtype(tv.pil_to_tensor(picture), torch.float32, scale=True)
    return tensor


class HeldOut(Dataset[Item]):
    """The middle squares of photographs that training never sees: (3, size, size) each."""

    def __init__(self, pictures: Sequence[Path], size: int) -> None:
        self.pictures = list(pictures)
        self.size = size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        """(3, size, size), RGB in [0, 1]."""
        square = ImageOps.fit(open_picture(self.pictures[index]), (self.size, self.size), Image.Resampling.LANCZOS)
        return _to_tensor(square), []


class ContinueAt(Sampler[int]):
    """0, 1, 2 ... in order, but starting where a resumed run had stopped; its length is that of the whole run."""

    def __init__(self, start: int, count: int) -> None:
        self.start, self.count = start, count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.count))

    def __len__(self) -> int:
        return self.count


class PhotoDataModule(pl.LightningDataModule):
    """Training crops from a folder of photographs, and the held-out part of the bundled sample.

    Args:
        root: a folder, searched recursively; None: `coco` where it is there, otherwise the bundled sample.
        coco: COCO's folder, or None.
        held_out: names of bundled photographs that are never trained on.
        size: side of a crop, in pixels; or several, of which each step takes the next. Held-out photographs have the
            first.
        scale: least and most share of a picture's area that a crop covers, with what is around it.
        batch_size: crops to a step.
        steps: steps of the whole run.
        workers: processes that read pictures; 0 reads in the training process.
        cache_mb: decoded photographs that each of them keeps.
        seed: of the order, the crops and the flips.
        context: pixels around a training crop, on each side, that come with it.

    Raises:
        ConfigError: for a folder that is missing or holds no pictures, or a number out of range.
    """

    def __init__(
        self,
        root: str | None,
        coco: str | None,
        held_out: Sequence[str],
        size: int | Sequence[int],
        scale: Sequence[float],
        batch_size: int,
        steps: int,
        workers: int,
        cache_mb: float,
        seed: int,
        context: int = 0,
    ) -> None:
        super().__init__()
        low, high = scale
        sizes = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
        self.schedule = Schedule(steps, batch_size, sizes, (low, high), context)
        _check(self.schedule)
        require_number("data.workers", workers, 0, whole=True)
        require_number("data.cache_mb", cache_mb, 0)
        self.workers, self.cache_mb, self.seed = workers, cache_mb, seed
        self.folder = _choose_folder(root, coco)
        self.held_out = [SAMPLE / name for name in held_out]
        self.pictures = [path for path in find_pictures(self.folder) if path not in self.held_out]
        if not self.pictures:
            raise ConfigError(f"The folder {self.folder} holds no pictures (.jpg, .png, .webp ...) to train on.")
        log.info("Training on %d pictures from %s", len(self.pictures), self.folder)

    def train_dataloader(self) -> DataLoader[Item]:
        """All batches of the run, from the step that training stands at."""
        crops = Crops(self.pictures, self.schedule, self.seed, self.cache_mb)
        done = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(
            crops,
            batch_size=self.schedule.batch_size,
            sampler=ContinueAt(done * self.schedule.batch_size, len(crops)),
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=has_gpu(),
        )

    def val_dataloader(self) -> DataLoader[Item]:
        """The held-out photographs."""
        held_out = HeldOut(self.held_out, self.schedule.size(0))
        return DataLoader(held_out, batch_size=self.schedule.batch_size, collate_fn=collate)


def collate(items: Sequence[Item]) -> Batch:
    """Stack (3, H, W) into (N, 3, H, W), channels last in memory as the convolutions want them."""
    photos = torch.stack([photo for photo, _ in items]).contiguous(memory_format=torch.channels_last)
    return Batch(photos, [name for _, skipped in items for name in skipped])


def _choose_folder(root: str | None, coco: str | None) -> Path:
    if root is not None:
        if not Path(root).is_dir():
            raise ConfigError(f"data.root={root} is no folder; give one that holds photographs.")
        return Path(root)
    if coco is not None and Path(coco).is_dir():
        return Path(coco)
    if coco is not None:
        log.info("There is no COCO in %s: using the bundled sample photographs instead.", coco)
        log.info("For COCO, or a part of it: python scripts/download_coco.py --subset 2000")
    return SAMPLE


def _check(schedule: Schedule) -> None:
    if not schedule.sizes:
        raise ConfigError("data.size must be a number, or several as in [256,512].")
    for name, number in (("steps", schedule.steps), ("batch_size", schedule.batch_size)):
        require_number(f"data.{name}", number, 1, whole=True)
    for size in schedule.sizes:
        require_number("data.size", size, 1, whole=True)
    for share in schedule.scale:
        require_number("data.scale", share, 0, 1)
    if not 0 < schedule.scale[0] <= schedule.scale[1] <= 1:
        raise ConfigError(f"data.scale must be two rising shares of the area in (0, 1], not {list(schedule.scale)}.")
