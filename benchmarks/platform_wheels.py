"""Print for which platforms the base dependencies have wheels on PyPI, as pip resolves them. Needs a network.

    python benchmarks/platform_wheels.py [--python 3.12]

Each cell is the version that pip would install there, or "none". Nothing is installed. pip's platform tags say what a
wheel claims; whether it works there is another question.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

PACKAGES = ("numpy", "pillow", "onnxruntime", "pyvips-binary", "psutil")
PLATFORMS = {
    "Linux x86-64": ("manylinux_2_17_x86_64", "manylinux_2_28_x86_64"),
    "Linux ARM64": ("manylinux_2_17_aarch64", "manylinux_2_28_aarch64"),
    "Alpine x86-64": ("musllinux_1_2_x86_64",),
    "Windows x86-64": ("win_amd64",),
    "Windows ARM64": ("win_arm64",),
    "macOS 14 ARM64": tuple(f"macosx_{version}_0_arm64" for version in range(11, 15)),
    "macOS 14 x86-64": ("macosx_10_15_x86_64", *(f"macosx_{version}_0_x86_64" for version in range(11, 15))),
}


def version_for(package: str, tags: tuple[str, ...], python: str) -> str:
    """What pip would install of a package, without its dependencies."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
        command += ["--only-binary=:all:", "--report=-", f"--python-version={python}", f"--target={folder}"]
        done = subprocess.run(
            [*command, *(f"--platform={tag}" for tag in tags), package], capture_output=True, text=True
        )
    if done.returncode:
        return "none"
    (found,) = json.loads(done.stdout)["install"]
    return str(found["metadata"]["version"])


def main(python: str) -> None:
    """Print the table."""
    print(f"| Python {python} | {' | '.join(PACKAGES)} |\n|{'---|' * (len(PACKAGES) + 1)}")
    for name, tags in PLATFORMS.items():
        print(f"| {name} | {' | '.join(version_for(package, tags, python) for package in PACKAGES)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", help="[default: 3.12]")
    main(parser.parse_args().python)
