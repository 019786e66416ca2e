"""What several tests start from: bundled photographs and paintings, the real encoder, a small network."""

# ruff: noqa: E402

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # numbers are a processor's on every machine; `test_gpu` alone sees GPUs

import pytest
import torch

from stylenet.data import SAMPLE
from stylenet.image import load_image
from stylenet.styles import PAINTINGS
from stylenet.transformer_net import TransformerNet
from stylenet.vgg import Encoder

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compile does not go to the user's cache folder, nor come from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """A bundled photograph, 64 px high: (1, 3, 64, W)."""
    return torch.from_numpy(load_image(SAMPLE / "dog.jpg", 64))


@pytest.fixture(scope="session")
def painting() -> torch.Tensor:
    """The Starry Night, 96 px high: (1, 3, 96, W)."""
    return torch.from_numpy(load_image(PAINTINGS / "starry_night.jpg", 96))


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """VGG19 with its original weights, as far as the default losses look."""
    return Encoder(["relu1_1", "relu2_1", "relu3_1", "relu4_1"])


@pytest.fixture
def net() -> TransformerNet:
    """A small network with fixed weights, ready to paint."""
    torch.manual_seed(0)
    return TransformerNet(widths=[8, 12, 16], residual_blocks=1, kernel_size=5).eval()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs started here hear Ctrl-C, even when the tests run in a shell's background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run_program(tmp_path: Path) -> Program:
    """Run `python -m stylenet.<name> ...` in an empty folder, as a user would."""

    def run(name: str, arguments: Sequence[str] = (), **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"stylenet.{name}", *arguments]
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, **options
        )

    return run


def assert_one_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """The program failed with one line on standard error that says `words`, and without a traceback."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode != 0
    assert "Traceback" not in result.stderr + result.stdout
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """How far one tensor is from another, in lengths of the other."""
    return float((ours - theirs).detach().norm() / theirs.detach().norm())
