"""The nodes. An IMAGE is a torch tensor, float32 N×H×W×C in [0, 1], and so is each answer, on the
CPU.

The pictures of a batch are drawn one by one; with several samples, all of the first picture come
first. Pictures with alpha keep it. Errors of the SDK are raised as they are: ComfyUI shows their
line at the node.

The models are on the CPU or GPU outside of ComfyUI's own management of memory. They stay open as
long as ComfyUI keeps what *Load* returned, and encodings as long as it keeps what *Encode*
returned.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from srflow_sdk import ArgumentError, Bundle, CancelledError, Encoding, Upscaler

MODEL = "SRFLOW_MODEL"
ENCODING = "SRFLOW_ENCODING"
IMAGE = "IMAGE"
DEFAULT = "default"
NUMBER = "tau"
AUTO = "auto"
DEVICES = ["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]
POLL_S = 0.1  # between two looks at ComfyUI's Cancel button

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")

TAU = (
    "FLOAT",
    {
        "default": 0.7,
        "min": 0.0,
        "max": 2.0,
        "step": 0.05,
        "tooltip": "counts if temperature is tau",
    },
)
TEMPERATURE = {
    "temperature": (
        [DEFAULT, NUMBER, AUTO],
        {"tooltip": "default: the model's; tau: the number below; auto: less on flat areas"},
    ),
    "tau": TAU,
}
DRAWING = {
    **TEMPERATURE,
    "seed": ("INT", {"default": 0, "min": 0, "max": (1 << 64) - 1, "control_after_generate": True}),
    "samples": (
        "INT",
        {
            "default": 1,
            "min": 1,
            "max": 64,
            "tooltip": "different answers for each picture, a batch",
        },
    ),
    "consistent": (
        "BOOLEAN",
        {"default": False, "tooltip": "let the answer's reduction equal the input"},
    ),
}


class Node:
    """What the nodes share. ComfyUI makes an object of each and calls `run` with the inputs by
    name.
    """

    CATEGORY = "SRFlow"
    FUNCTION = "run"
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)


class Load(Node):
    """Opens a model."""

    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    DESCRIPTION = (
        "Opens an SRFlow model. auto: for each picture the one of the others that suits it."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        bundles = ["auto", *Bundle.embedded_names()]
        return {
            "required": {"bundle": (bundles,), "device": (DEVICES,)},
            "optional": {
                "path": (
                    "STRING",
                    {"default": "", "tooltip": "folder of a bundle, instead of those above"},
                )
            },
        }

    def run(self, bundle: str, device: str, path: str = "") -> tuple[Upscaler]:
        return (Upscaler(path.strip() or bundle, device=device),)


class Upscale(Node):
    """Draws large pictures of small ones."""

    DESCRIPTION = "Enlarges pictures ×4, with as many different answers as samples says."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model": (MODEL,), "image": (IMAGE,), **DRAWING}}

    def run(
        self, model: Upscaler, image: torch.Tensor, samples: int, **drawing: Any
    ) -> tuple[torch.Tensor]:
        options = draw_options(**drawing)

        def drawn(picture: torch.Tensor, watched: dict[str, Any]) -> list[torch.Tensor]:
            # Nothing is kept: each tile is encoded as it is drawn, where it can be cancelled.
            return model.encode(picture, memory_budget=0, **watched).samples(
                samples, **options, **watched
            )

        return (batch(for_each(pictures(image), drawn)),)


class Encode(Node):
    """Computes what depends on the picture alone."""

    RETURN_TYPES = (ENCODING,)
    RETURN_NAMES = ("encoding",)
    DESCRIPTION = "Computes what depends on the pictures alone, so that Sample draws again quickly."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model": (MODEL,), "image": (IMAGE,)}}

    def run(self, model: Upscaler, image: torch.Tensor) -> tuple[list[Encoding[Any]]]:
        return (
            for_each(pictures(image), lambda picture, watched: model.encode(picture, **watched)),
        )


class Sample(Node):
    """Draws large pictures of encoded ones: those of Upscale."""

    DESCRIPTION = "Enlarges encoded pictures: the answers of Upscale, at a fraction of its cost."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"encoding": (ENCODING,), **DRAWING}}

    def run(
        self, encoding: Sequence[Encoding[Any]], samples: int, **drawing: Any
    ) -> tuple[torch.Tensor]:
        options = draw_options(**drawing)
        return (
            batch(
                for_each(encoding, lambda one, watched: one.samples(samples, **options, **watched))
            ),
        )


class Restore(Node):
    """Removes noise and dots."""

    DESCRIPTION = "Removes noise and dots. The pictures keep their size."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        over = (
            ["auto", "spatial", "local", "global"],
            {"tooltip": "auto: what the picture shows; spatial: noise; local: dots"},
        )
        temperature = (
            [DEFAULT, NUMBER],
            {"tooltip": "default: what the picture shows; tau: less is smoother"},
        )
        return {
            "required": {
                "model": (MODEL,),
                "image": (IMAGE,),
                "over": over,
                "temperature": temperature,
                "tau": TAU,
            }
        }

    def run(
        self, model: Upscaler, image: torch.Tensor, over: Any, temperature: str, tau: float
    ) -> tuple[torch.Tensor]:
        limit = tau if temperature == NUMBER else None

        def restored(picture: torch.Tensor, watched: dict[str, Any]) -> list[torch.Tensor]:
            return [model.restore(picture, over=over, tau=limit, **watched)]

        return (batch(for_each(pictures(image), restored)),)


def draw_options(*, temperature: str, tau: float, **others: Any) -> dict[str, Any]:
    """The SDK's keywords for the inputs of DRAWING."""
    return {"tau": {DEFAULT: None, NUMBER: tau, AUTO: "auto"}[temperature], **others}


