"""The public surface, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stylenet

HEAVY = ("torch", "torchvision", "pytorch_lightning", "wandb", "numpy", "PIL", "hydra")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].split())


def test_every_public_name_is_there() -> None:
    for name in stylenet.__all__:
        assert getattr(stylenet, name) is not None


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = stylenet.no_such_thing


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import stylenet") & set(HEAVY)


def test_help_of_the_command_lines_imports_no_torch() -> None:
    for name in ("train", "infer", "optimize", "dream", "evaluate"):
        assert "torch" not in modules_after(f"import stylenet.{name}"), name
