"""Fast feed-forward style transfer: train a network on a painting, paint any photo in a single pass."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylenet.errors import StylenetError
    from stylenet.image import load_image, save_image
    from stylenet.losses import PerceptualLoss, covariance_matrix, gram_matrix
    from stylenet.stylizer import Stylizer
    from stylenet.transformer_net import TransformerNet
    from stylenet.vgg import Encoder

__version__ = "0.1.0"
__all__ = [
    "Encoder",
    "PerceptualLoss",
    "StylenetError",
    "Stylizer",
    "TransformerNet",
    "covariance_matrix",
    "gram_matrix",
    "load_image",
    "save_image",
]

_HOMES = {
    "Encoder": "vgg",
    "PerceptualLoss": "losses",
    "StylenetError": "errors",
    "Stylizer": "stylizer",
    "TransformerNet": "transformer_net",
    "covariance_matrix": "losses",
    "gram_matrix": "losses",
    "load_image": "image",
    "save_image": "image",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import stylenet` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
