"""See what the network sees: amplify it in a photo (DeepDream), or find the pictures that excite its neurons.

python -m stylenet.dream content=photo.jpg                             a dream
python -m stylenet.dream content=photo.jpg layer=relu3_3 'channels=[12,40]'
python -m stylenet.dream layer=relu4_1                                 what excites the first channels of a layer
python -m stylenet.dream layer=relu5_1 'channels=[3,17]' size=224
python -m stylenet.dream layer=relu5_1 like=dog.jpg                    the channels that a photo excites most
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylenet.errors import ConfigError, require_number
from stylenet.memory import best_device
from stylenet.program import build, hydra_program, shortest

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from PIL import Image

    from stylenet.speed import Precision
    from stylenet.vgg import Encoder

log = logging.getLogger(__name__)

DREAM_SIZE, NEURON_SIZE = 512, 144  # px, unless told otherwise: a photo's shorter side; one of several pictures' sides


@dataclass
class Frame:
    """What is shown of a descent after one of its iterations."""

    picture: Image.Image
    done: int  # in the units of `work`
    work: int
    what: str
    losses: dict[str, float]


def dream(cfg: DictConfig) -> None:
    """Make one picture.

    Args:
        cfg: what `configs/dream.yaml` composes.

    Raises:
        StylenetError: for a setting or a photo that cannot be used, before the first iteration.
        SystemExit: after Ctrl-C, with status 130, when the picture has been kept as it was.
    """
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    precision = check(settings)
    folder = Path(cfg.folder)
    output = find_output(settings, folder)

    from stylenet.dashboards import Dashboards
    from stylenet.speed import keep_memory

    keep_memory()
    encoder = make_encoder(cfg)
    dashboards = Dashboards(cfg.get("logger"), settings, folder, "dream")
    frames = dream_into(settings, encoder, precision) if settings["content"] else excite(settings, encoder, precision)
    try:
        interrupted = show(frames, output, folder / "preview.jpg", cfg.preview_every, dashboards)
    finally:
        watch = dashboards.close()
    print(f"\n{'Stopped. The picture as it is' if interrupted else 'The picture'}: {shortest(output)}")
    for line in watch:
        print(f"Watch:  {line}")
    if interrupted:
        raise SystemExit(130)


def check(settings: dict[str, Any]) -> Precision:
    """Raise for the first setting that cannot be used, quickly. Returns the precision to compute in."""
    from stylenet.excitation import check_channels
    from stylenet.speed import choose_descent_precision
    from stylenet.vgg import check_layers

    check_layers([settings["layer"]])
    if settings["channels"] is not None and settings["like"] is not None:
        raise ConfigError("channels= names channels and like= looks for them; give one of the two.")
    if settings["channels"] is not None:
        if not isinstance(settings["channels"], list) or not settings["channels"]:
            raise ConfigError(f"channels must be a list like [3,17], or null, not {settings['channels']!r}.")
        check_channels(settings["layer"], settings["channels"])
    require_number("count", settings["count"], 1, 512, whole=True)
    require_number("preview_every", settings["preview_every"], 1, whole=True)
    if settings["size"] is not None:
        require_number("size", settings["size"], 48, whole=True)
    dream, neuron = settings["dream"], settings["neuron"]
    for name, low in (("octaves", 1), ("iterations", 1), ("jitter", 0)):
        require_number(f"dream.{name}", dream[name], low, whole=True)
    require_number("dream.octave_scale", dream["octave_scale"], 1.01)
    require_number("dream.step_size", dream["step_size"], 0, 1)
    require_number("neuron.iterations", neuron["iterations"], 1, whole=True)
    require_number("neuron.learning_rate", neuron["learning_rate"], 0)
    if neuron["where"] not in ("channel", "center"):
        raise ConfigError(f"neuron.where must be channel or center, not {neuron['where']!r}.")
    return choose_descent_precision(settings["precision"])


def find_output(settings: dict[str, Any], folder: Path) -> Path:
    """Where the picture goes; a file that exists is not overwritten."""
    from stylenet.image import format_of

    name = f"{Path(settings['content']).stem}_dream.jpg" if settings["content"] else f"{settings['layer']}.jpg"
    output = Path(settings["output"] or folder / name)
    format_of(output)
    if output.exists():
        raise ConfigError(f"{output} exists already; give another output, or move it away.")
    return output


def make_encoder(cfg: DictConfig) -> Encoder:
    """The network as deep as the layer, on a GPU where there is one."""
    from stylenet.excitation import before_relu

    encoder: Encoder = build(cfg.encoder)(layers={cfg.layer, before_relu(cfg.layer)})
    return encoder.to(best_device())


def show(frames: Iterator[Frame], output: Path, preview: Path, every: int, dashboards: Any) -> bool:
    """Draw the frames out, with progress and previews; save the last. Returns whether Ctrl-C ended it."""
    from stylenet.image import save_image
    from stylenet.meter import Meter

    meter: Meter | None = None
    frame: Frame | None = None
    interrupted = False
    try:
        for step, frame in enumerate(frames, start=1):
            if meter is None:
                meter = Meter(frame.work, 0, every).__enter__()
            meter.show(frame.done, frame.what, frame.losses)
            dashboards.log(frame.losses, step)
            if step % every == 0:
                save_image(frame.picture, preview)
                dashboards.show(frame.picture, step)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if meter is not None:
            meter.__exit__(None, None, None)
    if frame is None:
        raise SystemExit(130)
    save_image(frame.picture, output)
    return interrupted


def dream_into(settings: dict[str, Any], encoder: Encoder, precision: Precision) -> Iterator[Frame]:
    """A photo's dream, iteration by iteration."""
    import torch

    from stylenet.deepdream import Recipe, dream, octave_sizes
    from stylenet.image import open_picture, resize_picture, to_array, to_picture

    photo = resize_picture(open_picture(settings["content"]), settings["size"] or DREAM_SIZE)
    pixels = torch.from_numpy(to_array(photo)).to(encoder.mean.device)
    recipe = Recipe(**settings["dream"], seed=settings["seed"], precision=precision)
    channels = choose_channels(settings, encoder) if settings["channels"] or settings["like"] else []
    areas = [height * width for height, width in octave_sizes(photo.height, photo.width, recipe)]
    for moment in dream(encoder, pixels, settings["layer"], channels, recipe):
        done = sum(areas[: moment.octave]) * recipe.iterations + areas[moment.octave] * moment.iteration
        height, width = moment.pixels.shape[-2:]
        what = f"{width} x {height} px: iteration {moment.iteration} of {recipe.iterations}"
        yield Frame(to_picture(moment.pixels.cpu().numpy()), done, sum(areas) * recipe.iterations, what, moment.losses)


