"""Paint a photo, or make a texture, by optimising the pixels themselves (Gatys et al. 2015): slow, and as good as it gets.

python -m stylenet.optimize content=photo.jpg style=great_wave        a bundled painting
python -m stylenet.optimize content=photo.jpg style.image=my.jpg      your own
python -m stylenet.optimize content=photo.jpg 'style.image=[starry_night,great_wave]' 'style.weights=[0.6,0.4]'
python -m stylenet.optimize content=photo.jpg preserve_color=luminance
python -m stylenet.optimize content=null style.image=bark.jpg         a texture
python -m stylenet.optimize content=null style.image=bark.jpg seamless=true 'size=[1024,512]'
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylenet.errors import ConfigError, require_number
from stylenet.program import build, hydra_program

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from PIL import Image
    from torch import Tensor

    from stylenet.gatys import MakeLoss, Painter, State

log = logging.getLogger(__name__)

STATE = "state"  # the file that a run is resumed from: safetensors, under a name that is not taken for a network
PREVIEW = "preview.jpg"


def optimize(cfg: DictConfig) -> None:
    """Paint one picture.

    Args:
        cfg: what `configs/optimize.yaml` composes.

    Raises:
        StylenetError: for a setting or a picture that cannot be used, before the first iteration.
        SystemExit: after Ctrl-C, with status 130, when the picture has been kept as it was.
    """
    from stylenet.image import save_image
    from stylenet.loggers import finish, how_to_watch, shortest
    from stylenet.speed import keep_memory

    keep_memory()
    output = find_output(cfg)
    run = Run(cfg)
    final = run.painter.stages[-1]
    log.info("%s: %d x %d px, in %s", output.stem, final.width, final.height, shortest(run.folder))
    interrupted = False
    try:
        run.go()
    except KeyboardInterrupt:
        interrupted = True
        run.keep()
    finally:
        watch = how_to_watch(run.loggers, run.folder)
        finish(run.loggers)
    if interrupted:
        print(f"\nStopped. The picture as it is: {shortest(run.folder / PREVIEW)}")
        print(f"Resume: {resume_command(run.folder)}")
    else:
        save_image(run.picture(), output)
        print(f"\nThe picture: {shortest(output)}")
    for line in watch:
        print(f"Watch:  {line}")
    if interrupted:
        raise SystemExit(130)


class Run:
    """One descent with its folder and its dashboards.

    Args:
        cfg: what `configs/optimize.yaml` composes.
    """

    def __init__(self, cfg: DictConfig) -> None:
        from omegaconf import OmegaConf

        self.cfg = cfg
        self.folder = Path(cfg.folder)
        self.photo = open_content(cfg)
        self.painter = make_painter(cfg, self.photo)
        self.state = first_state(cfg, self.painter, self.photo)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        self.loggers = [build(logger) for logger in (cfg.get("logger") or {}).values()]
        for logger in self.loggers:
            logger.log_hyperparams(settings)

    def go(self) -> None:
        """Descend to the end, watched."""
        from stylenet.meter import Meter

        stages, every = self.painter.stages, self.cfg.preview_every
        learning_rate = self.cfg.learning_rates[self.cfg.optimizer]
        total = sum(stage.work for stage in stages)
        with Meter(total, self.work_done(), every) as meter:
            descent = self.painter.paint(self.state, self.cfg.optimizer, learning_rate)
            for state, losses in descent:
                self.state = state
                stage = stages[self.state.scale]
                text = f"{stage.width} x {stage.height} px: iteration {self.state.iteration} of {stage.iterations}"
                meter.show(self.work_done(), text, losses)
                step = self.iterations_done()
                for logger in self.loggers:
                    logger.log_metrics({f"optimize/{name}": value for name, value in losses.items()}, step)
                if self.state.iteration % every == 0 or self.state.iteration == stage.iterations:
                    self.keep()

    def work_done(self) -> int:
        """In pixels, as `Scale.work`."""
        stages, scale = self.painter.stages, self.state.scale
        present = stages[scale]._replace(iterations=self.state.iteration)
        return sum(stage.work for stage in stages[:scale]) + present.work

    def iterations_done(self) -> int:
        """At all scales."""
        return sum(stage.iterations for stage in self.painter.stages[: self.state.scale]) + self.state.iteration

    def keep(self) -> None:
        """The picture as it is: to look at, and to go on from."""
        from stylenet.image import save_image
        from stylenet.loggers import log_picture

        save_state(self.state, self.folder / STATE)
        picture, step = self.picture(), self.iterations_done()
        save_image(picture, self.folder / PREVIEW)
        if self.cfg.keep_previews:
            save_image(picture, self.folder / "previews" / f"iteration_{step:05d}.jpg")
        log_picture(self.loggers, "picture", picture, step)

    def picture(self) -> Image.Image:
        """The pixels as a picture, in the photo's colours where they are to be kept."""
        from PIL import Image

        from stylenet.color import keep_luminance_only
        from stylenet.image import to_picture

        picture = to_picture(self.state.pixels.cpu().numpy())
        if self.photo is None or self.cfg.preserve_color != "luminance":
            return picture
        return keep_luminance_only(picture, self.photo.resize(picture.size, Image.Resampling.LANCZOS))


