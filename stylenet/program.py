"""What every Hydra program of stylenet shares: where the configs are, a help that teaches, errors of one sentence."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from stylenet.errors import ConfigError, StylenetError, one_sentence
from stylenet.memory import has_gpu
from stylenet.speed import wait_briefly

_PACKAGE = Path(__file__).parent
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The config folder: inside the package when installed from a wheel, beside it in a checkout."""


LESS_MEMORY = {
    "train": "data.batch_size=1 or smaller crops, as data.size=256",
    "optimize": "a smaller size=",
    "dream": "a smaller size= or count=",
    "evaluate": "smaller sizes=",
}
"""Settings of each program that take less of it."""


def hydra_program(config_name: str, task: Callable[[Any], object]) -> Callable[[], None]:
    """Make a command line of `task(cfg)`, composed from `configs/{config_name}.yaml`.

    What the user can mend (an unknown style, a key that does not exist, a bad picture) ends in one sentence and exit
    status 1; what is our defect keeps its traceback.
    """

    @one_sentence
    def main() -> None:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(help_text(config_name, sys.modules[task.__module__].__doc__ or ""))
            return
        wait_briefly()
        import hydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        register_resolvers()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors reach us, rather than being printed with their stack
        run = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(
            one_sentence(_within_memory(config_name, task))
        )
        try:
            run()
        except StylenetError:
            raise
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_sentence(error)) from None

    return main


def _within_memory(config_name: str, task: Callable[[Any], object]) -> Callable[[Any], object]:
    """The task, with one sentence for a GPU whose memory gives out."""

    @wraps(task)
    def guarded(cfg: Any) -> None:
        try:
            task(cfg)
        except RuntimeError as error:
            import torch

            if not isinstance(error, torch.OutOfMemoryError):
                raise
            raise ConfigError(
                f"The GPU's memory does not suffice. Less is needed with {LESS_MEMORY[config_name]}; with "
                "CUDA_VISIBLE_DEVICES= before the command, the processor computes."
            ) from None

    return guarded


def help_text(config_name: str, introduction: str) -> str:
    """The settings of a program with the comments that explain them, straight from the config files.

    Args:
        config_name: of the program.
        introduction: what comes first.
    """
    config = (CONFIGS / f"{config_name}.yaml").read_text()
    defaults, _, settings = config.partition("\n\n")
    parts = [introduction.strip(), "Change any setting below, by its name: seed=1 encoder.pooling=average"]
    parts.append(settings.partition("\nhydra:")[0].rstrip())
    for line in defaults.splitlines():
        choice = re.match(r"  - (\w+): (\w+) # (.*)", line)
        if choice:
            parts.append(_group_help(*choice.groups()))
    return "\n\n".join([*parts, "Hydra's own flags: --hydra-help"])


def _group_help(group: str, name: str, comment: str) -> str:
    """A config group: its choices, and the settings of the chosen one."""
    lines = [f"{group}={name}   # {comment}"]
    others = sorted({path.stem for path in (CONFIGS / group).glob("*.yaml")} - {name})
    if others:
        text = f"or {group}= {', '.join(others)}"
        lines += textwrap.wrap(text, 116, initial_indent="  ", subsequent_indent="     ")
    if name != "null":
        settings = (CONFIGS / group / f"{name}.yaml").read_text().splitlines()
        shown = [line for line in settings if not line.lstrip().startswith(("_target_", "_partial_"))]
        lines += [f"  {group}:", *(f"    {line}" for line in shown)]
    return "\n".join(lines)


def build(node: Any, **objects: object) -> Any:
    """Hydra's `instantiate`, with our own errors coming out as they are instead of wrapped in Hydra's.

    Args:
        node: a config with a `_target_`.
        objects: further arguments of the target.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, **objects)
    except InstantiationException as error:
        if isinstance(error.__cause__, StylenetError):
            raise error.__cause__ from None
        raise


def shortest(path: Path) -> Path:
    """A path as one would type it: from here where it lies below, otherwise absolute."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def resume_command(program: str, folder: Path) -> str:
    """What to type to go on with a run: the settings that were typed for it, and its folder."""
    from hydra.core.hydra_config import HydraConfig

    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    kept = [shlex.quote(word) for word in typed if not word.startswith("resume=")]
    return " ".join([f"python -m stylenet.{program}", *kept, shlex.quote(f"resume={shortest(folder)}")])


def register_resolvers() -> None:
    """Teach OmegaConf four functions.

    `${stem:path/to/name.jpg}` gives `name`; of several paths their names in a row.
    `${either:${init},1,2}` gives 1 where `init` is set, and 2 where it is null.
    `${gpu:4,1}` gives 4 where PyTorch finds a GPU, and 1 elsewhere.
    `${divisor:3000,450}` gives 500: of the numbers that 3,000 is a multiple of, the nearest to 450.
    """
    from omegaconf import ListConfig, OmegaConf

    def stem(path: object) -> str:
        paths = path if isinstance(path, ListConfig) else [path]
        return "_".join(Path(str(one)).stem for one in paths)

    def either(value: object, then: object, otherwise: object) -> object:
        return otherwise if value is None else then

    def gpu(there: object, elsewhere: object) -> object:
        return there if has_gpu() else elsewhere

    def divisor(number: object, near: int) -> int:
        if not isinstance(number, int) or number < 1:
            return near  # whoever needs the number says what is wrong with it
        small = [one for one in range(1, math.isqrt(number) + 1) if number % one == 0]
        return min([*small, *(number // one for one in small)], key=lambda one: abs(one - near))

    OmegaConf.register_new_resolver("stem", stem, replace=True)
    OmegaConf.register_new_resolver("either", either, replace=True)
    OmegaConf.register_new_resolver("gpu", gpu, replace=True)
    OmegaConf.register_new_resolver("divisor", divisor, replace=True)


def _sentence(error: Exception) -> str:
    """Hydra's many lines as one sentence, with the nearest of the options where an option was not found."""
    from hydra.errors import MissingConfigException

    if not isinstance(error, MissingConfigException) or not error.options:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kept = [line for line in lines if not line.startswith(("Set the environment", "full_key:", "object_type="))]
        return " ".join(kept) + " (--help shows the settings there are)"
    group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    options = sorted(error.options)
    near = difflib.get_close_matches(name, options, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no {group} {name!r}.{hint} There are: {', '.join(options)}."
