from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path

import pytest

from srflow_apps.doctor import examination
from srflow_apps.doctor.examination import only_runtime, runtimes

RUNTIME = ["onnxruntime/__init__.py", "onnxruntime/capi/state.so", "../../bin/onnxruntime_test"]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds of ONNX Runtime, and packages whose files only look like theirs."""
    files = {
        "onnxruntime": RUNTIME,
        "onnxruntime_directml": RUNTIME,
        "onnxruntime-extensions": ["onnxruntime_extensions/__init__.py"],
        "onnx": ["onnx/onnxruntime/__init__.py"],
    }
    found = []
    for name, names in files.items():
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "RECORD").write_text("".join(f"{file},sha256=abc,1\n" for file in names))
        found.append(Distribution.at(info))
    monkeypatch.setattr("importlib.metadata.distributions", lambda: found)


def test_distributions_that_own_the_folder_are_found_and_others_do_not_matter() -> None:
    assert runtimes() == ["onnxruntime 1.2", "onnxruntime-directml 1.2"]


def test_the_fix_removes_all_that_claim_the_name_and_installs_one() -> None:
    assert only_runtime("onnxruntime-gpu") == (
        "pip uninstall -y onnxruntime onnxruntime-directml onnxruntime-gpu && "
        "pip install --force-reinstall --no-deps onnxruntime-gpu"
    )


def broken() -> dict[str, str]:
    raise RuntimeError("it has no InferenceSession")


@pytest.mark.parametrize(
    ("owners", "says", "fix"),
    [
        ([], "not installed: it has no", "pip install onnxruntime"),
        (["onnxruntime 1.2"], "onnxruntime 1.2 is installed and broken", "--no-deps onnxruntime"),
        (["onnxruntime 1.2", "onnxruntime-gpu 1.3"], "overwrite each other's files; import", "--no-deps onnxruntime"),
    ],
)
def test_a_runtime_that_does_not_import_is_told_what_is_wrong_and_the_command(
    monkeypatch: pytest.MonkeyPatch, owners: list[str], says: str, fix: str
) -> None:
    monkeypatch.setattr(examination, "runtime", broken)
    monkeypatch.setattr(examination, "graphics", broken)
    monkeypatch.setattr(examination, "runtimes", lambda: owners)
    state, detail, first, second = examination.PARTS["ONNX Runtime"]()
    assert (state, says in detail, first[0]) == (examination.PROBLEM, True, "for the CPU")
    assert first[1].endswith(fix)
    assert second[1].endswith(f"{fix}-gpu")
