"""Begin with what another network has learned: a new painting then takes a few hundred steps instead of thousands."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stylenet import checkpoint
from stylenet.architecture import Architecture
from stylenet.errors import ConfigError
from stylenet.image import to_array
from stylenet.losses import gram_matrix, style_loss
from stylenet.transformer_net import TransformerNet
from stylenet.vgg import Encoder

log = logging.getLogger(__name__)

COMPARED = 128  # px; paintings are compared as small as model files carry them


def warm_start(net: TransformerNet, init: str, painting: Tensor, encoder: Encoder) -> int:
    """Load into `net` the weights of a network that was trained on another painting.

    Args:
        net: the network to train.
        init: a network by name or file, or `auto`: the bundled one whose painting is nearest.
        painting: (1, 3, H, W), RGB in [0, 1]: the one to learn.
        encoder: sees what paintings are compared by.

    Returns:
        The steps that it has learned in.

    Raises:
        ModelFileError: when there is no such network.
        ConfigError: when it is of another shape than `net`.
    """
    path = nearest(net, painting, encoder) if init == "auto" else checkpoint.find_network(init)
    learned, card = checkpoint.load(path)
    if not learned.architecture.is_like(net.architecture):
        raise ConfigError(
            f"init={init} is a network of another shape ({card.network}) than model= asks for ({net.arguments}); "
            "leave init away, or choose the model it was trained with."
        )
    net.load_state_dict(learned.state_dict())
    log.info("Starting from what the network for %s has learned in %d steps.", card.style, card.steps_learned)
    return card.steps_learned


def nearest(net: TransformerNet, painting: Tensor, encoder: Encoder) -> Path:
    """The bundled network of `net`'s shape whose painting's Gram matrices are nearest, a mean over the layers."""
    wanted = _grams(painting, encoder)
    distances = {}
    for path, card in candidates(net):
        with Image.open(io.BytesIO(card.thumbnail)) as thumbnail:
            grams = _grams(torch.from_numpy(to_array(thumbnail.convert("RGB"))), encoder)
        distances[path] = sum(float(style_loss(grams[layer], wanted[layer])) for layer in wanted)
    if not distances:
        raise ConfigError("init=auto finds no bundled network of the shape that model= asks for; leave init away.")
    return min(distances, key=lambda path: distances[path])


def candidates(net: TransformerNet) -> Iterator[tuple[Path, checkpoint.ModelCard]]:
    """The bundled networks of `net`'s shape, which it can start from."""
    for path in sorted(checkpoint.BUNDLED.glob(f"*{checkpoint.EXTENSION}")):
        card = checkpoint.read_card(path)
        if Architecture(**card.network).is_like(net.architecture):
            yield path, card


@torch.no_grad()
def _grams(painting: Tensor, encoder: Encoder) -> dict[str, Tensor]:
    side = COMPARED / max(painting.shape[-2:])
    size = [max(16, round(length * side)) for length in painting.shape[-2:]]
    small = torch.nn.functional.interpolate(painting, size, mode="bilinear", antialias=True)
    return {name: gram_matrix(features) for name, features in encoder(small).items()}
