"""The perceptual losses: style statistics, content, style and total variation, and their weighted sum.

Everything here takes and returns tensors; no files, no layers by index. The sum is `PerceptualLoss`. Beside it stands
`weave_loss`, of how a network paints and not of what: training alone weighs it.

How weights compare. Two normalisations are offered (`normalization=`):

* `relative` (the default): the relative error `|x - t| / |t|` of each layer, so that 1 means "as far away as nothing
  at all", whatever the painting, the layer or the set of VGG weights. Weights are of order one and carry from style to
  style. The distance is not squared: its gradient does not fade as a layer comes near its target, so that layers that
  are easy to match (colour, in the shallow ones) are matched well instead of being left at "small enough".
* `johnson`: mean squared differences, of features and of Gram matrices / (C H W): the paper's eq. 2 to 4, with a mean
  over the C^2 entries of a Gram matrix as in the authors' released code, whose 1 : 5 it gives a meaning.
  Its values depend on the encoder's input scale s (255 for the original weights, about 4.4 for torchvision's): content
  grows with s^2, style with s^4. So Johnson's 1 : 5 with the original weights is 1 : 5 * 57.6^2, about 1 : 1.7e4, in
  torchvision's scale, where the well-known PyTorch example has 1e5 : 1e10, that is 1 : 1e5: six times as much style.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenet.errors import ConfigError, require_number
from stylenet.speed import processor_has_bfloat16
from stylenet.vgg import Encoder, check_layers

Statistic = Literal["gram", "covariance"]
Normalization = Literal["relative", "johnson"]

NO_ENERGY = 1e-20  # keeps a relative error finite for a target of zeros; far below any real target's squared norm
PIXELS_AT_ONCE = 2**14  # in float32 they should stay in the processor's caches
PIXELS_ROUNDED = 2**8  # whose sums are rounded to bfloat16, together: see `_inner_products`
CELLS = 16  # a side of the windows in which a weave is looked for: 64 px for a network of stride 4
NO_TEXTURE = 1e-6  # a mean square; a quarter of a step of 8 bits, squared
NO_ERROR = 1e-8  # keeps a root's gradient finite at the target itself; an error of 1e-4


def gram_matrix(features: Tensor) -> Tensor:
    r"""Inner products of the channels: `G = F F^T / (C H W)`, with F of shape (C, H W).

    Gatys et al. 2015 (arXiv 1505.07376, eq. 1) without their normalisation; the division by C H W is
    Johnson et al. 2016 (eq. 3), which makes pictures of different sizes comparable.

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), float32 at least: sums over many pixels overflow half precision.
    """
    _, channels, height, width = features.shape
    # (N, C, H, W) -> (N, H*W, C): a view, not a copy, of features that are channels_last in memory.
    pixels = features.permute(0, 2, 3, 1).flatten(1, 2)
    with torch.autocast(features.device.type, enabled=False):  # or the product would fall back to half precision
        products: Tensor = _Products.apply(pixels)
    return products / (channels * height * width)


class _Products(torch.autograd.Function):
    """`x^T x`, whose gradient autograd would make in two halves, each as large as the features: here at once.

    The gradient of bfloat16 features is rounded to bfloat16 in any case, and so is multiplied in it; float16 would not
    hold its small numbers.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x if x.dtype == torch.bfloat16 else _at_least_float32(x))
        return _inner_products(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        symmetric = (gradient + gradient.transpose(1, 2)).to(x.dtype)
        if x.stride(2) == 1 or x.device.type != "cpu":
            result: Tensor = x @ symmetric
            return result
        planes = x.transpose(1, 2)  # as they lie in memory; processors multiply them faster by a convolution
        count, channels, pixels = planes.shape
        filters = symmetric.reshape(count * channels, channels, 1)
        products = F.conv1d(planes.reshape(1, count * channels, pixels), filters, groups=count)
        return products.view(count, channels, pixels).transpose(1, 2)


def _inner_products(x: Tensor) -> Tensor:
    """`x^T x` of (N, pixels, C), summed in float32 at least: (N, C, C).

    Processors that multiply in bfloat16 do so with bfloat16 features, in a third of the time. PyTorch gives such a
    product in bfloat16 alone; of the few pixels of a group, so that the groups' rounding evens out in their sum: 5e-5
    of a Gram matrix are left at conv1_1 of a 512 px picture, 9e-4 at conv5_1.
    """
    products: list[Tensor] = []
    on_processor = x.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_processor and x.dtype == torch.bfloat16 and processor_has_bfloat16():
        pixels = x.shape[1] // PIXELS_ROUNDED * PIXELS_ROUNDED
        groups = x[:, :pixels].view(len(x), -1, PIXELS_ROUNDED, x.shape[2])
        products.append((groups.transpose(2, 3) @ groups).sum(1, dtype=torch.float32))
        x = x[:, pixels:]
    parts = (_at_least_float32(part) for part in torch.split(x, PIXELS_AT_ONCE, dim=1))
    products += (part.transpose(1, 2) @ part for part in parts)
    return reduce(torch.add, products)


def covariance_matrix(features: Tensor) -> Tensor:
    """The Gram matrix of the features less their mean over the picture: `gram_matrix(F - mean(F))`.

    The style statistic's centred form: the second moments without the first (compare Li et al. 2017, arXiv 1701.01036,
    who show both to be statistics of one distribution).

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), float32 at least.
    """
    features = _at_least_float32(features)
    return gram_matrix(features - features.mean(dim=(2, 3), keepdim=True))


STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = {"gram": gram_matrix, "covariance": covariance_matrix}


def content_loss(features: Tensor, target: Tensor, normalization: Normalization = "relative") -> Tensor:
    """Distance of feature maps, a mean over the batch.

    `johnson`: `|F - T|^2 / (C H W)` (Johnson et al. 2016, eq. 2). `relative`: `|F - T| / |T|`.

    Args:
        features: (N, C, H, W).
        target: (N, C, H, W).
        normalization: see the module.

    Returns:
        A scalar, 0 where they agree.
    """
    features, target = _at_least_float32(features), _at_least_float32(target)
    if normalization == "relative":
        return _relative_error(features, target)
    return (features - target).square().mean()


def style_loss(statistic: Tensor, target: Tensor, normalization: Normalization = "relative") -> Tensor:
    """Distance of style statistics, a mean over the batch.

    `johnson`: `|G - T|^2 / C^2` (Johnson et al. 2016, eq. 4; see the module). `relative`: `|G - T| / |T|`.

    Args:
        statistic: (N, C, C), of the pictures.
        target: (1, C, C) or (N, C, C), of the painting.
        normalization: see the module.

    Returns:
        A scalar, 0 where they agree.
    """
    if normalization == "relative":
        return _relative_error(statistic, target)
    return (statistic - target).square().mean()


def total_variation_loss(image: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels (Johnson et al. 2016, section 3.2; Mahendran and Vedaldi 2015).

    Args:
        image: (N, C, H, W), in [0, 1].

    Returns:
        A scalar: the mean over vertical neighbours plus the mean over horizontal ones; 0 for a flat picture.
    """
    image = _at_least_float32(image)
    vertical = (image[..., 1:, :] - image[..., :-1, :]).square().mean()
    horizontal = (image[..., :, 1:] - image[..., :, :-1]).square().mean()
    return vertical + horizontal


def weave_loss(image: Tensor, period: int) -> Tensor:
    """How much of a picture's texture repeats with a network's grid: the same in cell after cell.

    A network paints `period` by `period` pixels from each place of its coarsest layer, and can please Gram matrices by
    weaving the same threads into all of them. Measured in windows of `CELLS` cells a side: the root mean square of
    their mean cell over that of all texture, where texture is what differs from the mean over a cell around it. (Ours.)

    Args:
        image: (N, C, H, W).
        period: px; 1 is no grid.

    Returns:
        A scalar: 1 where all texture repeats, about 1 / `CELLS` for noise. Its gradient takes the pattern away; it does
        not add other texture to hide it.
    """
    if period == 1 or min(image.shape[-2:]) < 2 * period:  # no grid, or no cell with all that is around it
        return image.new_zeros(())
    image = _at_least_float32(image)
    around = F.avg_pool2d(F.avg_pool2d(image, period, stride=1), 2, stride=1)  # twice, for a middle in a pixel
    height, width = (length // period * period for length in around.shape[-2:])
    first = period // 2
    texture = image[..., first : first + height, first : first + width] - around[..., :height, :width]
    cells = F.pixel_unshuffle(texture, period)
    pattern = F.avg_pool2d(cells, min(CELLS, *cells.shape[-2:]))
    share = pattern.square().mean() / (texture.detach().square().mean() + NO_TEXTURE)
    return (share + NO_ERROR).sqrt()


def _relative_error(x: Tensor, target: Tensor) -> Tensor:
    """`|x - t| / |t|`, a mean over the batch; with a floor under the root, whose slope at 0 has no end."""
    distance = (x - target).square().flatten(1).sum(1)
    norm = target.square().flatten(1).sum(1)
    return (distance / (norm + NO_ENERGY) + NO_ERROR).sqrt().mean()


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Clipped(torch.autograd.Function):
    """A picture as its file will hold it, whose values beyond [0, 1] feel the way back alone.

    With a plain clamp they would feel nothing, and be trapped in black and white.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.save_for_backward(image)
        return image.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (image,) = ctx.saved_tensors
        outward = ((image < 0) & (gradient > 0)) | ((image > 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


class PerceptualLoss(nn.Module):
    """Johnson et al. 2016, eq. 5: content, style and total variation, each with its weight.

    The painting's statistics are computed once, here, and kept as buffers. What is measured is the picture that a file
    can hold, clipped to [0, 1]: networks, and pixels that descend, learn otherwise to please the losses with dots and
    lines beyond black and white, of which the file keeps a disturbance.

    Args:
        encoder: sees at least the layers of `content_weights` and `style_weights`.
        style_image: (1, 3, H, W), RGB in [0, 1]; its size sets the size of the brush strokes. Of several, of any sizes,
            the target is the mean of their statistics.
        content_weights: layer -> weight; 0 leaves a layer out.
        style_weights: layer -> weight; 0 leaves a layer out.
        total_variation_weight: weight of `total_variation_loss`.
        statistic: `gram` or `covariance`.
        normalization: `relative` or `johnson`; see the module.
        shares: of several style images: how much each counts in the mean, in any unit. Default: all the same.

    Raises:
        ConfigError: for shares that do not fit, a negative weight, an unknown layer, statistic or normalisation.
    """

    def __init__(
        self,
        encoder: Encoder,
        style_image: Tensor | Sequence[Tensor],
        content_weights: Mapping[str, float],
        style_weights: Mapping[str, float],
        total_variation_weight: float,
        statistic: Statistic,
        normalization: Normalization,
        shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_loss_settings(content_weights, style_weights, total_variation_weight, statistic, normalization)
        self.encoder = encoder
        self.content_weights = {name: weight for name, weight in content_weights.items() if weight > 0}
        self.style_weights = {name: weight for name, weight in style_weights.items() if weight > 0}
        self.total_variation_weight = total_variation_weight
        self.statistic = STATISTICS[statistic]
        self.normalization: Normalization = normalization
        images = [style_image] if isinstance(style_image, Tensor) else list(style_image)
        for name, target in self._style_targets(images, _normalized(shares, len(images))).items():
            self.register_buffer(_target_name(name), target)

    def _style_targets(self, images: Sequence[Tensor], shares: Sequence[float]) -> dict[str, Tensor]:
        targets: dict[str, Tensor] = {}
        with torch.no_grad():
            for image, share in zip(images, shares, strict=True):
                for name, features in self.encoder(image, list(self.style_weights)).items():
                    targets[name] = share * self.statistic(features) + targets.get(name, 0)
        return targets

    def content_targets(self, content: Tensor) -> dict[str, Tensor]:
        """The photographs' features on the content layers, without gradient: (N, 3, H, W) -> layer -> (N, C, h, w)."""
        with torch.no_grad():
            targets: dict[str, Tensor] = self.encoder(content, list(self.content_weights))
        return targets

    def forward(self, image: Tensor, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure painted pictures.

        Args:
            image: (N, 3, H, W), RGB; clipped to [0, 1].
            content: what `content_targets` gave for the photographs.

        Returns:
            Unweighted `content/<layer>`, `style/<layer>` and `total_variation`, the weighted sums `content` and
            `style`, and their sum `total`: scalars.
        """
        image = _Clipped.apply(image)
        features = self.encoder(image, [*self.content_weights, *self.style_weights])
        losses: dict[str, Tensor] = {}
        content_sum = image.new_zeros(())
        for name, weight in self.content_weights.items():
            losses[f"content/{name}"] = content_loss(features[name], content[name], self.normalization)
            content_sum = content_sum + weight * losses[f"content/{name}"]
        style_sum = image.new_zeros(())
        for name, weight in self.style_weights.items():
            target: Tensor = getattr(self, _target_name(name))
            losses[f"style/{name}"] = style_loss(self.statistic(features[name]), target, self.normalization)
            style_sum = style_sum + weight * losses[f"style/{name}"]
        losses["total_variation"] = total_variation_loss(image)
        losses["content"], losses["style"] = content_sum, style_sum
        losses["total"] = content_sum + style_sum + self.total_variation_weight * losses["total_variation"]
        return losses


def check_loss_settings(
    content_weights: Mapping[str, float],
    style_weights: Mapping[str, float],
    total_variation_weight: float,
    statistic: str,
    normalization: str,
) -> None:
    """Raise `ConfigError` for the first setting that makes no loss; cheap, so that a run fails before it starts."""
    check_layers([*content_weights, *style_weights])
    for group, weights in (("content_weights", content_weights), ("style_weights", style_weights)):
        for layer, weight in weights.items():
            require_number(f"loss.{group}.{layer}", weight, 0)
    require_number("loss.total_variation_weight", total_variation_weight, 0)
    if statistic not in STATISTICS:
        raise ConfigError(f"loss.statistic must be one of {', '.join(STATISTICS)}, not {statistic!r}.")
    if normalization not in ("relative", "johnson"):
        raise ConfigError(f"loss.normalization must be 'relative' or 'johnson', not {normalization!r}.")


def _normalized(shares: Sequence[float] | None, count: int) -> list[float]:
    """Shares that add up to 1."""
    if shares is None:
        return [1 / count] * count
    for share in shares:
        require_number("Each weight of several paintings", share, 0)
    if len(shares) != count or sum(shares) <= 0:
        raise ConfigError(f"{count} paintings need {count} weights, not all of them 0; given: {list(shares)}.")
    return [share / sum(shares) for share in shares]


def _target_name(layer: str) -> str:
    return f"style_target_{layer}"
