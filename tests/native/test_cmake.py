from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.conftest import DEBIAN, NativeTree


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cpu", "asan"])
def test_preset_builds_and_passes_its_tests_from_a_fresh_clone(native_tree: NativeTree, preset: str) -> None:
    if not native_tree.found(preset, "GTest_DIR"):
        pytest.skip(f"GoogleTest is not installed: {DEBIAN}")
    native_tree.built(preset)
    assert "100% tests passed" in native_tree.run(["ctest", "--preset", preset])


def test_install_puts_the_library_under_lib(native_tree: NativeTree, ort_library: Path, tmp_path: Path) -> None:
    native_tree.run(["cmake", "--install", "build/cpu", "--prefix", str(tmp_path)])
    assert (tmp_path / "lib" / ort_library.name).is_file()
    assert (tmp_path / "include" / "srflow" / "srflow.h").is_file()


def test_without_onnxruntimes_headers_the_rest_is_configured_and_the_package_is_named(native_tree: NativeTree) -> None:
    nowhere = "-DOnnxRuntime_INCLUDE_DIR=OnnxRuntime_INCLUDE_DIR-NOTFOUND"
    hidden = "-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON"
    output = native_tree.run(
        ["cmake", "-S", ".", "-B", "build/bare", nowhere, "-DCMAKE_FIND_ROOT_PATH=/nonexistent",
         "-DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY", hidden]
    )  # fmt: skip
    assert "libsrflow_ort is left out" in output
    assert "libonnxruntime-dev" in output
    assert "libgtest-dev" in output
    native_tree.run(["cmake", "--build", "build/bare", "--target", "srflow_c_api"])


def test_a_folder_without_onnxruntimes_headers_is_named_and_the_rest_is_built(
    native_tree: NativeTree, tmp_path: Path
) -> None:
    given = f"-DOnnxRuntime_INCLUDE_DIR={tmp_path}"
    words = native_tree.run(["cmake", "-S", ".", "-B", "build/wrong_folder", given, "-DSRFLOW_TESTS=OFF"])
    said = " ".join(words.split())
    assert f"libsrflow_ort is left out: ONNX Runtime's headers were not found in {tmp_path}." in said
    assert "libonnxruntime-dev" in said
    native_tree.run(["cmake", "--build", "build/wrong_folder", "--target", "srflow_c_api"])
