"""Model files: the only place that writes or reads one.

Reading takes no PyTorch, which takes longer to import than a photo takes to paint; only `load` makes a PyTorch network.
A model file is safetensors, so loading one never runs code. Its metadata hold a `ModelCard`: what it takes to rebuild
the network, and what a person wants to know about it. Training's own checkpoints, to resume from, are Lightning's.
"""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from stylenet.architecture import Architecture
from stylenet.errors import ConfigError, ModelFileError
from stylenet.image import Array, write_atomically

if TYPE_CHECKING:
    from stylenet.transformer_net import TransformerNet

FORMAT = "stylenet"
FORMAT_VERSION = 1
EXTENSION = ".safetensors"
RUNS = Path("runs")  # where training puts its run folders, below the folder it was started in
BUNDLED = Path(__file__).parent / "assets" / "networks"


@dataclass(frozen=True)
class ModelCard:
    """What a model file says about itself.

    Attributes:
        style: the style's name.
        network: the arguments of `Architecture`, verbatim.
        training: the settings it was trained with.
        losses: the last losses of the training, by name.
        thumbnail: the painting, small, as JPEG.
        evaluation: what `stylenet.evaluate` found, by name.
    """

    style: str
    network: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    thumbnail: bytes = b""
    evaluation: Mapping[str, float] = field(default_factory=dict)

    @property
    def steps_learned(self) -> int:
        """Optimiser steps, with those of the networks that it started from."""
        counts = (self.training.get(name) for name in ("steps_before", "steps_done"))
        return sum(count for count in counts if isinstance(count, int))


@dataclass(frozen=True)
class Model:
    """What a model file holds: its card, and a network's architecture and weights, float32, by name."""

    card: ModelCard
    architecture: Architecture
    weights: Mapping[str, Array]


def export(net: TransformerNet, card: ModelCard, path: str | Path, half: bool = True) -> Path:
    """Write a model file, whole or not at all.

    Args:
        net: the trained network.
        card: what the file says about itself; its `network` must be `net.arguments`.
        path: where to; missing folders are made.
        half: store float16, half the size; the difference in the picture is below one step of 255.

    Raises:
        ModelFileError: when the place cannot be written or the network holds values that are not finite.
    """
    from safetensors.numpy import save

    path = Path(path)
    precision = np.float16 if half else np.float32
    with np.errstate(over="ignore"):  # what is beyond float16 becomes infinite, and is refused below
        state = {
            name: tensor.detach().float().cpu().numpy().astype(precision, order="C")
            for name, tensor in net.state_dict().items()
        }
    if not all(np.isfinite(values).all() for values in state.values()):
        raise ModelFileError(f"The network for {path} holds values that are not finite; it was not saved.")
    fields = asdict(card) | {"thumbnail": base64.b64encode(card.thumbnail).decode()}
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "card": json.dumps(fields)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(state, metadata))
    except OSError as error:
        raise ModelFileError(f"The model file {path} cannot be written: {error.strerror or error}") from None
    return path


def read_card(path: str | Path) -> ModelCard:
    """Read what a model file says about itself, without its weights.

    Raises:
        ModelFileError: when it is missing, broken, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"There is no model file {path}.")
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a stylenet model file (.safetensors), or it is broken: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path} is a safetensors file, but not one of a stylenet network.")
    return _parse_card(path, metadata)


def _parse_card(path: Path, metadata: Mapping[str, str]) -> ModelCard:
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version or 'none'}; this stylenet reads up to {FORMAT_VERSION}: update it."
        )
    try:
        fields = json.loads(metadata["card"])
        thumbnail = base64.b64decode(fields.pop("thumbnail"), validate=True)
        card = ModelCard(**fields, thumbnail=thumbnail)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path} has a model card that cannot be read: {error}") from None
    if not (isinstance(card.style, str) and isinstance(card.network, dict) and isinstance(card.training, dict)):
        raise ModelFileError(f"{path} has a model card whose style, network or training cannot be read.")
    return card


def read(path: str | Path) -> Model:
    """Read a model file whole.

    Raises:
        ModelFileError: when the file is missing, broken, not one of ours, or holds values that are not finite.
    """
    card = read_card(path)
    weights: dict[str, Array] = {}
    try:
        architecture = Architecture(**card.network)
        with safe_open(path, "np") as file:
            count = len(file.keys())
            for name, shape in architecture.shapes():  # one by one: a hostile card may claim any number of any size
                weights[name] = _read_weights(file, name, shape)
    except (SafetensorError, OSError, ConfigError, TypeError, ValueError, OverflowError) as error:
        sentence = str(error).splitlines()[0]
        raise ModelFileError(f"{path} does not hold the network that its model card describes: {sentence}") from None
    if len(weights) < count:
        raise ModelFileError(f"{path} does not hold the network that its model card describes, but a larger one.")
    if not all(np.isfinite(values).all() for values in weights.values()):
        raise ModelFileError(f"{path} holds weights that are not finite (its training diverged); train it again.")
    return Model(card, architecture, weights)


def _read_weights(file: Any, name: str, shape: tuple[int, ...]) -> Array:
    found = tuple(file.get_slice(name).get_shape())
    if found != shape:
        raise ValueError(f"{name} is of shape {found}, not {shape}")
    values: Array = file.get_tensor(name).astype(np.float32)
    return values


def load(path: str | Path) -> tuple[TransformerNet, ModelCard]:
    """Rebuild a PyTorch network from its model file alone.

    Returns:
        The network, float32, on the CPU and in evaluation mode, and its card.

    Raises:
        ModelFileError: see `read`.
    """
    model = read(path)
    return build(model), model.card


def build(model: Model) -> TransformerNet:
    """The PyTorch network of a model, float32, on the CPU and in evaluation mode."""
    import torch

    from stylenet.transformer_net import TransformerNet

    with torch.device("meta"):  # the weights are there already
        net = TransformerNet(**model.card.network)
    net.load_state_dict({name: torch.from_numpy(values) for name, values in model.weights.items()}, assign=True)
    return net.eval().requires_grad_(False)


def list_networks() -> dict[str, Path]:
    """The networks that a name finds: bundled ones, and over them the newest trained one below `runs/`."""
    trained = sorted(RUNS.rglob(f"*{EXTENSION}"), key=lambda path: path.stat().st_mtime)
    return {path.stem: path for path in [*sorted(BUNDLED.glob(f"*{EXTENSION}")), *trained]}


def find_network(name_or_path: str | Path) -> Path:
    """The model file behind a style's name or a path.

    Raises:
        ModelFileError: when there is none; the message lists the names there are and suggests the nearest.
    """
    path = Path(name_or_path)
    if path.suffix == EXTENSION or path.is_file() or len(path.parts) > 1:
        return path
    networks = list_networks()
    if path.name in networks:
        return networks[path.name]
    near = difflib.get_close_matches(path.name, networks, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    known = f"There are: {', '.join(networks)}." if networks else "None is trained yet."
    train = f"Train it: python -m stylenet.train style={path.name}"
    raise ModelFileError(f"There is no network for style {path.name!r}.{hint} {known} {train}")
