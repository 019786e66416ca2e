"""What makes steps faster on the machine at hand, found out rather than assumed."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from typing import Literal, get_args

from stylenet.errors import ConfigError
from stylenet.memory import has_gpu

Precision = Literal["32-true", "bf16-mixed"]
"""Float32 throughout, or bfloat16 for what a network computes: by Lightning's names."""

# glibc's <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

LOOKS = 10_000  # that a thread takes for work before it sleeps: some 30 µs; GNU's OpenMP takes 30 times as many

PAYS_FROM = 10_000  # steps: compiling takes a minute for each size of crops, and saves 10 ms a step


def keep_memory() -> None:
    """Keep freed memory for the next step instead of giving it back to the system.

    glibc maps each large tensor anew and the kernel clears its pages at every step: a quarter of a step of 256 px
    crops on two AVX-512 cores. The most memory used grows by a twelfth. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # large tensors come from the heap too
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # and the heap is not cut back


def wait_briefly() -> None:
    """Have PyTorch's threads leave their cores sooner when they have nothing to do: NNPACK's threads need them.

    A step of training takes a fifth less time by it on two cores, where NNPACK computes (see `nnpack`). To be called
    before PyTorch is imported; the user's own settings are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(LOOKS))


def choose_precision(precision: str) -> str:
    """`auto`: bfloat16 where the processor or the GPU multiplies matrices in it, float32 elsewhere."""
    import torch

    if precision != "auto":
        return precision
    if has_gpu():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if processor_has_bfloat16() else "32-true"


def choose_descent_precision(setting: str) -> Precision:
    """The precision in which pixels descend: as `choose_precision`, but of Lightning's many only these two.

    Raises:
        ConfigError: for another setting.
    """
    chosen = choose_precision(setting)
    for precision in get_args(Precision):
        if chosen == precision:
            return precision  # type: ignore[no-any-return]
    raise ConfigError(f"precision must be auto, 32-true or bf16-mixed, not {setting!r}.")


def processor_has_bfloat16() -> bool:
    """Whether the processor multiplies matrices in bfloat16 (AMX or AVX512-bf16)."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_compile(setting: bool | Literal["auto"], steps: int) -> bool:
    """Whether to compile the step.

    Args:
        setting: `auto`, true or false. `auto` compiles long runs on a GPU. On a processor compiled steps are no faster
            in float32, and a fifth slower in bfloat16, whose convolutions and normalisation are our own there.
        steps: of the whole run.

    Raises:
        ConfigError: for another setting.
    """
    if isinstance(setting, bool):
        return setting
    if setting != "auto":
        raise ConfigError(f"compile must be auto, true or false, not {setting!r}.")
    compiler = shutil.which(os.environ.get("CXX", "c++")) is not None
    return steps >= PAYS_FROM and compiler and has_gpu()
