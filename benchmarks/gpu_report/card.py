"""The GPU that CUDA gives to programs here, as the driver's nvidia-smi describes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

_FIELDS = ("name", "driver_version", "memory.total", "compute_cap")
_LIMIT_S = 30
_CUDA_13_DRIVER = 580


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
    """What nvidia-smi says of CUDA's first GPU, if CUDA counts as it does. Raises: NoGpuError."""
    if shutil.which("nvidia-smi") is None:
        raise NoGpuError("nvidia-smi, which comes with NVIDIA's driver, is not on the PATH")
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NoGpuError(f"nvidia-smi did not answer within {_LIMIT_S} s") from None
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip().splitlines() or [f"exit status {done.returncode}"]
        raise NoGpuError(f"nvidia-smi failed: {words[0]}")
    return done.stdout


def main() -> None:
    """Print the extras of srflow-sdk that fit the driver, for pip; exit with one line where there is no GPU."""
    cuda = card_or_exit().cuda
    print(f"gpu-cu{cuda},tensorrt-cu{cuda}")


if __name__ == "__main__":
    main()
