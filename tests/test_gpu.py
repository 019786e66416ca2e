"""Every program once where there is a GPU; elsewhere these tests are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import VISIBLE, Program

from stylenet.data import SAMPLE
from stylenet.image import open_picture

DOG = str(SAMPLE / "dog.jpg")
QUICK = ["coarsest=32", "iterations=3", "preview_every=3", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """One in which programs see the GPU."""
    variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if VISIBLE is not None:
        variables["CUDA_VISIBLE_DEVICES"] = VISIBLE
    asks = [sys.executable, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"]
    if subprocess.run(asks, env=variables, check=False).returncode:
        pytest.skip("there is no GPU")
    return variables


@pytest.mark.parametrize(
    ("program", "arguments", "made"),
    [
        ("optimize", [*QUICK, f"content={DOG}", "size=64"], "run/dog_starry_night.jpg"),
        ("optimize", [*QUICK, "content=null", "size=64", "seamless=true"], "run/texture_starry_night.jpg"),
        ("dream", [f"content={DOG}", "size=96", "layer=relu2_1", "hydra.run.dir=run"], "run/dog_dream.jpg"),
        ("dream", [f"like={DOG}", "layer=relu2_1", "count=2", "size=48", "hydra.run.dir=run"], "run/relu2_1.jpg"),
        (
            "evaluate",
            ["networks=[starry_night]", "sizes=[64]", "count=1", "iterations=3", "sheet=[3]", "hydra.run.dir=run"],
            "run/page.html",
        ),
        (
            "train",
            ["data=sample", "data.size=64", "style.size=64", "steps=2", "logger=csv", "hydra.run.dir=run"],
            "run/starry_night.safetensors",
        ),
    ],
    ids=["optimize", "texture", "dream", "excite", "evaluate", "train"],
)
def test_programs_run_on_a_gpu(
    environment: dict[str, str], run_program: Program, tmp_path: Path, program: str, arguments: list[str], made: str
) -> None:
    result = run_program(program, arguments, env=environment)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / made).is_file()


def test_a_gpu_paints_what_a_processor_paints(
    environment: dict[str, str], run_program: Program, tmp_path: Path
) -> None:
    painted = []
    for device in ("cpu", "cuda"):
        output = tmp_path / f"{device}.png"
        result = run_program(
            "infer", [DOG, "--style", "starry_night", "--device", device, "-o", str(output)], env=environment
        )
        assert result.returncode == 0, result.stderr
        painted.append(np.asarray(open_picture(output), float))
    assert np.abs(painted[0] - painted[1]).mean() < 2  # of 255; its convolutions round to 10 bits
