"""The GPU that CUDA gives to programs here, as the driver's nvidia-smi describes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

_FIELDS = ("name", "driver_version", "memory.total", "compute_cap")
_LIMIT_S = 30
_CUDA_13_DRIVER = 580
_NAMED = """
try:
    from cuda.bindings import runtime
    print(runtime.cudaDeviceGetPCIBusId(20, 0)[1].decode().strip("\\0"))
except ImportError:
    import torch
    print(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
"""


class NoGpuError(Exception):
    """nvidia-smi shows no GPU; the message says why, in one line."""


@dataclass(frozen=True)
class Card:
    """name and driver for people; memory in MiB, 0 if it is the host's; compute_capability such as 90 for 9.0."""

    name: str
    driver: str
    memory: int
    compute_capability: int

    @property
    def cuda(self) -> int:
        """The newest CUDA whose wheels its driver runs, 12 or 13."""
        return 13 if int(self.driver.partition(".")[0]) >= _CUDA_13_DRIVER else 12


def card_or_exit() -> Card:
    """CUDA's first GPU; ends the process with one line and status 2 where there is none."""
    try:
        return parsed(answer(",".join(_FIELDS)))
    except NoGpuError as error:
        print(f"gpu-report: this machine has no NVIDIA GPU to report on: {error}", file=sys.stderr)
        sys.exit(2)


def parsed(answer: str) -> Card:
    """The first line of what nvidia-smi answers, such as `NVIDIA H100, 550.54.15, 81559, 9.0`. Raises: NoGpuError."""
    cells = [cell.strip() for cell in (answer.strip().splitlines() or [""])[0].split(",")]
    try:
        name, driver, memory, capability = cells
        return Card(name, driver, int(memory) if memory.isdigit() else 0, int(capability.replace(".", "")))
    except ValueError:
        raise NoGpuError(f"nvidia-smi answered {answer.strip()!r}") from None


def memory_in_use() -> int:
    """Bytes of its memory that all programs hold. Raises: NoGpuError."""
    found = answer("memory.used")
    try:
        return int(found.splitlines()[0]) << 20
    except (ValueError, IndexError):
        raise NoGpuError(f"nvidia-smi answered {found.strip()!r}") from None


def answer(fields: str) -> str:
    if shutil.which("nvidia-smi") is None:
        raise NoGpuError("nvidia-smi, which comes with NVIDIA's driver, is not on the PATH")
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", *cudas_first()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NoGpuError(f"nvidia-smi did not answer within {_LIMIT_S} s") from None
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip().splitlines() or [f"exit status {done.returncode}"]
        raise NoGpuError(f"nvidia-smi failed: {words[0]}")
    return done.stdout


@lru_cache(maxsize=1)
def cudas_first() -> list[str]:
    """nvidia-smi's option for CUDA's GPU 0, which need not be its own first; none if nothing here can tell.

    Another process asks, so that this one takes no GPU memory.
    """
    try:
        done = subprocess.run([sys.executable, "-c", _NAMED], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return []
    name = done.stdout.strip()
    return [f"--id={name}"] if done.returncode == 0 and name else []


def main() -> None:
    """Print the extras of srflow-sdk that fit the driver, for pip; exit with one line where there is no GPU."""
    cuda = card_or_exit().cuda
    print(f"gpu-cu{cuda},tensorrt-cu{cuda}")


if __name__ == "__main__":
    main()
