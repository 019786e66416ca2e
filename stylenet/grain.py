"""Grain: the noise that a network paints on.

A plain sky holds nothing that a stroke could begin or end at, so a network without noise fills it with one repeating
weave. A little noise on the photo breaks the symmetry, as the noise that Ulyanov et al. (2016, arXiv 1603.03417,
section 3.1) concatenate to their generator's input does. When painting it is always the same noise, so that a picture
comes out the same every time, in tiles as in one piece, and a film does not flicker.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from stylenet.image import Array

SIDE = 1024  # px; beyond, the noise repeats
SEED = 0


def grain(top: int, bottom: int, left: int, right: int) -> Array:
    """The noise over a region of a picture.

    Args:
        top: first row.
        bottom: row after the last.
        left: first column.
        right: column after the last.

    Returns:
        (1, 3, rows, columns), normally distributed with mean 0 and deviation 1, float32.
    """
    rows, columns = np.arange(top, bottom) % SIDE, np.arange(left, right) % SIDE
    return _square()[:, :, rows[:, None], columns]


@cache
def _square() -> Array:
    return np.random.default_rng(SEED).standard_normal((1, 3, SIDE, SIDE), np.float32)
