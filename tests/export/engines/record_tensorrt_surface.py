"""Write tensorrt_surface.json: which names TensorRT's Python module has, version by version.

    python tests/export/engines/record_tensorrt_surface.py [VERSION ...]

TensorRT's bindings are on PyPI, its libraries are not, and a machine without a GPU could not use them. To be imported,
the bindings need nine functions of the libraries; they are given empty ones, compiled here (a C compiler is needed).
That is enough to ask every class for its names, and for nothing else. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSIONS = ("10.15.1.29", "11.4.0.106")
TARGET = Path(__file__).with_name("tensorrt_surface.json")

CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "ILogger.Severity",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IPluginRegistry",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
)
FUNCTIONS = ("get_plugin_registry",)

_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_ASK = """
import functools, json, sys, tensorrt_bindings as trt
classes, functions = map(json.loads, sys.argv[1:])
public = lambda thing: sorted(name for name in dir(thing) if not name.startswith("_"))
found = {name: public(functools.reduce(getattr, name.split("."), trt)) for name in classes}
print(json.dumps({"": [name for name in public(trt) if name in classes + functions], **found}))
"""


def surface(version: str, folder: Path) -> dict[str, list[str]]:
    """Public names of each of CLASSES, and under "" those of the module that are among CLASSES and FUNCTIONS."""
    package = f"tensorrt-cu13-bindings=={version}"
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS), encoding="utf-8")
    for library in _LIBRARIES:
        name = f"lib{library}.so.{version.partition('.')[0]}"
        target = folder / "tensorrt_bindings" / name
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", target, source], check=True)
    asked = [sys.executable, "-c", _ASK, json.dumps(CLASSES), json.dumps(FUNCTIONS)]
    done = subprocess.run(asked, cwd=folder, check=True, capture_output=True, text=True)
    names: dict[str, list[str]] = json.loads(done.stdout)
    return names


def main(versions: tuple[str, ...]) -> None:
    """Record these versions, in place of what was there."""
    surfaces = {}
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            surfaces[version] = surface(version, Path(folder))
    # One class a line: a new version shows in a diff as what it changed.
    lines = ",\n".join(
        f" {json.dumps(version)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(names)}" for name, names in found.items())
        + "\n }"
        for version, found in surfaces.items()
    )
    TARGET.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or VERSIONS)
