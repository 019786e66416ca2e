"""The fast path: chosen by what the machine has, and with the results of the slow one."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Program, assert_one_sentence
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from stylenet.architecture import Architecture
from stylenet.data import SAMPLE
from stylenet.errors import ConfigError
from stylenet.image import load_image
from stylenet.losses import PerceptualLoss
from stylenet.memory import free_memory, training_bytes
from stylenet.program import CONFIGS, register_resolvers
from stylenet.speed import PAYS_FROM, choose_compile, choose_precision, processor_has_bfloat16
from stylenet.train import build_module
from stylenet.transformer_net import TransformerNet
from stylenet.vgg import Encoder

LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0}


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    painting = torch.from_numpy(load_image(SAMPLE.parent / "styles" / "starry_night.jpg", 96))
    return PerceptualLoss(Encoder(LAYERS), painting, {"relu3_1": 1.0}, LAYERS, 0.0, "gram", "relative")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return torch.cat(
        [torch.from_numpy(load_image(SAMPLE / name, 64))[..., :64, :64] for name in ("dog.jpg", "cat.jpg")]
    )


def make_net() -> TransformerNet:
    torch.manual_seed(0)
    return TransformerNet(widths=[8, 12, 16], residual_blocks=1, kernel_size=5)


def measure(net: nn.Module, loss: PerceptualLoss, photos: Tensor) -> tuple[dict[str, float], Tensor]:
    """Every loss, and the gradient of the total by all weights."""
    net.zero_grad()
    losses = loss(net(photos), loss.content_targets(photos))
    losses["total"].backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None])
    return {name: float(value.detach()) for name, value in losses.items()}, gradient


def angle(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def test_the_memory_format_changes_nothing_but_rounding(loss: PerceptualLoss, photos: Tensor) -> None:
    """Sums in another order: float32 rounds at 6e-8, some thousand terms to a sum."""
    plain, plain_gradient = measure(make_net(), loss, photos.contiguous())
    net = make_net().to(memory_format=torch.channels_last)
    fast, fast_gradient = measure(net, loss, photos.contiguous(memory_format=torch.channels_last))
    assert fast == pytest.approx(plain, rel=1e-4)
    assert angle(fast_gradient, plain_gradient) > 0.99999


def test_bfloat16_measures_the_same_losses_and_gradients(loss: PerceptualLoss, photos: Tensor) -> None:
    """bfloat16 rounds to 8 bits, 0.4 % at a time and in either direction, so errors grow like a root of the depth.

    Ten convolutions there and back: 0.4 % times the root of 20 is 2 %. A gradient with 10 % of noise in a random
    direction has a cosine of 0.995; crops of a batch differ far more than that.
    """
    exact, exact_gradient = measure(make_net(), loss, photos)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, mixed_gradient = measure(make_net(), loss, photos)
    assert mixed == pytest.approx(exact, rel=0.02)
    assert angle(mixed_gradient, exact_gradient) > 0.995


def test_losses_stay_in_float32_under_autocast(loss: PerceptualLoss, photos: Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        losses = loss(make_net()(photos), loss.content_targets(photos))
    assert {value.dtype for value in losses.values()} == {torch.float32}


def test_precision_is_detected_and_can_be_chosen() -> None:
    assert choose_precision("32-true") == "32-true"
    fast = processor_has_bfloat16() or torch.cuda.is_available()
    assert choose_precision("auto") == ("bf16-mixed" if fast else "32-true")


def test_short_runs_are_not_compiled_and_a_choice_is_kept() -> None:
    assert not choose_compile("auto", PAYS_FROM - 1)
    assert choose_compile("auto", PAYS_FROM) == torch.cuda.is_available()
    assert choose_compile(True, 1)
    assert not choose_compile(False, PAYS_FROM)
    with pytest.raises(ConfigError, match="compile must be auto, true or false, not 'fast'"):
        choose_compile("fast", 1)  # type: ignore[arg-type]


TINY = [
    "data=sample",
    "data.size=32",
    "data.workers=0",
    "style.size=48",
    "model.widths=[8]",
    "model.residual_blocks=0",
    "model.kernel_size=3",
    *(f"loss.{weight}=0" for weight in ("content_weights.relu3_1", "style_weights.relu3_1", "style_weights.relu4_1")),
    "+loss.content_weights.relu1_1=1",
    "trainer.log_every_n_steps=1",
    "trainer.precision=32-true",
    "logger=csv",
    "steps=2",
]


def last_losses(folder: Path) -> list[float]:
    """The losses of each step, as the run logged them."""
    lines = next(folder.rglob("metrics.csv")).read_text().splitlines()
    column = lines[0].split(",").index("train/total")
    return [float(value) for line in lines[1:] if (value := line.split(",")[column])]


def test_compiled_training_has_the_losses_of_plain_training(run_program: Program, tmp_path: Path) -> None:
    for setting in ("true", "false"):
        result = run_program("train", [*TINY, f"compile={setting}", f"hydra.run.dir={tmp_path / setting}"])
        assert result.returncode == 0, result.stderr
        assert "without compiling" not in result.stdout + result.stderr
    assert last_losses(tmp_path / "true") == pytest.approx(last_losses(tmp_path / "false"), rel=1e-4)


def test_a_step_is_one_graph() -> None:
    """What interrupts the compiler makes it compile layer by layer, and steps slower than plain ones on a GPU."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        module = build_module(compose("train", [*TINY, "folder=none"]))
    photos = torch.from_numpy(load_image(SAMPLE / "dog.jpg", 64))[..., :64]
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(module._losses, dynamic=False, fullgraph=True, backend="eager")(photos, 8, noise)
    plain = module._losses(photos, 8, noise)
    assert compiled["total"].item() == pytest.approx(plain["total"].item(), rel=1e-4)


