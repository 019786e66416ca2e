"""Model files: whole, self-describing, and safe to open whoever made them."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stylenet import checkpoint
from stylenet.checkpoint import ModelCard
from stylenet.errors import ModelFileError
from stylenet.transformer_net import TransformerNet


@pytest.fixture
def card(net: TransformerNet) -> ModelCard:
    return ModelCard("dots", net.arguments, {"steps": 5}, {"total": 1.5}, b"\xff\xd8thumbnail")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("half", [True, False])
def test_round_trip(
    tmp_path: Path, net: TransformerNet, card: ModelCard, half: bool, memory_format: torch.memory_format
) -> None:
    net = net.to(memory_format=memory_format)
    path = checkpoint.export(net, card, tmp_path / "deep" / "dots.safetensors", half=half)
    loaded, loaded_card = checkpoint.load(path)
    assert loaded_card == card
    assert not loaded.training
    photo = torch.rand(1, 3, 40, 44)
    difference = (loaded(photo) - net(photo)).abs().max().item()
    assert difference < (1 / 255 if half else 1e-5)  # float32 rounds differently in another memory format
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no temporary file stays behind


def test_half_precision_halves_the_file(tmp_path: Path, net: TransformerNet, card: ModelCard) -> None:
    sizes = [
        checkpoint.export(net, card, tmp_path / f"{half}.safetensors", half).stat().st_size for half in (False, True)
    ]
    weights = sum(parameter.numel() for parameter in net.parameters())
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, abs=200)


def test_diverged_network_is_not_saved_over_a_good_one(tmp_path: Path, net: TransformerNet, card: ModelCard) -> None:
    path = checkpoint.export(net, card, tmp_path / "dots.safetensors")
    good = path.read_bytes()
    next(net.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        checkpoint.export(net, card, path)
    assert path.read_bytes() == good


def test_place_that_cannot_be_written(tmp_path: Path, net: TransformerNet, card: ModelCard) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match="cannot be written"):
        checkpoint.export(net, card, tmp_path / "file" / "dots.safetensors")


class Bomb:
    """Unpickling it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_pickle_is_refused_and_never_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    with (tmp_path / "evil.safetensors").open("wb") as file:
        pickle.dump(Bomb(mark), file)
    torch.save(Bomb(mark), tmp_path / "evil.pth")
    for name in ("evil.safetensors", "evil.pth"):
        with pytest.raises(ModelFileError, match=r"evil.*is not a stylenet model file"):
            checkpoint.load(tmp_path / name)
    assert not mark.exists()


def rewrite(path: Path, **changes: str) -> None:
    """Replace entries of a model file's metadata; the weights stay."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(state, path, metadata | changes)


def card_of(**network: object) -> str:
    return json.dumps({"style": "a", "network": network, "thumbnail": ""})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "not one of a stylenet network"),
        ({"format_version": "99"}, "format version 99"),
        ({"format_version": "x"}, "format version x"),
        ({"card": "{"}, "model card that cannot be read"),
        ({"card": json.dumps({"style": "a", "network": {}, "thumbnail": "", "what": 1})}, "cannot be read"),
        ({"card": card_of()}, "does not hold the network"),
        ({"card": card_of(widths=[8, 12, 16], residual_blocks=10**12, kernel_size=5)}, "does not hold the network"),
        ({"card": card_of(widths=[8, 12, 16], residual_blocks=0, kernel_size=5)}, "does not hold the network"),
        ({"card": card_of(widths=[10**9, 10**9], residual_blocks=1, kernel_size=3)}, "does not hold the network"),
    ],
)
def test_foreign_and_hostile_metadata(
    tmp_path: Path, net: TransformerNet, card: ModelCard, changes: dict[str, str], words: str
) -> None:
    path = checkpoint.export(net, card, tmp_path / "dots.safetensors")
    rewrite(path, **changes)
    with pytest.raises(ModelFileError, match=words):
        checkpoint.load(path)


def test_truncated_file(tmp_path: Path, net: TransformerNet, card: ModelCard) -> None:
    path = checkpoint.export(net, card, tmp_path / "dots.safetensors")
    for length in (0, 7, 100, path.stat().st_size - 10):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ModelFileError, match=r"dots\.safetensors"):
            checkpoint.load(path)


def test_weights_that_are_not_finite(tmp_path: Path, net: TransformerNet) -> None:
    state = {name: tensor * float("inf") for name, tensor in net.state_dict().items()}
    fields = {"style": "dots", "network": net.arguments, "thumbnail": ""}
    metadata = {"format": "stylenet", "format_version": "1", "card": json.dumps(fields)}
    save_file(state, tmp_path / "dots.safetensors", metadata)
    with pytest.raises(ModelFileError, match="not finite"):
        checkpoint.load(tmp_path / "dots.safetensors")


def test_a_name_finds_the_newest_trained_network(
    tmp_path: Path, net: TransformerNet, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [checkpoint.export(net, card, Path("runs/dots") / run / "dots.safetensors") for run in ("b", "a")]
    now = time.time()
    os.utime(paths[0], (now, now))
    os.utime(paths[1], (now - 60, now - 60))
    assert checkpoint.find_network("dots") == paths[0]
    assert checkpoint.find_network("some/where.safetensors") == Path("some/where.safetensors")


def test_unknown_name_lists_what_there_is(
    tmp_path: Path, net: TransformerNet, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.export(net, card, Path("runs/dots/a/dots.safetensors"))
    with pytest.raises(ModelFileError, match="Did you mean dots") as caught:
        checkpoint.find_network("dotz")
    assert "python -m stylenet.train style=dotz" in str(caught.value)
    with pytest.raises(ModelFileError, match=r"no model file .*nowhere\.safetensors"):
        checkpoint.load("nowhere.safetensors")
