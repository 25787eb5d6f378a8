"""What goes wrong with OpenVINO: cancelled runs, memory, shapes, files, forks, wrong pictures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends import Backend, open_backend
from srflow_sdk.backends import openvino as graphs
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.errors import BundleError, CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.interrupts import cancelled_by

from .pictures import image, noise, picture, wrong

BOTH = pytest.mark.parametrize("both", [True, False])


@BOTH
def test_a_cancelled_run_ends_soon_and_the_next_gives_the_right_picture(both: bool) -> None:
    """OpenVINO leaves the shapes of a run that was cancelled in a part of its nodes."""
    embedded = Bundle.embedded()
    with OpenVinoBackend(embedded, threads=1, both=both) as backend:
        expected = picture(backend, embedded)
        encoder = backend._encoder
        assert encoder is not None
        event, started = threading.Event(), threading.Event()
        real = encoder._compiled

        def create() -> Any:
            started.set()
            return real.create_infer_request()

        encoder._compiled = types.SimpleNamespace(create_infer_request=create)
        ended: list[BaseException] = []

        def encode() -> None:
            try:
                with cancelled_by(event):
                    backend.encode(image(256, 256))
            except CancelledError as error:
                ended.append(error)

        thread = threading.Thread(target=encode)
        thread.start()
        assert started.wait(60)
        event.set()
        thread.join(60)
        assert len(ended) == 1
        np.testing.assert_array_equal(picture(backend, embedded), expected)


RUN_OUT = """
import resource, sys
import numpy as np
from srflow_sdk.backends import openvino
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.errors import OutOfMemoryError
small, large = (np.random.default_rng(0).random((1, 3, side, side), np.float32) for side in (16, 128))
with openvino.OpenVinoBackend(Bundle.embedded(), threads=1, both=bool(sys.argv[1])) as backend:
    def values(lr):
        found = backend.encode(lr).values.items()
        return {name: np.copy(value.numpy() if hasattr(value, "numpy") else value.data) for name, value in found}
    expected = values(small)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    free = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), free[1]))
    try:
        backend.encode(large)
    except OutOfMemoryError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_AS, free)
    found = values(small)
    print(all(np.array_equal(found[name], expected[name]) for name in expected))
    print(backend.encode(large).values.keys() == expected.keys())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space work on Linux")
@BOTH
def test_memory_that_runs_out_is_a_typed_error_and_the_next_run_is_right(both: bool) -> None:
    """OpenVINO itself returns empty results from infer(), and other results from the next run."""
    command = [sys.executable, "-c", RUN_OUT, "both" * both]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    message, same, larger = done.stdout.splitlines()
    assert message.startswith("encoding 128×128 on openvino failed: out of memory (")
    assert "use smaller tiles" in message
    assert (same, larger) == ("True", "True")


def test_freed_memory_is_returned_when_windows_change_their_size(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = []
    monkeypatch.setattr(graphs, "return_freed_memory", lambda: returned.append(1))
    with OpenVinoBackend(bundle, threads=1) as backend:
        for size in ((16, 20), (16, 20), (20, 16), (20, 16), (16, 20)):
            backend.encode(image(*size))
    assert len(returned) == 3


def test_a_runtime_without_memory_makes_the_other_keep_none(bundle: Bundle) -> None:
    with OpenVinoBackend(bundle, threads=1) as backend:
        real, asked = backend._encoder.run, []

        def run(*given: Any, scarce: bool) -> Any:
            asked.append(scarce)
            if len(asked) == 1:
                raise OutOfMemoryError("no memory")
            return real(*given, scarce=scarce)

        backend._encoder.run = run
        with pytest.raises(OutOfMemoryError):
            picture(backend, bundle)
        picture(backend, bundle)
        assert asked == [False, True]
        assert backend._scarce, "ONNX Runtime is asked to keep none"


def test_a_shape_that_the_graph_refuses_is_a_typed_error_in_one_line(bundle: Bundle, backend: Backend) -> None:
    with pytest.raises(DeviceError, match="sampling on openvino failed: ") as caught:
        backend.sample(backend.encode(image(8, 10)), noise(bundle, 10, 10), 0.5)
    assert "\n" not in str(caught.value)
    assert "Exception from" not in str(caught.value)
    picture(backend, bundle)


def test_files_that_are_no_graphs_are_a_bundle_error(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx is not a graph that OpenVINO can load: "):
        graphs.Graph(path, sha256="0", device="CPU", settings={})


FORKED = """
import os, sys
from srflow_sdk import DeviceError, Upscaler
import openvino
import numpy as np
image = np.zeros((16, 16, 3), np.uint8)
with Upscaler(device="openvino", threads=1) as up:
    up.upscale(image)
    openvino.Core = lambda: os._exit(3)  # a second one crashes some forked processes
    for again in (
        lambda: up.upscale(image),
        lambda: Upscaler(device="openvino", threads=1),
        lambda: Upscaler(precision="bf16", threads=1),
    ):
        child = os.fork()
        if child == 0:
            try:
                again()
            except DeviceError as error:
                os._exit(0 if "forked" in str(error) else 2)
            finally:
                os._exit(1)
        print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_refused_instead_of_waiting_for_ever() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "0", "0"], done.stderr


def test_without_the_package_the_error_has_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    graphs._core.cache_clear()
    with pytest.raises(DeviceError, match=r'OpenVINO is not installed: pip install "srflow-sdk\[openvino\]"'):
        open_backend(bundle, device="openvino")


def test_a_package_that_does_not_load_is_not_said_to_be_missing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("import openvino.not_there", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    graphs._core.cache_clear()
    with pytest.raises(DeviceError, match=r"OpenVINO does not load \(.*: pip install -U --force-reinstall openvino"):
        open_backend(bundle, device="openvino")
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        del sys.modules[name]
    graphs._core.cache_clear()


def test_a_wrong_picture_is_refused_and_the_fixes_name_the_cache(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    with pytest.raises(DeviceError, match=r"openvino computes a different picture from cpu ") as caught:
        open_backend(bundle, device="openvino")
    message = str(caught.value)
    assert f"delete {cache}, " in message
    assert "or update it: pip install -U openvino" in message
    assert "\n" not in message
