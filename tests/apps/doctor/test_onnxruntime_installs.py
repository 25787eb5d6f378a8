from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path

from srflow_apps.doctor.onnxruntime_installs import clashing, find_claims, fix_command


def distribution(
    site_packages: Path, name: str, version: str, files: list[str], *, present: bool = True
) -> Distribution:
    info = site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},sha256=abc,1\n" for file in files))
    for file in files if present else []:
        (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
        (site_packages / file).touch()
    return Distribution.at(info)


RUNTIME = ["onnxruntime/__init__.py", "onnxruntime/capi/state.so", "../../bin/onnxruntime_test"]


def test_one_distribution_is_no_clash(tmp_path: Path) -> None:
    claims = find_claims([distribution(tmp_path, "onnxruntime", "1.32.0", RUNTIME)])
    assert [(claim.name, claim.version, claim.missing) for claim in claims] == [("onnxruntime", "1.32.0", 0)]
    assert clashing(claims) == []


def test_any_two_distributions_of_the_folder_clash_and_others_do_not_matter(tmp_path: Path) -> None:
    found = [
        distribution(tmp_path, "onnxruntime", "1.32.0", RUNTIME),
        distribution(tmp_path, "onnxruntime_directml", "1.24.0", RUNTIME),
        distribution(tmp_path, "onnxruntime-extensions", "0.14", ["onnxruntime_extensions/__init__.py"]),
        distribution(tmp_path, "onnx", "1.23.2", ["onnx/onnxruntime/__init__.py"]),
    ]
    assert [str(claim) for claim in clashing(find_claims(found))] == [
        "onnxruntime 1.32.0",
        "onnxruntime-directml 1.24.0",
    ]


def test_the_same_name_in_two_places_is_no_clash(tmp_path: Path) -> None:
    found = [distribution(tmp_path / place, "onnxruntime", "1.32.0", RUNTIME) for place in ("venv", "user")]
    assert clashing(find_claims(found)) == []


def test_files_that_are_gone_are_counted(tmp_path: Path) -> None:
    cached = "onnxruntime/__pycache__/__init__.cpython-311.pyc"
    found = [distribution(tmp_path, "onnxruntime-gpu", "1.31.1", [*RUNTIME, cached], present=False)]
    assert find_claims(found)[0].missing == 2


def test_the_fix_removes_all_that_claim_the_name_and_installs_one(tmp_path: Path) -> None:
    claims = find_claims([distribution(tmp_path, "onnxruntime-directml", "1.24.0", RUNTIME)])
    assert fix_command(claims, keep="onnxruntime-gpu") == (
        "pip uninstall -y onnxruntime onnxruntime-directml onnxruntime-gpu && "
        "pip install --force-reinstall --no-deps onnxruntime-gpu"
    )
