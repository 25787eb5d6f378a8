"""The plain install that a user gets from `pip install srflow-sdk`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from docs.site.reference import project
from srflow_sdk import __version__

from .bare_environment import ROOT, BareEnvironment

PHOTO = ROOT / "examples" / "photos" / "cat.png"
IMPORT_LIMIT_S = 0.3


def python(bare: BareEnvironment, code: str) -> str:
    done = bare.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_is_small_enough_to_install_without_a_thought(wheel: Path) -> None:
    assert wheel.stat().st_size < 20_000_000


def test_no_torch_comes_with_it(bare: BareEnvironment) -> None:
    found = python(
        bare, "from importlib.util import find_spec; print(find_spec('torch'), find_spec('onnx'))"
    )
    assert found.split() == ["None", "None"]


def test_import_is_quick_and_pulls_nothing_heavy(bare: BareEnvironment) -> None:
    code = (
        "import sys, time, json; start = time.perf_counter(); import srflow_sdk; "
        "print(json.dumps([time.perf_counter() - start, list(sys.modules)]))"
    )
    times, modules = zip(*(json.loads(python(bare, code)) for _ in range(3)), strict=True)
    assert min(times) < IMPORT_LIMIT_S
    assert not {"numpy", "PIL", "onnxruntime", "pyvips", "click"} & set(modules[0])


def test_every_module_of_the_runtime_and_of_the_applications_imports(bare: BareEnvironment) -> None:
    code = (
        "import importlib, pkgutil, srflow_apps, srflow_sdk\n"
        "names = [module.name for package in (srflow_sdk, srflow_apps)"
        " for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(*names)"
    )
    assert {"srflow_apps.commands.cli", "srflow_sdk.upscaler", "srflow_sdk.backends.ort"} <= set(
        python(bare, code).split()
    )


def test_upscale_enlarges_a_real_photo_with_the_embedded_model(
    bare: BareEnvironment, tmp_path: Path
) -> None:
    Image.open(PHOTO).crop((60, 40, 108, 80)).save(tmp_path / "photo.png")
    arguments = ["photo.png", "-o", "large.png", "--device", "cpu", "--quiet"]
    done = bare.run("srflow-upscale", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    small = Image.open(tmp_path / "photo.png")
    large = Image.open(tmp_path / "large.png")
    assert large.size == (4 * small.width, 4 * small.height)
    # The output shows this photo: reduced again, it is close to the input.
    reduced = large.resize(small.size, Image.Resampling.BICUBIC)
    differences = [
        abs(a - b) for a, b in zip(reduced.tobytes(), small.convert("RGB").tobytes(), strict=True)
    ]
    assert sum(differences) / len(differences) < 3


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["srflow-demo", "--port", "0"], "demo"),
        (["srflow-export", "--ckpt", str(PHOTO)], "export"),
        (["srflow-train", "--config", "x4-small", "--data", ".", "--out", "run"], "train"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_the_command(
    bare: BareEnvironment, tmp_path: Path, command: list[str], extra: str
) -> None:
    done = bare.run(*command, cwd=tmp_path)
    assert done.returncode == 1
    # A busy machine tells of its progress, too.
    [error] = [line for line in done.stderr.splitlines() if line != "preparing"]
    assert f'pip install "srflow-sdk[{extra}]"' in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", project()["scripts"])
def test_help_and_version_need_no_extra(bare: BareEnvironment, command: str) -> None:
    done = bare.run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    done = bare.run(command, "--version")
    assert (done.returncode, done.stdout) == (0, f"{command}, version {__version__}\n"), done.stderr


def test_doctor_finds_a_working_cpu_install_and_the_extras_absent(bare: BareEnvironment) -> None:
    done = bare.run("srflow-doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for name in ("embedded models", "ONNX Runtime", "upscale on CPU", "image files"):
        assert any(line.startswith(f"ok       {name}") for line in lines), done.stdout
    assert any(line.startswith("missing  srflow-export") and "torch" in line for line in lines)
    assert 'fix: pip install "srflow-sdk[export]"' in done.stdout


def test_a_runtime_without_its_files_is_one_line_that_names_the_doctor(
    bare: BareEnvironment, tmp_path: Path
) -> None:
    """As uninstalling one of two builds of ONNX Runtime leaves it."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from srflow_apps.commands.cli import upscale\nupscale([{str(PHOTO)!r}, '-o', 'a.png'])"
    )
    done = bare.run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "srflow-doctor" in done.stderr
    assert "Traceback" not in done.stderr
