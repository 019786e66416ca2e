"""Johnson's network: sizes, borders, and no checkerboard."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stylenet.errors import ConfigError, PictureError
from stylenet.grain import SIDE, grain
from stylenet.instance_norm import InstanceNorm
from stylenet.transformer_net import TransformerNet


@pytest.mark.parametrize("height", range(24, 29))
@pytest.mark.parametrize("width", [24, 25, 31, 47])
def test_any_size_comes_back_at_its_own_size(net: TransformerNet, height: int, width: int) -> None:
    assert net(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


def test_smallest_size_works_and_a_smaller_one_is_refused(net: TransformerNet) -> None:
    size = net.architecture.min_size
    assert net(torch.rand(1, 3, size, size)).shape[-1] == size
    with pytest.raises(PictureError, match=f"{size - 1} x {size} px"):
        net(torch.rand(1, 3, size, size - 1))


def test_the_papers_network_has_the_papers_size() -> None:
    net = TransformerNet([32, 64, 128], 5, 9)
    # Weights and biases of the convolutions by hand, then a scale and a shift per normalised channel.
    convolutions = (3 * 81 * 32 + 32) + (32 * 9 * 64 + 64) + (64 * 9 * 128 + 128)
    convolutions += 10 * (128 * 9 * 128 + 128)
    convolutions += (128 * 9 * 64 + 64) + (64 * 9 * 32 + 32) + (32 * 81 * 3 + 3)
    norms = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    assert sum(parameter.numel() for parameter in net.parameters()) == convolutions + norms


@pytest.mark.parametrize("arguments", [([32, 64, 128], 5, 9), ([16, 32, 64], 4, 5), ([8], 0, 1), ([4, 6, 8, 10], 2, 3)])
def test_its_description_names_every_weight(arguments: tuple[list[int], int, int]) -> None:
    net = TransformerNet(*arguments)
    assert dict(net.architecture.shapes()) == {name: tuple(p.shape) for name, p in net.state_dict().items()}


@pytest.mark.parametrize("arguments", [([8, 12, 16], 2, 5), ([4, 6], 1, 9), ([8], 0, 3)])
def test_convolutions_reach_as_far_as_the_description_says(arguments: tuple[list[int], int, int]) -> None:
    torch.manual_seed(0)
    net = TransformerNet(*arguments)
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm):  # which knows the whole picture
                setattr(module, name, nn.Identity())
    photo = torch.rand(1, 3, 120, 120, requires_grad=True)
    reach, stride = net.architecture.reach, net.architecture.stride
    for place in range(60, 60 + stride):  # where the grid of the lowest resolution lies makes a difference
        (gradient,) = torch.autograd.grad(net(photo)[..., place, place].sum(), photo)
        felt = gradient.abs().sum((0, 1)).nonzero()
        assert int((felt - place).abs().max()) <= reach
        assert int((felt - place).abs().max()) > reach - stride


def test_training_shows_the_losses_nothing_that_knows_of_an_edge() -> None:
    for arguments in ([16, 32, 64], 4, 5), ([32, 64, 128], 5, 9):
        architecture = TransformerNet(*arguments).architecture
        assert architecture.reach <= architecture.context < architecture.reach + 4
        side = 256 + 2 * architecture.context
        assert architecture.growth(side, training=True) == (0, 0)  # nothing is mirrored there either


def test_contrast_and_brightness_of_the_photo_are_normalised_away(net: TransformerNet) -> None:
    photo = torch.rand(1, 3, 40, 40)
    assert torch.allclose(net(photo), net(0.3 * photo + 0.5), atol=2e-3)


def test_a_flat_picture_stays_flat_up_to_its_border(net: TransformerNet) -> None:
    painted = net(torch.full((1, 3, 41, 38), 0.7)).detach()
    assert float(painted.std(dim=(2, 3)).max()) < 1e-4  # zero padding would darken a frame of several pixels


def test_grain_is_there_and_always_the_same(net: TransformerNet) -> None:
    torch.manual_seed(0)
    grainy = TransformerNet([8, 12, 16], 1, 5, grain=0.1)
    photo = torch.full((1, 3, 64, 64), 0.5)
    painted = grainy(photo).detach()
    assert torch.equal(painted, grainy(photo))
    assert float(painted.std(dim=(2, 3)).min()) > 0.1
    assert float(net(photo).detach().std(dim=(2, 3)).max()) < 1e-4  # the same weights find nothing to paint without it
    assert not torch.allclose(painted, grainy(photo, torch.randn(photo.shape)), atol=0.1)


def test_grain_of_a_region_is_a_part_of_the_whole() -> None:
    whole = grain(0, 40, 0, SIDE + 30)
    assert abs(float(whole.mean())) < 0.01
    assert abs(float(whole.std()) - 1) < 0.01
    assert (grain(10, 20, 30, 50) == whole[:, :, 10:20, 30:50]).all()
    assert (whole[..., :30] == whole[..., SIDE:]).all()  # it repeats


def test_no_checkerboard() -> None:
    """On smooth pictures, an untrained network's finest frequencies hold no more than its neighbours do."""
    torch.manual_seed(1)
    net = TransformerNet([16, 32, 64], 2, 9)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 5, 5), (128, 128), mode="bicubic", antialias=True)
    with torch.no_grad():
        inner = net(smooth)[..., 16:112, 16:112]  # away from the borders
    spectrum = torch.fft.rfft(inner - inner.mean(dim=-1, keepdim=True), dim=-1).abs().mean(dim=(0, 1, 2))
    for period in (2, 4):  # where strided transposed convolutions leave their grid
        place = 96 // period
        around = spectrum[place - 6 : place - 1].mean()
        assert spectrum[place] < 3 * around, f"a grid of {period} px"


@pytest.mark.parametrize(
    ("widths", "blocks", "kernel", "words"),
    [([], 1, 3, "widths"), ([8, 0], 1, 3, "widths"), ([8], -1, 3, "residual_blocks"), ([8], 1, 4, "kernel_size")],
)
def test_arguments_that_make_no_network(widths: list[int], blocks: int, kernel: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TransformerNet(widths, blocks, kernel)
    with pytest.raises(ConfigError, match="grain"):
        TransformerNet([8], 1, 3, grain=-0.1)
