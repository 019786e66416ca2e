"""Paint a photo, or make a texture, by optimising the pixels themselves (Gatys et al. 2015): the slow, thorough way.

python -m stylenet.optimize content=photo.jpg style=great_wave        a bundled painting
python -m stylenet.optimize content=photo.jpg style.image=my.jpg      your own
python -m stylenet.optimize content=photo.jpg 'style.image=[starry_night,great_wave]' 'style.weights=[0.6,0.4]'
python -m stylenet.optimize content=photo.jpg preserve_color=luminance
python -m stylenet.optimize content=null style.image=bark.jpg         a texture
python -m stylenet.optimize content=null style.image=bark.jpg seamless=true 'size=[1024,512]'
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylenet.errors import ConfigError, require_number
from stylenet.memory import best_device
from stylenet.program import build, hydra_program, resume_command, shortest

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from PIL import Image
    from torch import Tensor

    from stylenet.easel import Easel
    from stylenet.gatys import MakeLoss, Painter, State

log = logging.getLogger(__name__)


def optimize(cfg: DictConfig) -> None:
    """Paint one picture.

    Args:
        cfg: what `configs/optimize.yaml` composes.

    Raises:
        StylenetError: for a setting or a picture that cannot be used, before the first iteration.
        SystemExit: after Ctrl-C, with status 130, when the picture has been kept as it was.
    """
    from stylenet.image import save_image
    from stylenet.speed import keep_memory

    keep_memory()
    output = find_output(cfg)
    easel = make_easel(cfg)
    final = easel.painter.stages[-1]
    log.info("%s: %d x %d px, in %s", output.stem, final.width, final.height, shortest(easel.folder))
    interrupted = False
    try:
        easel.paint(cfg.optimizer, cfg.learning_rates[cfg.optimizer])
    except KeyboardInterrupt:
        interrupted = True
        easel.keep()
    finally:
        watch = easel.dashboards.close()
    if interrupted:
        print(f"\nStopped. The picture as it is: {shortest(easel.preview)}")
        print(f"Resume: {resume_command('optimize', easel.folder)}")
    else:
        save_image(easel.picture(), output)
        print(f"\nThe picture: {shortest(output)}")
    for line in watch:
        print(f"Watch:  {line}")
    if interrupted:
        raise SystemExit(130)


def make_easel(cfg: DictConfig) -> Easel:
    """Everything that a run needs, checked."""
    from omegaconf import OmegaConf

    photo = open_content(cfg)  # before anything that takes seconds
    from stylenet.dashboards import Dashboards
    from stylenet.easel import Easel

    painter = make_painter(cfg, photo)
    state = first_state(cfg, painter)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    dashboards = Dashboards(cfg.get("logger"), settings, Path(cfg.folder), "optimize")
    colors = photo if cfg.preserve_color == "luminance" else None
    return Easel(painter, state, colors, Path(cfg.folder), cfg.preview_every, cfg.keep_previews, dashboards)


def find_output(cfg: DictConfig) -> Path:
    """Where the picture goes; a file that exists is not overwritten."""
    from stylenet.image import format_of

    content = "texture" if cfg.content is None else Path(str(cfg.content)).stem
    output = Path(cfg.output or Path(cfg.folder) / f"{content}_{cfg.style.name}.jpg")
    format_of(output)
    if output.exists():
        raise ConfigError(f"{output} exists already; give another output, or move it away.")
    return output


def open_content(cfg: DictConfig) -> Image.Image | None:
    """The photo, if there is one."""
    from stylenet.image import open_picture

    if cfg.preserve_color not in (None, "luminance", "histogram"):
        raise ConfigError(f"preserve_color must be luminance, histogram or null, not {cfg.preserve_color!r}.")
    if cfg.content is not None:
        if cfg.seamless:
            raise ConfigError(
                "seamless=true makes textures that tile; a photo does not: leave it out, or content=null."
            )
        return open_picture(cfg.content)
    if cfg.preserve_color is not None or cfg.init == "content":
        raise ConfigError("preserve_color and init=content need a photo: content=photo.jpg.")
    return None


def make_painter(cfg: DictConfig, photo: Image.Image | None) -> Painter:
    """The plan, the pictures and the loss of a run; every setting is checked here."""
    import torch
    from omegaconf import OmegaConf

    from stylenet.gatys import Painter, plan, prepare_colors
    from stylenet.image import open_picture
    from stylenet.losses import check_loss_settings
    from stylenet.speed import choose_descent_precision
    from stylenet.styles import find_painting

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    loss = settings["loss"]
    check_loss_settings(**{key: value for key, value in loss.items() if not key.startswith("_")})
    if cfg.optimizer not in cfg.learning_rates:
        raise ConfigError(f"optimizer must be {' or '.join(cfg.learning_rates)}, not {cfg.optimizer!r}.")
    require_number("learning_rate", cfg.learning_rates[cfg.optimizer], 0)
    precision = choose_descent_precision(cfg.precision)
    require_number("preview_every", cfg.preview_every, 1, whole=True)
    if cfg.style.size is not None:
        require_number("style.size", cfg.style.size, 16, whole=True)
    width, height = final_size(settings["size"], photo)
    names = settings["style"]["image"]
    paintings = [open_picture(find_painting(name)) for name in (names if isinstance(names, list) else [names])]
    if photo is not None:
        photo, paintings = prepare_colors(photo, paintings, cfg.preserve_color)
    device = torch.device(best_device())
    make_loss, multiple = loss_maker(cfg, photo is not None, device)
    stages = plan(width, height, settings["scales"], settings["iterations"], cfg.coarsest, multiple)
    return Painter(photo, paintings, make_loss, stages, cfg.style.size, device, cfg.seamless, precision)


def final_size(size: int | Sequence[int], photo: Image.Image | None) -> tuple[float, float]:
    """Width and height of the final picture: of a photo by its shorter side, of a texture as asked."""
    from stylenet.gatys import LEAST

    sides = [size, size] if isinstance(size, int) else list(size)
    for side in sides:
        require_number("size", side, LEAST, whole=True)
    if photo is None and len(sides) == 2:
        return sides[0], sides[1]
    if photo is None or not isinstance(size, int):
        raise ConfigError(f"size must be one number, or [width,height] for a texture, not {size}.")
    factor = size / min(photo.size)
    return photo.width * factor, photo.height * factor


def loss_maker(cfg: DictConfig, with_content: bool, device: torch.device) -> tuple[MakeLoss, int]:
    """What makes the loss of some paintings, all on a device, and what a picture's sides must be multiples of."""
    from omegaconf import OmegaConf

    loss: Any = OmegaConf.to_container(cfg.loss, resolve=True)
    if not with_content:
        loss["content_weights"] = {}
    layers = [*loss["content_weights"], *loss["style_weights"]]
    if not cfg.seamless:
        encoder = build(cfg.encoder)(layers=layers).to(device)
        return (lambda paintings: build(loss)(encoder=encoder, style_image=paintings, shares=cfg.style.weights)), 1
    # The painting itself does not wrap, the texture does.
    paddings = ("reflect", "circular")
    encoder, tile = (build(cfg.encoder)(layers=layers, padding=padding).to(device) for padding in paddings)

    def make_loss(paintings: Sequence[Tensor]) -> Any:
        made = build(loss)(encoder=encoder, style_image=paintings, shares=cfg.style.weights)
        made.encoder = tile
        return made

    return make_loss, tile.stride


def first_state(cfg: DictConfig, painter: Painter) -> State:
    """Where the descent begins, or goes on."""
    from stylenet.easel import load_state
    from stylenet.image import open_picture

    if cfg.resume is not None:
        return load_state(Path(cfg.resume), painter.stages)
    if cfg.init in (None, "content", "noise"):
        return painter.start(None if cfg.init == "noise" else painter.photo, cfg.seed)
    return painter.start(open_picture(cfg.init), cfg.seed)


main = hydra_program("optimize", optimize)

if __name__ == "__main__":
    main()
