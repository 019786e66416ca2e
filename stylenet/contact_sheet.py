"""Pictures of one size side by side, each with a line of text below."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from stylenet.image import Array, to_picture

GAP = 6  # px of white
LINE = 18  # px of a line of text
FONT_SIZE = 13


def contact_sheet(images: Array, labels: Sequence[str]) -> Image.Image:
    """Lay out pictures, as nearly in a square as they go.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        labels: N of them; `""` for no text.

    Returns:
        One picture; a single one without a label is returned as it is.
    """
    count, _, height, width = images.shape
    if count == 1:
        return to_picture(images)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    step = (width + GAP, height + LINE + GAP)
    sheet = Image.new("RGB", (columns * step[0] + GAP, rows * step[1] + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for place, label in enumerate(labels):
        left, top = GAP + place % columns * step[0], GAP + place // columns * step[1]
        sheet.paste(to_picture(images[place : place + 1]), (left, top))
        draw.text((left + width / 2, top + height + 2), label, fill="black", font=font, anchor="ma")
    return sheet
