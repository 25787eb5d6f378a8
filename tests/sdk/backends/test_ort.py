import ctypes.util
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.backends import OnnxRuntimeBackend, native_library, open_backend
from srflow_sdk.backends.gate import photographs, picture
from srflow_sdk.backends.native_library import VARIABLE, check_native_library, find_native_library
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system import cache_folder
from tests.sdk.tiny_bundle import LEVELS, write_stub_bundle, write_tiny_bundle


def noise(batch, height=8, width=10):
    rng = np.random.default_rng(3)
    return {
        level: rng.standard_normal(
            (batch, channels, height * 4 >> level, width * 4 >> level), np.float32
        )
        for level, channels in LEVELS.items()
    }


@pytest.fixture
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


@pytest.fixture
def lr():
    return np.random.default_rng(2).random((1, 3, 8, 10), np.float32)


def test_one_encoding_serves_a_batch_of_noise(bundle, lr):
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        # any layout and float
        conditioning = backend.encode(np.asfortranarray(lr.astype(np.float64)))
        assert conditioning.nbytes == 8 * 10 * bundle.manifest.conditioning_bytes_per_pixel
        batch = noise(3)
        together = backend.sample(conditioning, batch, 0.7)
        assert together.shape == (3, 3, 32, 40)
        for index in range(3):
            alone = {
                level: np.asfortranarray(array[index : index + 1]) for level, array in batch.items()
            }
            np.testing.assert_allclose(
                backend.sample(conditioning, alone, 0.7)[0], together[index], atol=1e-6
            )


def test_a_cpu_runs_a_bfloat16_bundle_by_its_float32_graphs(tmp_path, lr):
    """ONNX Runtime has no convolution in bfloat16 there. Here the others would overflow."""
    pictures = {}
    for precision in ("bf16", "fp16"):
        target = write_tiny_bundle(
            tmp_path / precision, half_overflow=True, twins=True, precision=precision
        )
        with OnnxRuntimeBackend(Bundle.open(target), threads=1) as backend:
            pictures[precision] = backend.sample(backend.encode(np.ones_like(lr)), noise(1), 0.1)
    assert np.isfinite(pictures["bf16"]).all()
    assert not np.isfinite(pictures["fp16"]).all()


def test_use_outside_the_context_is_a_typed_error(bundle, lr):
    backend = OnnxRuntimeBackend(bundle, threads=1)
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)
    with backend, pytest.raises(DeviceError, match="already active"):
        backend.activate()
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)
    with backend:  # can be entered again
        backend.encode(lr)


def test_a_shape_that_the_graph_refuses_is_a_typed_error(bundle, lr):
    with (
        OnnxRuntimeBackend(bundle, threads=1) as backend,
        pytest.raises(DeviceError, match="failed"),
    ):
        backend.sample(backend.encode(lr), noise(1, height=10), 0.5)


def test_files_that_are_no_graphs_are_a_bundle_error(tmp_path):
    bundle = write_stub_bundle(tmp_path / "b.srflow")
    with pytest.raises(BundleError, match=r"encoder\.onnx is not a graph"):
        open_backend(bundle, device="cpu")


def test_cuda_that_is_not_there_is_a_device_error_with_the_fix(bundle, monkeypatch):
    with pytest.raises(DeviceError, match="srflow-doctor, which prints the commands"):
        open_backend(bundle, device="cuda")


