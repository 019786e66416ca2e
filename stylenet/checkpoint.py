"""Model files: the only place that writes or reads one.

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
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from stylenet.errors import ConfigError, ModelFileError
from stylenet.image import write_atomically
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
        network: the arguments of `TransformerNet`, verbatim.
        training: the settings it was trained with.
        losses: the last losses of the training, by name.
        thumbnail: the painting, small, as JPEG.
    """

    style: str
    network: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    thumbnail: bytes = b""


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
    path = Path(path)
    state = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    state = {name: (tensor.half() if half else tensor.float()).contiguous() for name, tensor in state.items()}
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise ModelFileError(f"The network for {path} holds values that are not finite; it was not saved.")
    fields = asdict(card) | {"thumbnail": base64.b64encode(card.thumbnail).decode()}
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "card": json.dumps(fields)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, serialize(state, metadata))
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
        with safe_open(path, "pt") as file:
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
    if not isinstance(card.style, str) or not isinstance(card.network, dict):
        raise ModelFileError(f"{path} has a model card whose style or network cannot be read.")
    return card


def load(path: str | Path) -> tuple[TransformerNet, ModelCard]:
    """Rebuild a network from its model file alone.

    Returns:
        The network, float32, on the CPU and in evaluation mode, and its card.

    Raises:
        ModelFileError: when the file is missing, broken, not one of ours, or holds values that are not finite.
    """
    card = read_card(path)
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
        with torch.device("meta"):  # no memory yet: a hostile card cannot ask for any
            net = TransformerNet(**card.network)
        net.load_state_dict(state, assign=True)
    except (SafetensorError, OSError, ConfigError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        sentence = str(error).splitlines()[0]
        raise ModelFileError(f"{path} does not hold the network that its model card describes: {sentence}") from None
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise ModelFileError(f"{path} holds weights that are not finite (its training diverged); train it again.")
    return net.eval().requires_grad_(False), card


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