def pictures(image: torch.Tensor) -> list[torch.Tensor]:
    """The pictures of an IMAGE, H×W×C each. What other nodes left outside [0, 1] is clipped, as
    files of it would be.

    Raises: ArgumentError for another shape.
    """
    if image.ndim != 4 or not len(image):
        raise ArgumentError(
            f"image is a tensor of {'×'.join(map(str, image.shape))}; it must be N×H×W×C, as "
            "ComfyUI's IMAGE is"
        )
    return list(image.detach().cpu().float().clamp(0, 1))


def batch(drawn: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """The samples of all pictures as one IMAGE."""
    return torch.stack([sample for samples in drawn for sample in samples])


def for_each(
    items: Sequence[_ItemT], work: Callable[[_ItemT, dict[str, Any]], _ResultT]
) -> list[_ResultT]:
    """Call work(item, keywords) for each item, and return its results.

    keywords: `progress` and `cancel`, tied to ComfyUI's progress bar and Cancel button; none
        without ComfyUI.

    Raises: what ComfyUI raises to end a run, soon after somebody cancelled it.
    """
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ImportError:
        return [work(item, {}) for item in items]
    bar = ProgressBar(len(items))
    results: list[_ResultT] = []
    interrupts: list[BaseException] = []
    cancel = threading.Event()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            try:
                throw_exception_if_processing_interrupted()
            except (
                BaseException
            ) as interrupt:  # of ComfyUI's own class; it belongs in the node's thread
                interrupts.append(interrupt)
                cancel.set()
                return

    watcher = threading.Thread(target=watch, name="srflow-interrupt")
    watcher.start()
    try:
        with contextlib.suppress(CancelledError):
            for number, item in enumerate(items):

                def progress(done: int, total: int, before: int = number) -> None:
                    bar.update_absolute(before * total + done, len(items) * total)

                results.append(work(item, {"progress": progress, "cancel": cancel}))
                bar.update_absolute(number + 1, len(items))
                if cancel.is_set():
                    break
    finally:
        over.set()
        watcher.join()
    if interrupts:
        raise interrupts[0]
    return results


NODE_CLASS_MAPPINGS = {
    f"SRFlow{node.__name__}": node for node in (Load, Upscale, Encode, Sample, Restore)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    name: f"SRFlow {node.__name__}" for name, node in NODE_CLASS_MAPPINGS.items()
}
