"""The errors that stylenet raises on purpose: each carries one sentence made for the person at the keyboard."""

from __future__ import annotations

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


def one_sentence(main: Callable[P, None]) -> Callable[P, None]:
    """Make a command line end with the error's one sentence and exit status 1, without a traceback.

    Anything that is not a `StylenetError` is a defect of ours and keeps its traceback.
    """

    @wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except StylenetError as error:
            print(f"stylenet: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    return guarded
