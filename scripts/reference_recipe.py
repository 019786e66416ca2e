"""The recipe that most feed-forward style networks are trained by, as a yardstick for `benchmark.py`.

After what the best-known PyTorch example does: Johnson's network with PyTorch's InstanceNorm2d, VGG16 to relu4_3 for
the painted picture and for the photograph alike, mean squared differences of relu2_2 and of four Gram matrices,
float32, tensors in the default memory format, nothing compiled. VGG16's convolutions are VGG19's without the fourth of
each block; which weights they hold does not change their speed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylenet.losses import gram_matrix
from stylenet.vgg import ORIGINAL_MEAN, load_weights

SLICES = (
    ("conv1_1", "conv1_2"),
    ("conv2_1", "conv2_2"),
    ("conv3_1", "conv3_2", "conv3_3"),
    ("conv4_1", "conv4_2", "conv4_3"),
)
STYLE_WEIGHT = 1e5


def reference_net() -> nn.Sequential:
    """Johnson's network as the reference recipe has it: (N, 3, H, W) -> the same, for H and W divisible by 4."""
    return nn.Sequential(
        *_block(3, 32, 9),
        *_block(32, 64, 3, 2),
        *_block(64, 128, 3, 2),
        *(_Residual(128) for _ in range(5)),
        nn.Upsample(scale_factor=2),
        *_block(128, 64, 3),
        nn.Upsample(scale_factor=2),
        *_block(64, 32, 3),
        nn.ReflectionPad2d(4),
        nn.Conv2d(32, 3, 9),
    )


class Reference:
    """One training step of the reference recipe: `Reference(painting).step(photos)`.

    Args:
        painting: (1, 3, H, W), RGB in [0, 1].
    """

    def __init__(self, painting: Tensor) -> None:
        convolutions = load_weights("original").convolutions
        self.vgg = [[(convolutions[f"{n}.weight"], convolutions[f"{n}.bias"]) for n in names] for names in SLICES]
        self.net = reference_net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        with torch.no_grad():
            self.targets = [gram_matrix(features) for features in self._features(painting)]

    def step(self, photos: Tensor) -> None:
        """Learn from (N, 3, H, W)."""
        self.optimizer.zero_grad()
        painted, target = self._features(self.net(photos)), self._features(photos)
        loss = F.mse_loss(painted[1], target[1])
        for features, gram in zip(painted, self.targets, strict=True):
            loss = loss + STYLE_WEIGHT * F.mse_loss(gram_matrix(features), gram.expand(len(features), -1, -1))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _features(self, image: Tensor) -> list[Tensor]:
        x = (image - torch.tensor(ORIGINAL_MEAN, device=image.device).view(1, 3, 1, 1)) * 255
        features: list[Tensor] = []
        for block in self.vgg:
            x = F.max_pool2d(x, 2) if features else x
            for weight, bias in block:
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            features.append(x)
        return features

    def to(self, device: str) -> Reference:
        """Move everything to a device."""
        self.net.to(device)
        self.vgg = [[(weight.to(device), bias.to(device)) for weight, bias in block] for block in self.vgg]
        self.targets = [target.to(device) for target in self.targets]
        return self


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    pad = nn.ReflectionPad2d(kernel // 2)
    return [pad, nn.Conv2d(inputs, outputs, kernel, stride), nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_block(channels, channels, 3), *_block(channels, channels, 3)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out
