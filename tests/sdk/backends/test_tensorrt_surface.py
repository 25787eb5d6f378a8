"""The fakes offer nothing that the real libraries do not: what runs on them calls functions that
exist.

TensorRT-RTX and cuda-bindings import without a GPU. Of TensorRT there is a recording of its
bindings' names, beside the exporter's tests. It lacks what `RTX_ALONE` lists and IRuntimeConfig's
graphs and kernel cache, of which the backend makes use with TensorRT-RTX alone.
"""

import inspect
import json
import re
from pathlib import Path

import pytest

from ..backends import fake_gpu, fake_tensorrt
from .fake_gpu import FakeGpu

CLASSES = [
    "ExecutionContextAllocationStrategy",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "IPluginRegistry",
    "IRuntimeConfig",
    "Runtime",
]
RTX_ALONE = ["CudaGraphStrategy", "IRuntimeCache"]
RECORDED = json.loads(
    (Path(__file__).parents[2] / "export/engines/tensorrt_surface.json").read_text(encoding="utf-8")
)


def public(kind):
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", CLASSES + RTX_ALONE)
def test_the_library_has_every_name_that_the_fake_has(name):
    trt = pytest.importorskip("tensorrt_rtx")
    real = getattr(trt, name)
    for attribute, fake in public(getattr(fake_tensorrt, name)).items():
        assert hasattr(real, attribute), f"{name}.{attribute}"
        if inspect.isfunction(fake):
            wanted = list(inspect.signature(fake).parameters)
            assert wanted in signatures(getattr(real, attribute)), f"{name}.{attribute}{wanted}"


@pytest.mark.parametrize("version", list(RECORDED))
def test_tensorrt_has_them_too(version):
    for name in ("ICudaEngine", "IExecutionContext", "ILogger", "IPluginRegistry", "Runtime"):
        assert set(public(getattr(fake_tensorrt, name))) <= set(RECORDED[version][name]), name


def signatures(method):
    """Names of the arguments of a pybind11 method, for each overload."""
    lines = re.findall(rf"^(?:\d+\. )?{method.__name__}\((.*)\) -> ", method.__doc__, re.MULTILINE)
    bare = [re.sub(r"\[[^\]]*\]| = <[^>]*>| = \w+", "", line) for line in lines]
    return [[argument.partition(":")[0].strip() for argument in line.split(",")] for line in bare]


def test_names_of_types_and_modes_are_the_librarys():
    trt = pytest.importorskip("tensorrt_rtx")
    for name, dtype in fake_tensorrt._TYPES.values():
        assert trt.DataType.__members__[name].itemsize == dtype().itemsize
    assert {"INPUT", "OUTPUT"} <= set(trt.TensorIOMode.__members__)
    assert issubclass(type(trt.ILogger.ERROR), type(trt.ILogger.INTERNAL_ERROR))


def test_loggers_can_be_made_as_ours_is():
    from srflow_sdk.backends.tensorrt_engines.execution import EngineLog

    trt = pytest.importorskip("tensorrt_rtx")
    log = EngineLog(trt)
    log.logger.log(trt.ILogger.WARNING, "no matter")
    log.logger.log(trt.ILogger.ERROR, "Cuda Runtime\n(out of memory)")
    assert str(log.failure("it failed")) == "it failed: Cuda Runtime (out of memory)"


@pytest.mark.parametrize("name", fake_gpu.FUNCTIONS + fake_gpu.DRIVER_FUNCTIONS)
def test_cuda_has_every_function_that_the_fake_has(name):
    cuda = pytest.importorskip(
        "cuda.bindings." + ("driver" if name in fake_gpu.DRIVER_FUNCTIONS else "runtime")
    )
    heading = getattr(cuda, name).__doc__.splitlines()[0].replace("*", "")
    arguments = [
        part.partition(":")[0].split()[-1]
        for part in heading[heading.index("(") + 1 : -1].split(",")
        if part
    ]
    wanted = list(inspect.signature(getattr(FakeGpu, name)).parameters)[1:]
    assert wanted == arguments


@pytest.mark.parametrize(
    "kind",
    [
        fake_gpu.cudaError_t,
        fake_gpu.CUresult,
        fake_gpu.cudaMemcpyKind,
        fake_gpu.cudaStreamCaptureMode,
    ],
)
def test_constants_are_cudas(kind):
    cuda = pytest.importorskip("cuda.bindings.runtime")
    driver = pytest.importorskip("cuda.bindings.driver")
    real = getattr(driver if kind is fake_gpu.CUresult else cuda, kind.__name__)
    for member in kind:
        assert int(getattr(real, member.name)) == member.value
        assert getattr(real, member.name).name == member.name
    assert (cuda.cudaStreamNonBlocking, cuda.cudaEventDisableTiming) == (1, 2)
    assert int(cuda.cudaStream_t(5)) == 5  # how a stream is handed to the library


def test_cuda_without_a_driver_is_a_typed_error():
    """The real cuda-bindings, where there is no GPU."""
    from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu
    from srflow_sdk.errors import DeviceError
    from srflow_sdk.system.hardware import find_gpu

    pytest.importorskip("cuda.bindings.runtime")
    if find_gpu() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="cudaGetDeviceCount: "):
        CudaGpu.open()
