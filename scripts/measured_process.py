"""A program's time and its most memory, from its start to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

# A process counts what its parent had in memory when it was started, so that the parent must be a small one.
LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9]))
"""


class Measured(NamedTuple):
    """What a program took: seconds, and gigabytes at its peak."""

    seconds: float
    peak_memory_gb: float


def run_measured(module: str, arguments: Sequence[str]) -> Measured:
    """Run `python -m module arguments` and measure it.

    Raises:
        SystemExit: when it fails; what it said is on standard error.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", module, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    status, seconds, peak = json.loads(output)
    if status:
        raise SystemExit(f"failed: python -m {module} {' '.join(arguments)}")
    return Measured(seconds, peak)
