"""Run tests with Windows' Python under Wine, and compare its pictures with this system's: make
test-windows"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from srflow_export import ExportOptions, export_checkpoint
from tests.networks import golden_checkpoint, proved_on_small_patches
from windows.wine import ROOT, run_python, windows_path, wine

# The runtime; commands, batches, the page, the doctor, and of exporter and trainer what takes
# seconds. Two processes.
HALVES = (
    [
        *(
            "tests/sdk/files",
            "tests/sdk/system",
            "tests/sdk/latents",
            "tests/sdk/model",
            "tests/sdk/pixels",
        ),
        *(
            "tests/sdk/drawing",
            "tests/sdk/flow",
            "tests/sdk/test_upscaler.py",
            "tests/sdk/test_by_picture.py",
        ),
    ],
    [
        *("tests/apps/commands", "tests/apps/batch", "tests/apps/demo", "tests/apps/doctor"),
        *(
            "tests/export/test_bundle_writer.py",
            "tests/export/test_triton.py",
            "tests/export/test_cli.py",
        ),
        *("tests/training/checkpoints", "tests/training/settings"),
    ],
)
# Nothing in them holds there, where URLs are refused and nobody tried Ray, and their servers are
# not installed.
IGNORED = ("tests/apps/batch/test_cloud.py", "tests/apps/batch/test_on_ray.py")


def tests_fail(names: list[str]) -> bool:
    """Run the tests of these files and folders, and show what they say once they are done."""
    ignored = [f"--ignore={name}" for name in IGNORED]
    run = run_python("-m", "pytest", "-p", "no:cacheprovider", *ignored, *names, capture=True)
    print(run.stdout, run.stderr)
    return run.returncode != 0


def pictures_differ() -> bool:
    """Draw with an embedded model, and with a checkpoint's fresh export, here and there; compare
    the hashes."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "golden.srflow"
        words = ["-m", "windows.pictures"]
        with proved_on_small_patches():
            export_checkpoint(
                golden_checkpoint(Path(name) / "golden.pth"), bundle, ExportOptions(halo=8)
            )
        here = subprocess.run(
            [sys.executable, *words, bundle], cwd=ROOT, capture_output=True, text=True, check=True
        )
        there = run_python(*words, windows_path(bundle), capture=True)
    if here.stdout == there.stdout != "":
        print(f"pictures are equal to the bit:\n{here.stdout}")
        return False
    print(f"here:\n{here.stdout}\nunder Wine:\n{there.stdout}{there.stderr}")
    return True


if __name__ == "__main__":
    if wine() is None:
        print(
            "skipped: this machine has no Wine; on Debian and Ubuntu, install it: apt install "
            "wine64"
        )
        sys.exit()
    # which installs it; and two that begin at once would both make Wine's folders, and one fail
    run_python("-c", "")
    begun = time.monotonic()
    if names := sys.argv[1:]:
        failed = tests_fail(names)
    else:
        with ThreadPoolExecutor() as pool:
            failed = any([*pool.map(tests_fail, HALVES)]) or pictures_differ()
    print(f"{time.monotonic() - begun:.0f} s under Wine")
    sys.exit(failed)
