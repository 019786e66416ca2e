"""Show that one set of weights suits every painting: one photograph under the default loss of each bundled style.

    python scripts/compare_paintings.py

No network is trained: the photograph's own pixels descend the loss (Gatys et al. 2015, arXiv 1508.06576), which shows
within minutes what the loss asks of a network. The sheet holds each painting beside its result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image, ImageOps
from rich.progress import track

from stylenet.data import SAMPLE
from stylenet.descent import descend
from stylenet.errors import one_sentence
from stylenet.image import open_picture, save_image, to_array, to_picture
from stylenet.losses import PerceptualLoss
from stylenet.program import CONFIGS, build, register_resolvers
from stylenet.styles import PAINTINGS

COLUMNS = 4
GAP = 6  # px of white


def painted(loss: PerceptualLoss, photo: torch.Tensor, steps: int) -> torch.Tensor:
    """The photograph after `steps` steps of Adam down the loss, starting from itself: (1, 3, H, W)."""
    content = loss.content_targets(photo)
    image = photo.clone().requires_grad_()

    def objective() -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = loss(image, content)
        return losses

    for _ in descend([image], objective, "adam", steps, learning_rate=0.03):
        pass
    return image.detach()


def sheet(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """Pairs of pictures of one size, side by side in columns."""
    width, height = pairs[0][0].size
    step = (2 * width + 2 * GAP, height + GAP)
    rows = -(-len(pairs) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * step[0], rows * step[1]), "white")
    for place, (painting, result) in enumerate(pairs):
        left, top = place % COLUMNS * step[0], place // COLUMNS * step[1]
        picture.paste(painting, (left, top))
        picture.paste(result, (left + width, top))
    return picture


@one_sentence
def main() -> None:
    """Make the sheet and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=SAMPLE / "neuschwanstein_castle.jpg")
    parser.add_argument("--height", type=int, default=128, help="of the photograph in px (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="of the descent (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/every_painting.jpg"))
    options = parser.parse_args()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["folder=none"])
    encoder = build(cfg.encoder)(layers=[*cfg.loss.content_weights, *cfg.loss.style_weights])
    make_loss = build(OmegaConf.to_container(cfg.loss))
    size = (options.height * 4 // 3, options.height)
    photo = ImageOps.fit(open_picture(options.photo), size, Image.Resampling.LANCZOS)
    pairs = []
    for path in track(sorted(PAINTINGS.glob("*.jpg")), "descending"):
        painting = open_picture(path)
        # As large beside this small photograph as it is beside a training crop.
        target = ImageOps.contain(painting, (2 * size[0], 2 * size[1]), Image.Resampling.LANCZOS)
        loss = make_loss(encoder=encoder, style_image=torch.from_numpy(to_array(target)))
        result = painted(loss, torch.from_numpy(to_array(photo)), options.steps)
        pairs.append((ImageOps.fit(painting, size, Image.Resampling.LANCZOS), to_picture(result.numpy())))
    save_image(sheet(pairs), options.output)
    print(options.output)


if __name__ == "__main__":
    main()
