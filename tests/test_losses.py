"""The losses by closed forms and against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stylenet.errors import ConfigError
from stylenet.losses import (
    CELLS,
    PIXELS_AT_ONCE,
    PIXELS_ROUNDED,
    PerceptualLoss,
    content_loss,
    covariance_matrix,
    gram_matrix,
    style_loss,
    total_variation_loss,
    weave_loss,
)
from stylenet.vgg import Encoder

CONTENT = {"relu3_1": 1.0}
STYLE = {"relu1_1": 1.0, "relu2_1": 0.5}


def make_loss(encoder: Encoder, painting: torch.Tensor, **changes: object) -> PerceptualLoss:
    settings: dict[str, object] = {
        "content_weights": CONTENT,
        "style_weights": STYLE,
        "total_variation_weight": 0.1,
        "statistic": "gram",
        "normalization": "relative",
    }
    return PerceptualLoss(encoder, painting, **(settings | changes))  # type: ignore[arg-type]


def features(seed: int, shape: tuple[int, ...] = (2, 5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_gram_matrix_of_constant_channels() -> None:
    x = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    expected = torch.tensor([[[4.0, 6.0], [6.0, 9.0]]]) / 2  # sum over 20 pixels / (2 channels * 20 pixels)
    assert torch.allclose(gram_matrix(x), expected)


def test_gram_matrix_against_numpy() -> None:
    x = features(0)
    flat = x.reshape(2, 5, 42)
    expected = np.einsum("ncp,ndp->ncd", flat, flat) / (5 * 42)
    np.testing.assert_allclose(gram_matrix(torch.from_numpy(x)).numpy(), expected, rtol=1e-12)


def test_gram_matrix_of_more_pixels_than_are_summed_at_once() -> None:
    height, width = 3, PIXELS_AT_ONCE // 2
    x = torch.randn(2, 4, height, width, dtype=torch.float64, requires_grad=True)
    above = torch.randn(2, 4, 4, dtype=torch.float64)
    expected = torch.einsum("nchw,ndhw->ncd", x, x) / (4 * height * width)
    found = gram_matrix(x)
    assert torch.allclose(found, expected)
    (exact,) = torch.autograd.grad(expected, x, above)
    assert torch.allclose(torch.autograd.grad(found, x, above)[0], exact)
    (rounded,) = torch.autograd.grad(gram_matrix(half := x.detach().bfloat16().requires_grad_()), half, above.float())
    assert rounded.dtype == torch.bfloat16
    assert float((rounded - exact).norm() / exact.norm()) < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("statistic", [gram_matrix, covariance_matrix])
def test_gradients_of_statistics_are_those_of_their_values(statistic: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.from_numpy(features(4, (1, 3, 4, 5))).requires_grad_()
    uneven = torch.randn(3, 3, dtype=torch.float64)  # an objective may weigh the two halves of a matrix differently
    assert torch.autograd.gradcheck(lambda x: (statistic(x) * uneven).sum(), x)


def test_covariance_matrix_against_numpy() -> None:
    x = features(1)
    expected = np.stack([np.cov(item.reshape(5, 42), bias=True) / 5 for item in x])
    np.testing.assert_allclose(covariance_matrix(torch.from_numpy(x)).numpy(), expected, rtol=1e-10)


def test_covariance_ignores_a_shift_and_the_gram_matrix_does_not() -> None:
    x = torch.from_numpy(features(2))
    assert torch.allclose(covariance_matrix(x + 3), covariance_matrix(x))
    assert not torch.allclose(gram_matrix(x + 3), gram_matrix(x))


def test_gram_matrix_of_half_precision_is_summed_in_float32() -> None:
    x = torch.full((1, 2, 64, 64), 200.0, dtype=torch.float16)  # 200^2 * 4096 overflows float16
    gram = gram_matrix(x)
    assert gram.dtype == torch.float32
    assert torch.allclose(gram, torch.full((1, 2, 2), 200.0**2 / 2))


@pytest.mark.parametrize("pixels", [1, 40])
def test_rounding_of_bfloat16_evens_out_in_a_gram_matrix(pixels: int) -> None:
    x = torch.randn(2, 4, pixels, PIXELS_ROUNDED + 3).relu().bfloat16()  # with a rest that fills no group
    exact = gram_matrix(x.double())
    gram = gram_matrix(x)
    assert gram.dtype == torch.float32
    assert float((gram - exact).norm() / exact.norm()) < torch.finfo(torch.bfloat16).eps / 2 / pixels**0.5


def test_gram_matrix_of_bfloat16_compiles_to_one_graph() -> None:
    x = torch.randn(1, 4, 20, 20).bfloat16()
    compiled = torch.compile(gram_matrix, dynamic=False, fullgraph=True, backend="eager")(x)
    assert torch.allclose(compiled, gram_matrix(x.float()))


def test_gram_matrix_is_not_degraded_by_autocast() -> None:
    x = torch.from_numpy(features(3)).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram_matrix(x), gram_matrix(x))
        inside = gram_matrix(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, gram_matrix(x))


def test_content_loss_against_numpy() -> None:
    a, b = features(4), features(5)
    squared = ((a - b) ** 2).reshape(2, -1)
    johnson = squared.mean(1).mean()
    relative = np.sqrt(squared.sum(1) / (b**2).reshape(2, -1).sum(1)).mean()
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    assert content_loss(x, y, "johnson").item() == pytest.approx(johnson, rel=1e-9)
    assert content_loss(x, y, "relative").item() == pytest.approx(relative, rel=1e-6)


def test_style_loss_against_numpy() -> None:
    a, b = features(6, (2, 5, 5)), features(7, (1, 5, 5))
    squared = ((a - b) ** 2).reshape(2, -1).sum(1)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    assert style_loss(x, y, "johnson").item() == pytest.approx(squared.mean() / 25, rel=1e-9)
    assert style_loss(x, y, "relative").item() == pytest.approx(np.sqrt(squared / (b**2).sum()).mean(), rel=1e-6)


def test_relative_losses_are_zero_at_the_target_and_one_at_nothing() -> None:
    x = torch.from_numpy(features(8)).float()
    assert content_loss(x, x).item() == pytest.approx(0, abs=1e-3)
    assert content_loss(torch.zeros_like(x), x).item() == pytest.approx(1, rel=1e-5)
    assert style_loss(gram_matrix(x), gram_matrix(x)).item() == pytest.approx(0, abs=1e-3)
    assert style_loss(torch.zeros(2, 5, 5), gram_matrix(x)).item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1 / 57.6, 7.0, 255.0])
def test_relative_losses_do_not_depend_on_the_encoders_scale(scale: float) -> None:
    a, b = (torch.from_numpy(features(seed)) for seed in (9, 10))
    assert content_loss(scale * a, scale * b).item() == pytest.approx(content_loss(a, b).item(), rel=1e-4)
    scaled = style_loss(gram_matrix(scale * a), gram_matrix(scale * b)).item()
    assert scaled == pytest.approx(style_loss(gram_matrix(a), gram_matrix(b)).item(), rel=1e-4)


def test_relative_losses_have_a_finite_gradient_at_the_target() -> None:
    x = torch.from_numpy(features(11)).requires_grad_()
    loss = content_loss(x, x.detach()) + style_loss(gram_matrix(x), gram_matrix(x.detach()))
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(gradient.isfinite().all())


def test_total_variation_by_closed_forms() -> None:
    assert total_variation_loss(torch.full((1, 3, 8, 8), 0.3)).item() == 0
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 3, 8, 8)  # every horizontal neighbour differs by 1
    assert total_variation_loss(stripes).item() == pytest.approx(1)
    ramp = (torch.arange(8) / 7).view(1, 1, 8, 1).expand(1, 3, 8, 8)
    assert total_variation_loss(ramp).item() == pytest.approx(1 / 49)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_weave_by_closed_forms(period: int) -> None:
    random = torch.Generator().manual_seed(0)
    cell = torch.rand((1, 3, period, period), generator=random)
    side = CELLS * period
    woven = cell.repeat(1, 1, 4 * CELLS + 1, 4 * CELLS + 1)
    assert weave_loss(woven, period).item() == pytest.approx(1, abs=1e-4)
    assert weave_loss(torch.full((1, 3, side, side), 0.3), period).item() < 1e-3
    noise = torch.rand(woven.shape, generator=random)
    assert weave_loss(noise, period).item() == pytest.approx(1 / CELLS, rel=0.1)  # the deviation of a window's mean
    assert weave_loss(noise, 1).item() == 0
    assert weave_loss(noise[..., : 2 * period - 1], period).item() == 0
    assert 0 < weave_loss(noise[..., : 2 * period], period).item() <= 1


def test_descending_the_weave_leaves_other_texture_alone() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.rand((1, 3, 132, 132), generator=random)
    threads = torch.rand((1, 3, 4, 4), generator=random).repeat(1, 1, 33, 33)
    picture = (noise + threads).requires_grad_()
    for _ in range(30):
        (gradient,) = torch.autograd.grad(weave_loss(picture, 4), picture)
        picture.data -= 400 * gradient
    left = (picture.detach() - noise)[..., 8:-8, 8:-8]
    assert left.std() < 0.3 * threads.std()


def test_perceptual_loss_is_the_weighted_sum_of_its_parts(
    encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor
) -> None:
    loss = make_loss(encoder, painting)
    losses = loss(photo.flip(-1), loss.content_targets(photo))
    style = losses["style/relu1_1"] + 0.5 * losses["style/relu2_1"]
    assert losses["style"].item() == pytest.approx(style.item())
    assert losses["content"].item() == pytest.approx(losses["content/relu3_1"].item())
    total = style + losses["content/relu3_1"] + 0.1 * losses["total_variation"]
    assert losses["total"].item() == pytest.approx(total.item())


def test_perceptual_loss_vanishes_for_its_own_painting(encoder: Encoder, painting: torch.Tensor) -> None:
    loss = make_loss(encoder, painting)
    losses = loss(painting, loss.content_targets(painting))
    assert losses["content"].item() == pytest.approx(0, abs=1e-3)
    assert losses["style"].item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("statistic", ["gram", "covariance"])
@pytest.mark.parametrize("normalization", ["relative", "johnson"])
def test_descent_brings_a_photo_nearer_to_the_painting(
    encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor, statistic: str, normalization: str
) -> None:
    loss = make_loss(encoder, painting, statistic=statistic, normalization=normalization)
    content = loss.content_targets(photo)
    image = photo.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.02)
    history = []
    for _ in range(8):
        optimizer.zero_grad()
        losses = loss(image, content)
        losses["style"].backward()
        optimizer.step()
        history.append(losses["style"].item())
    assert history[-1] < 0.8 * history[0]


def test_measures_the_picture_that_a_file_can_hold(
    encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor
) -> None:
    loss = make_loss(encoder, painting)
    glaring = 3 * photo - 1
    content = loss.content_targets(photo)
    assert loss(glaring, content)["total"] == loss(glaring.clamp(0, 1), content)["total"]
    assert loss(glaring, content)["total"] != loss(photo, content)["total"]


def test_values_beyond_black_and_white_find_back_and_go_no_farther(
    encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor
) -> None:
    loss = make_loss(encoder, painting)
    glaring = (3 * photo - 1).requires_grad_()
    inside = glaring.detach().clamp(0, 1).requires_grad_()
    for picture in (glaring, inside):
        loss(picture, loss.content_targets(photo))["total"].backward()
    assert glaring.grad is not None and inside.grad is not None
    black, white = glaring < 0, glaring > 1
    for beyond, inward in ((black, inside.grad < 0), (white, inside.grad > 0)):
        assert (beyond & inward).any() and (beyond & ~inward).any()
        assert torch.equal(glaring.grad[beyond & inward], inside.grad[beyond & inward])
        assert (glaring.grad[beyond & ~inward] == 0).all()


def test_a_weight_of_zero_leaves_a_layer_out(encoder: Encoder, painting: torch.Tensor, photo: torch.Tensor) -> None:
    loss = make_loss(encoder, painting, style_weights={"relu1_1": 1.0, "relu4_1": 0.0})
    assert "style/relu4_1" not in loss(photo, loss.content_targets(photo))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"content_weights": {"relu3_1": -1.0}}, "content_weights.relu3_1"),
        ({"style_weights": {"relu1_1": float("nan")}}, "style_weights.relu1_1"),
        ({"total_variation_weight": -0.5}, "total_variation_weight"),
        ({"style_weights": {"relu9_1": 1.0}}, "relu9_1"),
        ({"statistic": "mean"}, "'mean'"),
        ({"normalization": "none"}, "'none'"),
    ],
)
def test_bad_settings(encoder: Encoder, painting: torch.Tensor, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_loss(encoder, painting, **changes)
