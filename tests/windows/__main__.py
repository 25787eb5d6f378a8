"""Run tests with Windows' Python under Wine, and compare its pictures with this system's: make test-windows"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from srflow_export import ExportOptions, export_checkpoint
from tests.networks import golden_checkpoint, proved_on_small_patches
from windows.wine import ROOT, run_python, windows_path, windows_python, wine

# The runtime, the commands, batches, the page, the doctor; of exporter and trainer what takes seconds.
TESTS = (
    *("tests/sdk/files", "tests/sdk/system", "tests/sdk/latents", "tests/sdk/model", "tests/sdk/pixels"),
    *("tests/sdk/drawing", "tests/sdk/flow", "tests/sdk/test_upscaler.py", "tests/sdk/test_by_picture.py"),
    *("tests/apps/commands", "tests/apps/batch", "tests/apps/demo", "tests/apps/doctor"),
    *("tests/export/test_bundle_writer.py", "tests/export/test_triton.py", "tests/export/test_cli.py"),
    *("tests/training/checkpoints", "tests/training/settings", "tests/training/trainer/test_resuming.py"),
)


def pictures_differ() -> bool:
    """Export a checkpoint, draw with the bundle and with an embedded model on both systems, and compare the hashes."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "golden.srflow"
        with proved_on_small_patches():
            export_checkpoint(golden_checkpoint(Path(name) / "golden.pth"), bundle, ExportOptions(halo=8))
        words = ["-m", "tests.windows.pictures"]
        here = subprocess.run([sys.executable, *words, bundle], cwd=ROOT, capture_output=True, text=True, check=True)
        there = run_python(*words, windows_path(bundle), capture=True)
    same = there.stdout.splitlines() == here.stdout.splitlines() != []
    say(f"{len(here.stdout.splitlines())} pictures of two models: {'equal to the bit' if same else 'DIFFERENT'}")
    if not same:
        say(f"here:\n{here.stdout}\nunder Wine:\n{there.stdout}{there.stderr}")
    return not same


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    if wine() is None:
        say("skipped: this machine has no Wine; on Debian and Ubuntu, install it: apt install wine64")
        return 0
    windows_python()
    begun = time.monotonic()
    tests = run_python("-m", "pytest", "-p", "no:cacheprovider", *(sys.argv[1:] or TESTS))
    failed = tests.returncode != 0 or (len(sys.argv) == 1 and pictures_differ())
    say(f"{time.monotonic() - begun:.0f} s under Wine: {'FAILED' if failed else 'passed'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
