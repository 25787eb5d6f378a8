"""onnxruntime and onnxruntime-gpu in one environment, in the states that pip really leaves.

The simulated states were seen with pip 23 and the wheels onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1. After both are
installed, two dist-info folders claim the same `onnxruntime/`, and the later install is active. After one is
uninstalled, the other's dist-info remains beside a folder without the files that both had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .bare_environment import BareEnvironment
from .test_bare_install import PHOTO

MakeBare = Callable[[], BareEnvironment]
BOTH_AWAY = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --force-reinstall --no-deps "
GPU_ONLY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"


def add_gpu_record(site_packages: Path) -> None:
    """Add the dist-info of onnxruntime-gpu, with a RECORD that claims the files of onnxruntime."""
    record = next(site_packages.glob("onnxruntime-*.dist-info")) / "RECORD"
    claimed = [line for line in record.read_text().splitlines() if line.startswith("onnxruntime/")]
    info = site_packages / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    (info / "top_level.txt").write_text("onnxruntime\n")
    (info / "RECORD").write_text("\n".join([*claimed, f"{GPU_ONLY},sha256=x,1", f"{info.name}/RECORD,,"]) + "\n")


def uninstall_cpu_wheel(site_packages: Path) -> None:
    """Do what `pip uninstall onnxruntime` does after both were installed: only files that it never had remain."""
    (site_packages / "onnxruntime").unlink()
    next(site_packages.glob("onnxruntime-*.dist-info")).unlink()
    left = site_packages / GPU_ONLY
    left.parent.mkdir(parents=True)
    left.touch()


def doctor_block(stdout: str, name: str) -> str:
    """The lines of one check in the doctor's output."""
    blocks = stdout.replace("\nok ", "\0ok ").replace("\nmissing ", "\0missing ").replace("\nproblem ", "\0problem ")
    return next(block for block in blocks.split("\0") if name in block.splitlines()[0])


@pytest.mark.slow
def test_doctor_recognises_the_clash_says_what_is_active_and_prints_the_fix(make_bare: MakeBare) -> None:
    bare = make_bare()
    add_gpu_record(bare.site_packages)
    done = bare.run("srflow-doctor")
    block = doctor_block(done.stdout, "ONNX Runtime")
    assert block.startswith("problem")
    assert "onnxruntime-gpu 1.31.1 overwrite each other" in " ".join(block.split())
    assert "active: onnxruntime 1." in " ".join(block.split())
    assert f"fix (for the CPU): {BOTH_AWAY}onnxruntime\n" in block + "\n"
    assert f"fix (for NVIDIA GPUs): {BOTH_AWAY}onnxruntime-gpu\n" in block + "\n"
    assert done.returncode == 0, "upscaling on the CPU still works"


def test_what_uninstalling_one_of_two_leaves_is_recognised(make_bare: MakeBare, tmp_path: Path) -> None:
    bare = make_bare()
    add_gpu_record(bare.site_packages)
    uninstall_cpu_wheel(bare.site_packages)
    done = bare.run("srflow-doctor")
    block = doctor_block(done.stdout, "ONNX Runtime")
    assert block.startswith("problem")
    assert "onnxruntime-gpu 1.31.1 is installed and broken" in " ".join(block.split())
    assert f"{BOTH_AWAY}onnxruntime-gpu\n" in block + "\n"
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    done = bare.run("srflow-upscale", PHOTO, "-o", tmp_path / "large.png")
    (line,) = (line for line in done.stderr.splitlines() if line != "preparing")  # which a slow machine says
    assert (done.returncode, line.startswith("error: "), "srflow-doctor" in line) == (1, True, True)