def find_output(cfg: DictConfig) -> Path:
    """Where the picture goes; nothing that exists is overwritten."""
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
    from stylenet.styles import find_painting

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    loss = settings["loss"]
    check_loss_settings(**{key: value for key, value in loss.items() if not key.startswith("_")})
    if cfg.optimizer not in cfg.learning_rates:
        raise ConfigError(f"optimizer must be {' or '.join(cfg.learning_rates)}, not {cfg.optimizer!r}.")
    require_number("learning_rate", cfg.learning_rates[cfg.optimizer], 0)
    require_number("preview_every", cfg.preview_every, 1, whole=True)
    if cfg.style.size is not None:
        require_number("style.size", cfg.style.size, 16, whole=True)
    width, height = final_size(settings["size"], photo)
    names = settings["style"]["image"]
    paintings = [open_picture(find_painting(name)) for name in (names if isinstance(names, list) else [names])]
    if photo is not None:
        photo, paintings = prepare_colors(photo, paintings, cfg.preserve_color)
    make_loss, multiple = loss_maker(cfg, photo is not None)
    stages = plan(width, height, settings["scales"], settings["iterations"], cfg.coarsest, multiple)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Painter(photo, paintings, make_loss, stages, cfg.style.size, device)


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


def loss_maker(cfg: DictConfig, with_content: bool) -> tuple[MakeLoss, int]:
    """What makes the loss of some paintings, and what a picture's sides must be multiples of."""
    from omegaconf import OmegaConf

    loss: Any = OmegaConf.to_container(cfg.loss, resolve=True)
    if not with_content:
        loss["content_weights"] = {}
    layers = [*loss["content_weights"], *loss["style_weights"]]
    if not cfg.seamless:
        encoder = build(cfg.encoder)(layers=layers)
        return (lambda paintings: build(loss)(encoder=encoder, style_image=paintings, shares=cfg.style.weights)), 1
    # The painting itself does not wrap, the texture does.
    encoder, tile = (build(cfg.encoder)(layers=layers, padding=padding) for padding in ("reflect", "circular"))

    def make_loss(paintings: Sequence[Tensor]) -> Any:
        made = build(loss)(encoder=encoder, style_image=paintings, shares=cfg.style.weights)
        made.encoder = tile
        return made

    return make_loss, tile.stride


def first_state(cfg: DictConfig, painter: Painter, photo: Image.Image | None) -> State:
    """Where the descent begins, or goes on."""
    from stylenet.image import open_picture

    if cfg.resume is not None:
        return load_state(Path(cfg.resume) / STATE, painter)
    if cfg.init == "noise" or (cfg.init is None and photo is None):
        return painter.start(None, cfg.seed)
    return painter.start(painter.photo if cfg.init in (None, "content") else open_picture(cfg.init), cfg.seed)


def save_state(state: State, path: Path) -> None:
    """Write what it takes to resume, whole or not at all."""
    from safetensors.torch import save

    from stylenet.image import write_atomically

    places = {"scale": str(state.scale), "iteration": str(state.iteration)}
    write_atomically(path, save({"pixels": state.pixels.cpu().contiguous()}, places))


def load_state(path: Path, painter: Painter) -> State:
    """Read what `save_state` wrote.

    Raises:
        ConfigError: when it is not there, broken, or of a run with other sizes.
    """
    from safetensors import SafetensorError, safe_open

    from stylenet.gatys import State

    try:
        with safe_open(path, "pt") as file:
            places = file.metadata()
            state = State(file.get_tensor("pixels"), int(places["scale"]), int(places["iteration"]))
            stage = painter.stages[state.scale]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"resume needs the folder of a run that was stopped; {path} cannot be read: {error}"
        ) from None
    if state.pixels.shape != (1, 3, stage.height, stage.width):
        height, width = state.pixels.shape[2:]
        raise ConfigError(
            f"The run to resume stood at {width} x {height} px, where these settings have {stage.width} x "
            f"{stage.height}: resume it with the settings that it was started with."
        )
    return state


def resume_command(folder: Path) -> str:
    """What to type to go on: the settings that were typed for this run, and its folder."""
    from hydra.core.hydra_config import HydraConfig

    from stylenet.loggers import shortest

    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    kept = [shlex.quote(word) for word in typed if not word.startswith("resume=")]
    return " ".join(["python -m stylenet.optimize", *kept, shlex.quote(f"resume={shortest(folder)}")])


main = hydra_program("optimize", optimize)

if __name__ == "__main__":
    main()
