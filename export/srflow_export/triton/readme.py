"""The README beside a repository: how to start a server with it, and how to ask it. Not inside: a server scans that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from srflow_export.triton.graph_models import engines_of
from srflow_sdk._version import __version__
from srflow_sdk.backends.native_library import PLUGINS
from srflow_sdk.model.bundle import Bundle

SERVER = "nvcr.io/nvidia/tritonserver:24.10-py3"
"""The container of the release with which the configs were loaded."""

_PLUGINS = "/opt/srflow/lib/libsrflow_trt_preload.so"  # the server's backend only opens it
_SDK_PLUGINS = "/opt/srflow/lib/libsrflow_trt.so"
_EXIT_SECONDS = 120


def readme_path(repository: Path) -> Path:
    """The README's name for a repository."""
    return repository.parent / f"{repository.name}.README.md"


def readme(served: Mapping[str, Bundle], repository: Path) -> str:
    """The README's text. served: the bundles by the names of the models for clients."""
    bundles, models = list(served.values()), list(served)
    of = ", ".join(f"`{each.manifest.name}` (×{each.manifest.scale}, {each.manifest.precision})" for each in bundles)
    flags = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models)]
    flags.append(f"--exit-timeout-secs={_EXIT_SECONDS}")
    plugins = any(map(_need_plugins, bundles))
    if plugins:
        flags.append(f"--backend-config=tensorrt,plugins={_PLUGINS}")
    mounts, variables = [_mount(repository)], []
    if plugins:
        folder = _PLUGINS.rpartition("/")[0]
        mounts.append(f"type=bind,source={folder},target={folder},readonly")
        variables = [f"--env {PLUGINS}={_SDK_PLUGINS}"]
    container = [*(f"--mount {shlex.quote(mount)}" for mount in mounts), *variables]
    return f"""# {repository.name}: models for NVIDIA Triton Inference Server

Written by srflow-export {__version__} from {of}.
The SDK runs the graphs inside `srflow_upscale`; the other models are for clients that want the graphs.
{_about_several(bundles)}{"".join(_about_engines(bundle) for bundle in bundles)}
## Start a server

The server's Python needs srflow-sdk, {__version__} or newer, and servers up to 24.10 need numpy 1: with numpy 2, their
answers would be empty. From a clone of srflow-sdk, a container in a folder of its own:

```
mkdir srflow-triton && python -m build --wheel --outdir srflow-triton path/to/srflow-sdk
cat > srflow-triton/Dockerfile <<'END'
FROM {SERVER}
COPY *.whl /tmp/
RUN pip install /tmp/*.whl "numpy<2"
END
docker build -t srflow-triton srflow-triton
docker run --rm --gpus all --shm-size=3g -p 8000:8000 -p 8001:8001 \\
  {_lines(container)} srflow-triton \\
  tritonserver --model-repository=/models {_lines(flags)}
```

With a server that is installed on the machine itself:

```
tritonserver --model-repository={shlex.quote(str(repository))} {_lines(flags)}
```

On a machine without a GPU, leave out `--gpus all` and add `--model-config-name=cpu`. On a GPU the SDK needs the same
packages as elsewhere (docs/install.md of srflow-sdk); without them it computes on the CPU.

A server that scans the repository (`--model-control-mode=poll`) takes every model in it, and every new version when it
is complete.

## Ask it

```python
import numpy as np, tritonclient.grpc as triton      # pip install "tritonclient[grpc]"
from PIL import Image

content = open("photo.jpg", "rb").read()
image = triton.InferInput("image_bytes", [1], "BYTES")
image.set_data_from_numpy(np.array([content], object))
seed = triton.InferInput("seed", [1], "INT64")
seed.set_data_from_numpy(np.array([7]))
answer = triton.InferenceServerClient("localhost:8001").infer("{models[-1]}", [image, seed])
Image.fromarray(answer.as_numpy("upscaled")[0]).save("large.png")
```

Other inputs, limits, and what else may be changed in `config.pbtxt`: docs/triton.md of srflow-sdk.
"""


def _about_several(bundles: Sequence[Bundle]) -> str:
    """Say how a client takes one of several models."""
    if len(bundles) == 1:
        return ""
    return (
        "Each model's name ends in its bundle's, as in `srflow_upscale-x4-photo`. `srflow-upscale --server` and "
        "`RemoteUpscaler`\ndraw each picture with an embedded model, as suits it, unless one is named.\n"
    )


def _mount(repository: Path) -> str:
    """Join the fields of docker's --mount: a line of CSV."""
    source = f"source={repository}"
    if "," in source or '"' in source:
        source = '"' + source.replace('"', '""') + '"'
    return f"type=bind,{source},target=/models"


def _lines(flags: list[str]) -> str:
    return " \\\n    ".join(flags)


def _about_engines(bundle: Bundle) -> str:
    record = engines_of(bundle)
    if record is None:
        return ""
    text = (
        f"\nThe engines in it run on GPUs of compute capability {', '.join(record.compute_capabilities)}, with "
        f"TensorRT {record.version} and no other version: take the container that has it, and let "
        "srflow-sdk[tensorrt] find it there."
    )
    if _need_plugins(bundle):
        text += (
            f" They need the plugin library (docs/native.md), here {_PLUGINS}; for the SDK, the very file that they "
            f"were built with: set {PLUGINS}={_SDK_PLUGINS}."
        )
    return text + "\n"


def _need_plugins(bundle: Bundle) -> bool:
    """True if an engine that the server may run has plugins."""
    return any(record.plugins for record in bundle.manifest.engines if record.runtime == "tensorrt")