def test_without_a_compiler_training_goes_on_with_one_line(run_program: Program, tmp_path: Path) -> None:
    environment = os.environ | {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    result = run_program("train", [*TINY, "compile=true", f"hydra.run.dir={tmp_path / 'run'}"], env=environment)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert output.count("Going on without compiling") == 1
    assert "Traceback" not in output
    assert (tmp_path / "run" / "starry_night.safetensors").is_file()


PAGE_FAULTS = """
import resource, sys
import numpy as np
from stylenet.memory import free_memory, training_bytes
from stylenet.speed import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)  # 64 MB, as large as the features of a training step
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_memory_is_kept_from_step_to_step() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give_back")
    }
    assert faults["keep"] < faults["give_back"] / 10


def test_a_step_that_does_not_fit_says_what_would_before_it_starts(run_program: Program) -> None:
    result = run_program(
        "train", ["data=sample", "logger=csv", "model=johnson", "data.batch_size=4", "data.size=20000", "style.size=64"]
    )
    assert_one_sentence(result, "4 crops of 20000 px", "GB are free", "data.size=", "would fit")
    size = re.search(r"data\.size=(\d+)", result.stderr)
    assert size
    architecture = Architecture(widths=[32, 64, 128], residual_blocks=5, kernel_size=9)
    assert training_bytes(architecture, 4, int(size[1])) <= 1.1 * free_memory("cpu")


def test_the_memory_of_a_step_is_what_was_said(tmp_path: Path) -> None:
    """A whole training program, whose libraries count too; measured by a process that is small itself."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    from measured_process import run_measured

    settings = ["steps=2", "data.size=256", "data=sample", "data.workers=0", "logger=csv"]
    settings += ["trainer.accelerator=cpu", "trainer.precision=32-true", f"hydra.run.dir={tmp_path}"]
    measured = run_measured("stylenet.train", [*settings, "model=small", "data.batch_size=2"])
    architecture = Architecture(widths=[16, 32, 64], residual_blocks=4, kernel_size=5)
    assert measured.peak_memory_gb * 1e9 == pytest.approx(training_bytes(architecture, 2, 256), rel=0.25)
