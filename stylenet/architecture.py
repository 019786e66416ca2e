"""The network as a description, without tensors: the one place that says which layers there are.

`transformer_net.TransformerNet` makes PyTorch modules of it, to train and to paint on a GPU; `engine.Engine` makes a
graph of it that paints on a CPU; `checkpoint` checks a model file's weights against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stylenet.errors import ConfigError, PictureError, require_number

FRAME = 24  # px along the edges of what they see that networks paint otherwise than the rest
NORM_EPSILON = 1e-5  # added to the variance by instance normalisation


@dataclass(frozen=True)
class Convolution:
    """A convolution with reflection at the borders, and what goes before and after it.

    Attributes:
        name: of its `weight` and `bias` in a model file.
        inputs: channels in.
        outputs: channels out.
        kernel_size: odd.
        stride: 2 halves the picture.
        doubled: whether nearest-neighbour doubling goes before it.
        norm: name of the `weight` and `bias` of the instance normalisation that follows; empty where none does.
        relu: whether a ReLU comes last.
    """

    name: str
    inputs: int
    outputs: int
    kernel_size: int
    stride: int = 1
    doubled: bool = False
    norm: str = ""
    relu: bool = False

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of its weights and of its normalisation's."""
        yield f"{self.name}.weight", (self.outputs, self.inputs, self.kernel_size, self.kernel_size)
        yield f"{self.name}.bias", (self.outputs,)
        if self.norm:
            yield f"{self.norm}.weight", (self.outputs,)
            yield f"{self.norm}.bias", (self.outputs,)


@dataclass(frozen=True)
class Residual:
    """Two convolutions whose result is added to what went in."""

    first: Convolution
    second: Convolution


@dataclass(frozen=True)
class Architecture:
    """The network of Johnson, Alahi and Fei-Fei (2016, arXiv 1603.08155, supplementary table 1).

    Args:
        widths: channels after the first convolution and after each halving; the paper's are (32, 64, 128).
        residual_blocks: blocks at the lowest resolution; the paper has 5.
        kernel_size: of the first and last convolution, odd; the paper's is 9.
        grain: deviation of the noise that is added to the photo, in the scale of pixels from 0 to 1; see `grain`.

    Raises:
        ConfigError: for widths, blocks or a kernel that make no network.
    """

    widths: Sequence[int]
    residual_blocks: int
    kernel_size: int
    grain: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths:
            raise ConfigError("model.widths must be one or more channel counts, not empty.")
        for width in self.widths:
            require_number("model.widths", width, 1, whole=True)
        require_number("model.residual_blocks", self.residual_blocks, 0, whole=True)
        require_number("model.kernel_size", self.kernel_size, 1, whole=True)
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"model.kernel_size must be odd, not {self.kernel_size}.")
        require_number("model.grain", self.grain, 0, 1)

    @property
    def stride(self) -> int:
        """Sides must be a multiple of this, so that halved sizes double back exactly."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def margin(self) -> int:
        """Pixels that a picture is grown by on each side at least, mirrored, and its painting cut back by."""
        return self.stride * (self.kernel_size // 2)

    @property
    def reach(self) -> int:
        """How many pixels away the pixels are, at most, that the convolutions make a pixel of the painting from."""
        scale, reach = 1, 0
        for convolution in self.convolutions():
            if convolution.doubled:
                scale //= 2
                reach += scale
            reach += scale * (convolution.kernel_size // 2)
            scale *= convolution.stride
        return reach

    @property
    def context(self) -> int:
        """Pixels of the photo around a training crop that the network sees and the losses do not.

        Beyond a picture's edges VGG19 sees nothing. A network that sees where they are learns to paint a frame there,
        which pleases the losses and nobody else; so they lie out of its reach.
        """
        return -(-self.reach // self.stride) * self.stride

    @property
    def min_size(self) -> int:
        """The shortest side in pixels that every reflection has room for."""
        return self.margin + self.stride

    def growth(self, length: int, training: bool = False) -> tuple[int, int]:
        """Pixels that a side is grown by before and after it, mirrored, which make it a multiple of the stride.

        When painting, a picture is grown by its margin and more: what a network does along an edge, which training's
        losses do not see, lies in what is cut off. But by no more than a tenth of the side above the margin, since what
        is mirrored counts in instance normalisation's statistics.
        """
        margin = 0 if training else self.margin + min(FRAME, length // 10) // self.stride * self.stride
        return margin, margin + -length % self.stride

    def check_size(self, height: int, width: int) -> None:
        """Raise a `PictureError` for a picture smaller than `min_size`."""
        if min(height, width) < self.min_size:
            raise PictureError(
                f"The picture is {width} x {height} px; the network takes {self.min_size} x {self.min_size} and larger."
            )

    def layers(self) -> Iterator[Convolution | Residual]:
        """The layers in order, lazily: a hostile model card may claim any number of them."""
        changes = list(pairwise(self.widths))
        yield _block("layers.0", 0, 3, self.widths[0], self.kernel_size)
        for index, (wide, narrow) in enumerate(changes, 1):
            yield _block(f"layers.{index}", 0, wide, narrow, 3, stride=2)
        deepest, first = self.widths[-1], len(self.widths)
        for index in range(first, first + self.residual_blocks):
            yield Residual(
                _block(f"layers.{index}.body", 0, deepest, deepest, 3),
                _block(f"layers.{index}.body", 3, deepest, deepest, 3, relu=False),
            )
        first += self.residual_blocks
        for index, (narrow, wide) in enumerate(reversed(changes), first):
            yield _block(f"layers.{index}", 1, wide, narrow, 3, doubled=True)
        yield Convolution(f"layers.{first + len(changes)}", self.widths[0], 3, self.kernel_size)

    def convolutions(self) -> Iterator[Convolution]:
        """The convolutions in order, those of the residual blocks too, lazily."""
        for layer in self.layers():
            yield from (layer.first, layer.second) if isinstance(layer, Residual) else (layer,)

    def is_like(self, other: Architecture) -> bool:
        """Whether weights fit both."""
        return list(self.shapes()) == list(other.shapes())

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of all weights, lazily."""
        for convolution in self.convolutions():
            yield from convolution.shapes()


def _block(
    prefix: str,
    place: int,
    inputs: int,
    outputs: int,
    kernel_size: int,
    stride: int = 1,
    doubled: bool = False,
    relu: bool = True,
) -> Convolution:
    """A convolution and its normalisation, at `place` and the one after it among the parts of a layer."""
    name, norm = f"{prefix}.{place}", f"{prefix}.{place + 1}"
    return Convolution(name, inputs, outputs, kernel_size, stride, doubled, norm, relu)
