"""How the real cuda-bindings hands kernels to a driver, which here only prints what it gets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import cuda.bindings.driver as driver
import cuda.bindings.runtime as runtime
from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu, Launch, Stream

gpu = CudaGpu(runtime, driver, 0)
unload, (kernel,) = gpu.load(b"some PTX", "other")
stream = Stream(gpu, runtime.cudaStream_t(0x5555), None)
stream.start(Launch(kernel, (7, 2), ((1 << 64) - 1, 3, 0xABCDEF)))
unload()
"""


def test_a_kernel_reaches_the_driver_as_it_was_launched(tmp_path):
    pytest.importorskip("cuda.bindings.driver")
    if shutil.which("cc") is None:
        pytest.skip("cc is not on the PATH: install a C compiler")
    source = Path(__file__).with_name("driver_stub.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-w", "-o", tmp_path / "libcuda.so.1", source], check=True
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "load some PTX",
        "find other in 0x77",
        "launch 0x1005, grid 7 2 1, block 128 1 1, shared 0, stream 0x5555, arguments ffffffffffffffff 3 abcdef, extra 0",  # noqa: E501
        "unload 0x77",
    ]
