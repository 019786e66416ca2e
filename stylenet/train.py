"""Train a feed-forward network on a painting, and export it for painting photos in a single pass.

python -m stylenet.train style=great_wave                  a bundled painting
python -m stylenet.train style.image=my/painting.jpg       your own
python -m stylenet.train style.image=my/painting.jpg init=auto
                                                           the same in minutes, from a network that can paint already
python -m stylenet.train experiment=quick                  a first look from nothing, in minutes
python -m stylenet.train experiment=johnson                the paper's 40,000 steps
python -m stylenet.train data.root=my/photos               train on your own photographs
python -m stylenet.train -m style=starry_night,great_wave  several, one after the other
python -m stylenet.train resume=runs/starry_night/...      go on where a run stopped
"""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylenet.errors import ConfigError, require_number
from stylenet.program import build, hydra_program, resume_command, shortest

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from omegaconf import DictConfig

    from stylenet.module import StyleTransfer

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> None:
    """Train one network and export it to the run's folder.

    Args:
        cfg: what `configs/train.yaml` composes.

    Raises:
        StylenetError: for a setting, a picture or a folder that cannot be used, before the first step.
        SystemExit: after Ctrl-C, with status 130, when what was learned has been kept.
    """
    import pytorch_lightning as pl

    from stylenet import memory
    from stylenet.loggers import finish, how_to_watch
    from stylenet.speed import choose_compile, choose_precision, keep_memory
    from stylenet.warm_start import candidates

    quiet_lightning()
    keep_memory()
    folder = Path(cfg.folder)
    resume = find_checkpoint(cfg.resume)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = build_module(cfg)
    data = build(cfg.data, context=module.net.architecture.context)
    if not memory.has_gpu():
        memory.check_training(module.net.architecture, data.schedule.batch_size, data.schedule.largest)
    if choose_compile(cfg.compile, data.schedule.steps):
        module.compile_steps()
    trainer = build(
        cfg.trainer,
        precision=choose_precision(cfg.trainer.precision),
        callbacks=[build(callback) for callback in cfg.callbacks.values()],
        logger=[build(logger) for logger in cfg.logger.values()],
    )
    log_painting(trainer, cfg, folder)
    if cfg.init is None and resume is None and any(candidates(module.net)):
        log.info("Starting from nothing. With init=auto a painting takes minutes, from a network that can paint.")
    log.info("%s: %d steps in %s precision, in %s", cfg.style.name, cfg.steps, trainer.precision, shortest(folder))
    interrupted = False
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except SystemExit:  # Lightning's way to end after Ctrl-C, when its callbacks have kept what was learned
        interrupted = True
    finally:
        watch = how_to_watch(trainer.loggers, folder)
        finish(trainer.loggers)
    report(cfg, trainer, folder, watch, interrupted)
    if interrupted:
        raise SystemExit(130)


def quiet_lightning() -> None:
    """Keep what Lightning tells developers from the person who paints."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        r"Found \d+ module\(s\) in eval mode",  # the frozen encoder, on purpose
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside Lightning, with the newest torch
        r"You're resuming from a checkpoint that ended before the epoch ended",  # data.ContinueAt sees to that
        r"The '(train|val)_dataloader' does not have many workers",  # reading is a hundredth of a step
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        r"TensorFloat32 tensor cores for float32 matrix multiplication available",  # Gram matrices keep float32
    ):
        warnings.filterwarnings("ignore", message)


def build_module(cfg: DictConfig) -> StyleTransfer:
    """The network, the encoder, the loss with the painting's targets inside, and the module around them."""
    import torch
    from omegaconf import OmegaConf

    from stylenet import __version__
    from stylenet.image import load_image
    from stylenet.losses import check_loss_settings
    from stylenet.module import StyleTransfer
    from stylenet.styles import find_painting
    from stylenet.warm_start import warm_start

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    loss = settings["loss"]
    check_loss_settings(**{key: value for key, value in loss.items() if not key.startswith("_")})
    require_number("style.size", cfg.style.size, 16, whole=True)
    painting = torch.from_numpy(load_image(find_painting(cfg.style.image), cfg.style.size))
    encoder = build(cfg.encoder)(layers=[*loss["content_weights"], *loss["style_weights"]])
    perceptual_loss = build(cfg.loss)(encoder=encoder, style_image=painting)
    net = build(cfg.model)
    before = 0 if cfg.init is None else warm_start(net, str(cfg.init), painting, encoder)
    return StyleTransfer(
        net=net,
        loss=perceptual_loss,
        **settings["optimizer"],
        **{key: settings[key] for key in ("weave_weight", "content_lead", "content_lead_fraction")},
        settings=settings | {"version": __version__, "steps_before": before},
    )


def find_checkpoint(resume: str | None) -> Path | None:
    """The checkpoint to resume from: a file, or the `last.ckpt` of a run folder."""
    if resume is None:
        return None
    path = Path(resume) / "last.ckpt" if Path(resume).is_dir() else Path(resume)
    if not path.is_file():
        raise ConfigError(f"resume={resume} is neither a checkpoint nor the folder of a run with a last.ckpt.")
    return path


def log_painting(trainer: pl.Trainer, cfg: DictConfig, folder: Path) -> None:
    """Keep the painting with the run: in its folder, and in every dashboard that shows pictures."""
    from stylenet.image import open_picture
    from stylenet.loggers import log_picture
    from stylenet.styles import find_painting

    painting = find_painting(cfg.style.image)
    shutil.copyfile(painting, folder / f"painting{painting.suffix}")
    log_picture(trainer.loggers, "painting", open_picture(painting), step=0)


def report(cfg: DictConfig, trainer: pl.Trainer, folder: Path, watch: list[str], interrupted: bool) -> None:
    """Say where everything is, and what to type next."""
    model = folder / f"{cfg.style.name}.safetensors"
    if not model.is_file():
        print("Stopped before the first step: nothing was learned, nothing is kept.")
        return
    state = f"Stopped at step {trainer.global_step} of {cfg.steps}" if interrupted else f"Trained {cfg.steps} steps"
    print(f"\n{state}. The network: {shortest(model)}")
    print(f"Panels: {shortest(folder / 'panels')}")
    print(f"Paint:  python -m stylenet.infer photo.jpg --style {cfg.style.name} -o painted.jpg")
    if interrupted:
        print(f"Resume: {resume_command('train', folder)}")
    for line in watch:
        print(f"Watch:  {line}")


main = hydra_program("train", train)

if __name__ == "__main__":
    main()
