"""Pictures as sums of waves in uncorrelated colours: the basis in which a picture is found that excites a neuron.

Descending from pixel to pixel favours the highest frequencies, which look like noise. In this basis every frequency and
every direction in colour moves with the same ease (Olah et al. 2017, "Feature Visualization", section "Preconditioning
and Parameterization").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Columns: the principal directions of the colours of the 69 bundled photographs (64 px high each), times the deviation
# along them: light and dark, yellow and blue, green and magenta.
COLORS = ((0.1907, 0.1031, 0.0328), (0.2147, 0.0256, -0.0533), (0.2549, -0.0987, 0.0204))
BEGIN = 0.01  # deviation of the first coefficients: nearly grey
CONTRAST = 0.7  # from deviations in colour to the logits of pixels; more saturates them


class FourierPictures(nn.Module):
    """Pictures with Fourier coefficients as parameters.

    Args:
        count: how many, N.
        height: in px.
        width: in px.
        seed: of the noise they begin as.
    """

    colors: Tensor
    scale: Tensor

    def __init__(self, count: int, height: int, width: int, seed: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        generator = torch.Generator().manual_seed(seed)
        shape = (count, 3, height, width // 2 + 1, 2)  # real and imaginary parts
        self.coefficients = nn.Parameter(torch.randn(shape, generator=generator) * BEGIN)
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
        # Natural pictures have amplitudes that fall as 1 / frequency; the lowest is that of one wave in the picture.
        scale = (height * width) ** 0.5 / frequency.clamp(min=1 / max(height, width))
        self.register_buffer("scale", scale[..., None])  # (H, W/2 + 1, 1)
        self.register_buffer("colors", torch.tensor(COLORS))

    def forward(self) -> Tensor:
        """The pictures: (N, 3, H, W), RGB in [0, 1]."""
        spectrum = torch.view_as_complex((self.coefficients * self.scale).contiguous())
        waves = torch.fft.irfft2(spectrum, s=(self.height, self.width))
        logits = torch.einsum("rc,nchw->nrhw", self.colors, waves) * CONTRAST
        return torch.sigmoid(logits).contiguous(memory_format=torch.channels_last)
