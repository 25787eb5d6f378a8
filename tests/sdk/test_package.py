from __future__ import annotations

import pydoc
import subprocess
import sys

import pytest

import srflow_sdk

HEAVY = ("numpy", "PIL", "onnxruntime", "pyvips", "torch", "onnx", "click")


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import srflow_sdk").intersection(HEAVY)


def test_an_upscaler_is_imported_without_torch_onnx_or_the_runtimes() -> None:
    loaded = modules_after("from srflow_sdk import Upscaler")
    assert "numpy" in loaded
    assert not loaded.intersection({"torch", "onnx", "onnxruntime", "pyvips", "click"})


@pytest.mark.parametrize("name", srflow_sdk.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(srflow_sdk, name).__name__ == name
    assert name in dir(srflow_sdk)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="Upscalar"):
        _ = srflow_sdk.Upscalar


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert srflow_sdk.__version__ == version("srflow-sdk")


def test_dir_shows_public_names_alone_and_help_fits_two_screens() -> None:
    assert set(dir(srflow_sdk)) == {*srflow_sdk.__all__, "__version__"}
    text = pydoc.render_doc(srflow_sdk.Upscaler, renderer=pydoc.plaintext)
    assert len(text.splitlines()) <= 2 * 70