def excite(settings: dict[str, Any], encoder: Encoder, precision: Precision) -> Iterator[Frame]:
    """A sheet of pictures that excite one channel each, iteration by iteration."""
    import torch

    from stylenet.contact_sheet import contact_sheet
    from stylenet.descent import descend
    from stylenet.excitation import before_relu, excitation, view
    from stylenet.fourier import FourierPictures

    channels, size, neuron = choose_channels(settings, encoder), settings["size"] or NEURON_SIZE, settings["neuron"]
    layer, iterations = before_relu(settings["layer"]), neuron["iterations"]
    pictures = FourierPictures(len(channels), size, size, settings["seed"]).to(encoder.mean.device)
    generator = torch.Generator().manual_seed(settings["seed"])

    def objective() -> dict[str, torch.Tensor]:
        features = encoder(view(pictures(), generator), [layer])[layer]
        return {"total": -excitation(features, channels, neuron["where"] == "center").sum()}

    labels = [f"{settings['layer']} {channel}" for channel in channels]
    for step in descend([pictures.coefficients], objective, "adam", iterations, neuron["learning_rate"], precision):
        with torch.no_grad():
            sheet = contact_sheet(pictures().cpu().numpy(), labels)
        what = f"{len(channels)} channels of {settings['layer']}: iteration {step.iteration} of {iterations}"
        yield Frame(sheet, step.iteration, iterations, what, step.losses)


def choose_channels(settings: dict[str, Any], encoder: Encoder) -> list[int]:
    """The channels named, those that a photo excites most, or the first ones."""
    from stylenet.excitation import channel_count, favourites

    if settings["channels"] is not None:
        return [int(channel) for channel in settings["channels"]]
    count = min(settings["count"], channel_count(settings["layer"]))
    if settings["like"] is None:
        return list(range(count))
    channels = favourites(encoder, settings["layer"], Path(settings["like"]), count)
    log.info("%s excites most: %s", Path(settings["like"]).name, ", ".join(str(channel) for channel in channels))
    return channels


main = hydra_program("dream", dream)

if __name__ == "__main__":
    main()