def test_threads_are_at_most_the_cores(tiny_bundle, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    seen = []
    original = onnxruntime.InferenceSession

    def session(path, options, **rest):
        seen.append(options.intra_op_num_threads)
        return original(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with OnnxRuntimeBackend(Bundle.open(tiny_bundle), threads=99999):
        assert seen == [3, 3]


# Graphs in optimised form are kept in the user's cache, on Linux only.


linux = pytest.mark.skipif(sys.platform != "linux", reason="graphs are kept on Linux only")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def few_bytes_a_file():
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def drawn():
    """What the embedded model drew on a backend of its own, and the kept weights that the process
    had mapped."""
    bundle = Bundle.embedded()
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        # it may have others, of other tests' backends
        lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
        mapped = {line.split(maxsplit=5)[5] for line in lines if line.endswith("/weights.bin")}
        sr = picture(backend, photographs(2)[0][..., :16, :16], bundle.manifest)
        return sr, {path for path in mapped if path.startswith(os.environ["SRFLOW_CACHE_DIR"])}


def entries(folder):
    return sorted(folder.iterdir())


@linux
def test_the_second_process_maps_the_kept_weights_and_draws_the_same_bits(folder):
    first, _ = drawn()
    found = entries(folder)
    assert len(found) == 2  # encoder and sampler, and no leftovers
    second, mapped = drawn()
    np.testing.assert_array_equal(second, first)
    assert mapped == {str(entry / "weights.bin") for entry in found}
    assert entries(folder) == found


@linux
@pytest.mark.parametrize("damaged", ["weights.bin", "graph.onnx"])
def test_a_kept_graph_that_does_not_load_is_deleted_and_the_bundles_is_used(folder, damaged):
    first, _ = drawn()
    for entry in entries(folder):
        os.truncate(entry / damaged, 1000)
    without, mapped = drawn()
    np.testing.assert_array_equal(without, first)
    assert not mapped
    assert entries(folder) == []
    drawn()
    assert len(drawn()[1]) == 2


@linux
@pytest.mark.usefixtures("few_bytes_a_file")
def test_without_room_or_a_folder_nothing_is_kept_and_nobody_is_warned(folder, monkeypatch, caplog):
    assert np.isfinite(drawn()[0]).all()
    assert entries(folder) == []
    (folder.parent / "file").write_bytes(b"")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(folder.parent / "file"))
    assert np.isfinite(drawn()[0]).all()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@linux
def test_those_used_longest_ago_make_room(folder, monkeypatch):
    drawn()
    old = entries(folder)
    for age, entry in enumerate(old, start=1):
        os.utime(entry, (time.time() - age, time.time() - age))
    size = sum(file.stat().st_size for entry in old for file in entry.iterdir())
    monkeypatch.setattr(cache_folder, "MOST_BYTES", size)
    new = cache_folder.kept_folder("graphs", "another graph")
    assert new is not None
    with cache_folder.keeping(new) as part:
        (part / "graph.onnx").write_bytes(b"small")
    assert entries(folder) == sorted([old[0], new])


@linux
def test_what_a_killed_process_left_is_deleted_an_hour_later(folder):
    folder.mkdir(parents=True)
    for name, age in ((".old.part", 4000), (".new.part", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age, time.time() - age))
    drawn()
    assert [entry.name for entry in entries(folder) if entry.name.startswith(".")] == [".new.part"]


@linux
def test_an_inverter_whose_weights_lie_in_another_sampler_is_another_graph(folder, tmp_path):
    mine = Bundle.embedded("x2-small")
    changed = mine.file("sampler.onnx").read_bytes()
    shared = onnx.load(mine.file("inverter.onnx"), load_external_data=False).graph.initializer
    place = next(
        {entry.key: entry.value for entry in weight.external_data}
        for weight in shared
        if weight.external_data
    )
    start = int(place["offset"])
    length = int(place["length"])
    with staged_bundle(tmp_path / "other.srflow") as stage:
        for name in ("encoder.onnx", "inverter.onnx"):
            (stage.path / name).write_bytes(mine.file(name).read_bytes())
        (stage.path / "sampler.onnx").write_bytes(
            changed[:start] + bytes(length) + changed[start + length :]
        )
        stage.commit(mine.manifest)

    def latents(bundle):
        random = np.random.default_rng(0)
        with OnnxRuntimeBackend(bundle, threads=1) as backend:
            conditioning = backend.encode(random.random((1, 3, 16, 16), np.float32))
            return backend.invert(conditioning, random.random((1, 3, 32, 32), np.float32))[0][1]

    others = latents(Bundle.open(tmp_path / "other.srflow"))
    found = latents(mine)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(found, latents(mine))
    assert not np.array_equal(found, others)


# The native library: where it is looked for, and which files are refused.


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The package's folder for it."""
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(native_library.sys, "platform", "linux")
    (tmp_path / "native").mkdir()
    return tmp_path / "native"


def test_the_variable_comes_before_the_package_and_empty_means_none(beside, tmp_path, monkeypatch):
    assert find_native_library() is None
    (beside / "libsrflow_ort.so").touch()
    assert find_native_library() == beside / "libsrflow_ort.so"
    (tmp_path / "other.so").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.so"))
    assert find_native_library() == tmp_path / "other.so"
    monkeypatch.setenv(VARIABLE, "")
    assert find_native_library() is None


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("other.so", "only a whole path is taken"),
        ("../native/libsrflow_ort.so", "only a whole path is taken"),
        (
            "/nowhere/libsrflow_ort.so",
            r"no such file; build the library \(docs/native.md\), or unset",
        ),
    ],
)
def test_a_relative_path_or_no_file_is_refused_and_not_loaded(
    beside, tmp_path, monkeypatch, named, says
):
    """Otherwise whoever can write to the current folder could run code."""
    (tmp_path / "other.so").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(DeviceError, match=says):
        find_native_library()


def test_what_is_no_library_of_ours_is_refused(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(DeviceError, match=r"text\.so is not a usable library"):
        check_native_library(tmp_path / "text.so")
    other = ctypes.util.find_library("m")
    assert other is not None
    with pytest.raises(DeviceError, match="srflow_version"):
        check_native_library(Path(other))


@pytest.mark.parametrize("plugins", [True, False])
def test_only_bundles_with_plugins_ask_for_it(tmp_path, monkeypatch, plugins):
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow", plugins=plugins))
    monkeypatch.setenv(VARIABLE, "/nowhere/libsrflow_ort.so")
    backend = OnnxRuntimeBackend(bundle, device="cpu")
    if plugins:
        with pytest.raises(DeviceError, match="no such file"):
            backend.activate()
    else:
        backend.activate()
        backend.deactivate()
