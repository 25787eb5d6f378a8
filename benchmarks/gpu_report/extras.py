"""Prints the extras of srflow-sdk that fit the driver, for pip; it needs no other package."""

import sys

from srflow_sdk.system.hardware import cuda_of_wheels, find_gpu


def main() -> None:
    """Print them; exit with one line and status 2 where there is no GPU."""
    gpu = find_gpu()
    if gpu is None:
        print("gpu-report: no NVIDIA GPU: its driver is not installed, or shows none to CUDA", file=sys.stderr)
        sys.exit(2)
    cuda = cuda_of_wheels(gpu.cuda)
    print(f"gpu-cu{cuda},tensorrt-cu{cuda}")


if __name__ == "__main__":
    main()
