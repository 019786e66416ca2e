"""How much memory painting a picture or a training step takes, how much there is, and whether there is a GPU."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import cast

from stylenet.architecture import Architecture
from stylenet.errors import ConfigError

SHARE = 0.5  # of the free memory that one painting may take
TRAINING_BASE = 1.2e9  # bytes of training before its first step: libraries, encoder, the painting's statistics
UNKNOWN_MEMORY = 4e9  # taken for free where the system does not tell
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")  # NVIDIA, AMD, WSL, Windows


def has_gpu() -> bool:
    """Whether PyTorch finds a GPU; it is asked only where a driver is, since importing it takes seconds."""
    if "torch" not in sys.modules and not any(Path(driver).exists() for driver in DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def best_device() -> str:
    """`cuda` where PyTorch finds a GPU, otherwise `cpu`."""
    return "cuda" if has_gpu() else "cpu"


def engine_bytes(architecture: Architecture) -> float:
    """Bytes per pixel, grown ones too, that `engine.Engine` takes at its peak, in float32; less in bfloat16.

    The peak is at full resolution: what the last normalisation or mirroring reads and writes, the last convolution's
    rows, or the last doubling; then the picture, with grain, and its painting as floats. For the paper's network
    without grain that makes 342, and 326 to 348 were measured at 256 to 2048 px.
    """
    width, half = _last_widths(architecture)
    values = max(2 * width, width + 3 * architecture.kernel_size, width + half / 2)
    return 4 * values * 1.1 + (72 if architecture.grain else 60)


def pytorch_bytes(architecture: Architecture) -> float:
    """Bytes per pixel, grown ones too, that `transformer_net.TransformerNet` takes at its peak, without gradients.

    The last doubling is the peak: its input, the same mirrored at the borders, and its output, all in float32; with
    the convolution's own working space 1.6 times that, 1000 bytes per pixel, was measured on a CPU.
    """
    width, half = _last_widths(architecture)
    return 4 * (2 * half + width) * 1.6


def training_bytes(architecture: Architecture, crops: int, size: int) -> float:
    """Bytes that training takes at its peak on a CPU, in float32, with the default encoder and losses.

    Measured: 1.3 to 5.2 GB for the paper's network and 4 crops of 64 to 384 px (6,850 bytes per pixel), and 4.2 GB for
    the small one at 384 px (5,580).
    """
    width, _ = _last_widths(architecture)
    seen = size + 2 * architecture.context
    return TRAINING_BASE + crops * (4300 * size**2 + 80 * width * seen**2)


def check_training(architecture: Architecture, crops: int, size: int) -> None:
    """Raise `ConfigError` for steps that need more memory than is free on a CPU, and say what would fit."""
    needed, free = training_bytes(architecture, crops, size), free_memory("cpu")
    if needed <= free:
        return
    room = max(0.0, (free - TRAINING_BASE) / (needed - TRAINING_BASE))
    fitting = [f"data.size={int(size * room**0.5) // 8 * 8}"]
    if int(crops * room) >= 1:
        fitting.append(f"data.batch_size={int(crops * room)}")
    many = "s" if crops > 1 else ""
    raise ConfigError(
        f"A step of {crops} crop{many} of {size} px takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} "
        f"GB are free; {' or '.join(fitting)} would fit."
    )


def largest_that_fits(size: tuple[int, int], bytes_per_pixel: float, device: str) -> tuple[int, int] | None:
    """A smaller (width, height) of the same proportions that takes no more than its share of the free memory.

    `None` when the size itself does.
    """
    room = SHARE * free_memory(device) / bytes_per_pixel
    scale = math.sqrt(max(0.0, room) / (size[0] * size[1]))
    return None if scale >= 1 else (int(size[0] * scale), int(size[1] * scale))


def free_memory(device: str) -> float:
    """Bytes that are free for use, as far as the system tells."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    limits = [float("inf")]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        limits.append(float(fields["MemAvailable"].split()[0]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        files = [Path("/sys/fs/cgroup") / name for name in (limit, used)]  # of a container
        if all(file.is_file() for file in files) and files[0].read_text().strip().isdigit():
            limits.append(float(files[0].read_text()) - float(files[1].read_text()))
    return min(limits) if min(limits) < float("inf") else UNKNOWN_MEMORY


def _last_widths(architecture: Architecture) -> tuple[int, int]:
    """Channels at full resolution, and at half of it where the network has that."""
    widths = cast(list[int], architecture.widths)
    return widths[0], widths[min(1, len(widths) - 1)]
