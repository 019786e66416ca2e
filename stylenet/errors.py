"""The errors that stylenet raises on purpose: each carries one sentence made for the person at the keyboard."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


class StylenetError(Exception):
    """Something the user can mend. The message names the thing, what was expected and what to do."""


class ConfigError(StylenetError):
    """A setting that is unknown, out of range or contradicts another one."""


class PictureError(StylenetError):
    """A picture that cannot be read, written or processed."""


class ModelFileError(StylenetError):
    """A model file that is missing, broken or not one of ours."""


class WeightsError(StylenetError):
    """Encoder weights that cannot be had or do not fit VGG19."""


def require_number(name: str, value: object, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Raise `ConfigError` for a setting that is no number from `low` to `high`, both included.

    Args:
        name: the setting, as the user types it.
        value: what was given.
        low: the least.
        high: the most; infinity stands for any finite number.
        whole: whether it must be an integer.
    """
    kind = int if whole else (int, float)
    if isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
        return
    span = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
    raise ConfigError(f"{name} must be a {'whole ' if whole else ''}number, {span}, not {value!r}.")


def one_sentence(main: Callable[P, object]) -> Callable[P, None]:
    """Make a command line end with the error's one sentence and exit status 1, without a traceback.

    Anything that is not a `StylenetError` is a defect of ours and keeps its traceback.
    """

    @wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read our output, `| head` say, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
            raise SystemExit(1) from None
        except StylenetError as error:
            print(f"stylenet: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    return guarded
