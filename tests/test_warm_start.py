"""Starting from a network that can paint: the nearest is found, its weights arrive, and training goes on from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Program, assert_one_sentence

from stylenet import checkpoint
from stylenet.checkpoint import ModelCard
from stylenet.data import SAMPLE
from stylenet.image import load_image
from stylenet.styles import PAINTINGS
from stylenet.transformer_net import TransformerNet
from stylenet.vgg import Encoder
from stylenet.warm_start import nearest, warm_start


def default_net() -> TransformerNet:
    return TransformerNet(widths=[16, 32, 64], residual_blocks=4, kernel_size=5)


@pytest.mark.parametrize("path", sorted(checkpoint.BUNDLED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_each_bundled_network_is_the_nearest_to_its_own_painting(path: Path, encoder: Encoder) -> None:
    net, card = checkpoint.load(path)
    painting = torch.from_numpy(load_image(PAINTINGS / f"{card.style}.jpg", 384))
    found = checkpoint.read_card(nearest(net, painting, encoder))
    assert found.style == card.style


def test_the_weights_of_the_network_arrive(painting: torch.Tensor, encoder: Encoder) -> None:
    net = default_net()
    warm_start(net, "starry_night", painting, encoder)
    learned, _ = checkpoint.load(checkpoint.BUNDLED / "starry_night.safetensors")
    for name, weights in learned.state_dict().items():
        assert torch.equal(net.state_dict()[name], weights)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_training_goes_on_from_what_a_network_learned(run_program: Program, tmp_path: Path) -> None:
    common = ["data.size=64", "data.workers=0", "style.size=96", "steps=1", "logger=csv", f"data.root={SAMPLE}"]
    for name, init in (("starry_night", checkpoint.BUNDLED / "starry_night.safetensors"), ("null", "null")):
        result = run_program("train", [*common, f"init={init}", f"hydra.run.dir={tmp_path / name}"])
        assert result.returncode == 0, result.stderr
        assert ("With init=auto" in result.stdout + result.stderr) == (init == "null")
    warm, card = checkpoint.load(tmp_path / "starry_night" / "starry_night.safetensors")
    cold, _ = checkpoint.load(tmp_path / "null" / "starry_night.safetensors")
    learned, _ = checkpoint.load(checkpoint.BUNDLED / "starry_night.safetensors")

    def apart(net: TransformerNet) -> float:
        both = zip(net.parameters(), learned.parameters(), strict=True)
        return max(float((a - b).abs().max()) for a, b in both)

    assert apart(warm) < 0.01 < apart(cold)  # steps are short while the learning rate rises
    assert (card.training["init"], card.training["data"]["root"]) == ("starry_night", "photos")  # not where they are
    before = checkpoint.read_card(checkpoint.BUNDLED / "starry_night.safetensors").steps_learned
    assert card.steps_learned == before + 1
    assert checkpoint.read_card(tmp_path / "null" / "starry_night.safetensors").steps_learned == 1


def test_a_network_of_another_shape_is_refused(run_program: Program, tmp_path: Path) -> None:
    small = TransformerNet(widths=[8, 12, 16], residual_blocks=1, kernel_size=5)
    path = checkpoint.export(small, ModelCard("small", small.arguments), tmp_path / "small.safetensors")
    result = run_program("train", [f"init={path}", "logger=csv", "data=sample"])
    assert_one_sentence(result, str(path), "another shape", "model")


def test_auto_says_when_no_network_has_the_shape(run_program: Program) -> None:
    result = run_program("train", ["init=auto", "model.widths=[8,16]", "logger=csv", "data=sample"])
    assert_one_sentence(result, "init=auto", "shape", "leave init away")


def test_an_unknown_network_is_named(run_program: Program) -> None:
    assert_one_sentence(run_program("train", ["init=stary_night", "logger=csv", "data=sample"]), "Did you mean starry")
