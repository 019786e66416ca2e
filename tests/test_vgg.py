"""The encoder against torchvision's own VGG19, and its errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torchvision.models import vgg19

from stylenet.errors import ConfigError, WeightsError
from stylenet.vgg import CONVOLUTION_NAMES, LAYERS, Encoder, load_weights


@pytest.fixture(scope="module")
def reference() -> torch.nn.Sequential:
    """VGG19 of torchvision holding the original weights; the first layer still takes RGB."""
    features = vgg19(weights=None).features.eval()
    ours = load_weights("original").convolutions
    convolutions = [layer for layer in features if isinstance(layer, torch.nn.Conv2d)]
    for name, layer in zip(CONVOLUTION_NAMES, convolutions, strict=True):
        layer.load_state_dict({part: ours[f"{name}.{part}"] for part in ("weight", "bias")})
        layer.requires_grad_(False)
    for layer in features:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
    assert isinstance(features, torch.nn.Sequential)
    return features


def test_every_layer_agrees_with_torchvision(reference: torch.nn.Sequential, photo: torch.Tensor) -> None:
    features = Encoder(LAYERS)(photo)
    mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
    x = photo * 255 - mean
    assert list(features) == list(LAYERS)
    for name, layer in zip(LAYERS, reference, strict=True):
        x = layer(x)
        assert torch.allclose(features[name], x, rtol=1e-4, atol=1e-3 * float(x.abs().max())), name


def test_what_is_not_asked_for_changes_nothing(photo: torch.Tensor) -> None:
    """Where no one asks for the ReLU before a pooling, it comes after it."""
    layers = ["relu1_1", "pool1", "relu2_2", "conv3_1"]
    alone, among_all = Encoder(layers), Encoder(LAYERS[: LAYERS.index("conv3_1") + 1])
    gradients = []
    for encoder in (alone, among_all):
        leaf = photo.clone().requires_grad_()
        features = encoder(leaf)
        gradients.append(torch.autograd.grad(features["conv3_1"].square().sum(), leaf)[0])
        for name in layers:
            assert torch.equal(features[name], alone(photo)[name])
    assert torch.equal(*gradients)


def test_original_weights_see_rgb_as_the_paper_saw_bgr(photo: torch.Tensor) -> None:
    encoder = Encoder(["conv1_1"])
    convolution = encoder.stages["conv1_1"]
    assert isinstance(convolution, torch.nn.Conv2d)
    weights = convolution.weight.flip(1)  # back to BGR
    bgr = photo.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    expected = torch.nn.functional.conv2d(bgr, weights, convolution.bias, padding=1)
    assert torch.allclose(encoder(photo)["conv1_1"], expected, rtol=1e-4, atol=1e-2)


def test_stops_at_the_deepest_layer_asked_for() -> None:
    encoder = Encoder(["relu2_1", "relu1_2"])
    assert list(encoder.stages) == list(LAYERS[: LAYERS.index("relu2_1") + 1])
    assert encoder.layers == ("relu1_2", "relu2_1")
    assert list(encoder(torch.rand(1, 3, 32, 32), ["relu1_2"])) == ["relu1_2"]


def test_is_frozen_and_stays_in_evaluation_mode() -> None:
    encoder = Encoder(["relu1_1"]).train()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_average_pooling(photo: torch.Tensor) -> None:
    features = Encoder(["relu1_2", "pool1"], pooling="average")(photo)
    assert torch.allclose(features["pool1"], torch.nn.functional.avg_pool2d(features["relu1_2"], 2))


def test_weights_from_a_file_use_torchvisions_preprocessing(tmp_path: Path, photo: torch.Tensor) -> None:
    model = vgg19(weights=None)
    torch.save(model.state_dict(), tmp_path / "vgg19.pth")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = model.features[:2]((photo - mean) / std)
    assert torch.allclose(Encoder(["relu1_1"], weights=tmp_path / "vgg19.pth")(photo)["relu1_1"], expected, atol=1e-5)


@pytest.mark.parametrize("layer", ["relu3_9", "features.12", "conv0_1", ""])
def test_unknown_layer_is_named_and_the_known_ones_are_listed(layer: str) -> None:
    with pytest.raises(ConfigError, match="relu3_3") as caught:
        Encoder([layer])
    assert repr(layer) in str(caught.value)


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean relu3_3"):
        Encoder(["rellu3_3"])


def test_no_layers_at_all() -> None:
    with pytest.raises(ConfigError, match="at least one layer"):
        Encoder([])


def test_unknown_pooling() -> None:
    with pytest.raises(ConfigError, match="'median'"):
        Encoder(["relu1_1"], pooling="median")  # type: ignore[arg-type]


def test_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file .*nowhere\.pth"):
        load_weights(tmp_path / "nowhere.pth")


def test_foreign_weights_file(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("not weights")
    with pytest.raises(WeightsError, match="does not hold VGG19 weights"):
        load_weights(tmp_path / "notes.pth")


def test_torchvision_weights_offline_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there: as if offline
    for name in ("no_proxy", "NO_PROXY"):
        if name in os.environ:
            monkeypatch.delenv(name)
    with pytest.raises(WeightsError, match=r"Use encoder\.weights=original"):
        load_weights("torchvision")
