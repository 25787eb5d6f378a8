"""What a user's strictly typed program sees; checked by mypy and pyright (make lint), never run."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

from srflow_sdk import (
    AsyncEncoding,
    AsyncUpscaler,
    Bundle,
    Encoding,
    FileResult,
    FolderFile,
    FolderResult,
    Latents,
    OutputSize,
    Upscaler,
    lr_psnr,
    upscale_folder,
)
from srflow_sdk.triton import RemoteUpscaler


def one_picture(
    up: Upscaler, pil: Image.Image, u8: NDArray[np.uint8], f32: NDArray[np.float32], path: Path
) -> None:
    assert_type(up.upscale(pil), Image.Image)
    assert_type(up.upscale(u8, tau=0.5, seed=1), NDArray[np.uint8])
    assert_type(
        up.upscale(f32, tau=np.ones((3, 4)), consistent=True, cancel=threading.Event()),
        NDArray[np.float32],
    )
    assert_type(up.upscale(path, sample=3), Image.Image)
    assert_type(up.upscale(pil, scale=OutputSize(width=3840)), Image.Image)
    with path.open("rb") as file:
        assert_type(up.upscale(file, tau=0.5), Image.Image)
    assert_type(lr_psnr(up.upscale(pil), pil), float)


def served(pil: Image.Image, u8: NDArray[np.uint8], path: Path) -> None:
    with RemoteUpscaler("gpu:8000", timeout=60) as up:
        assert_type(up, RemoteUpscaler)
        assert_type(up.upscale(pil, tau="auto"), Image.Image)
        assert_type(
            up.encode(u8, layout="chw", cancel=threading.Event()).samples(4),
            list[NDArray[np.uint8]],
        )
        assert_type(up.upscale_file(path, "large.png"), FileResult)
        assert_type(upscale_folder(path, "large", upscaler=up), FolderResult)


def transferred(
    up: Upscaler, pil: Image.Image, u8: NDArray[np.uint8], mask: NDArray[np.bool_], path: Path
) -> None:
    assert_type(up.transfer(pil, path, mask), Image.Image)
    assert_type(
        up.transfer(u8, pil, "mask.png", lr=u8, blend="none", tau={1: 0.8}, seed=2),
        NDArray[np.uint8],
    )
    assert_type(
        up.transfer_file(path, "b.png", "mask.png", "out.png", lr=path, quality=None), FileResult
    )


def tensors(up: Upscaler, tensor: torch.Tensor) -> None:
    assert_type(up.upscale(tensor, tau=0.5, layout="chw"), torch.Tensor)
    assert_type(lr_psnr(tensor, tensor), float)


async def awaited(pil: Image.Image, u8: NDArray[np.uint8], path: Path) -> None:
    async with AsyncUpscaler(at_once=1) as up:
        assert_type(await up.upscale(pil, tau=0.5), Image.Image)
        assert_type(await up.upscale(u8, progress=lambda done, total: None), NDArray[np.uint8])
        assert_type(await up.upscale_file(path, "large.png", quality=80, seed=1), FileResult)
        encoding: AsyncEncoding[Image.Image] = await up.encode(pil)
        assert_type(await encoding.samples(3), list[Image.Image])
        assert_type(await encoding.std(2), NDArray[np.float32])
        assert_type(
            await encoding.decode(await encoding.invert(u8, dequantise=True), consistent=True),
            Image.Image,
        )
        assert_type(await up.restore(u8, tau=0.9, over="local"), NDArray[np.uint8])
        assert_type(await up.transfer(pil, path, "mask.png", lr=u8, blend="none"), Image.Image)
        assert_type(
            await up.best_of(u8, lambda picture: float(picture.std()), 4, tau=0.9),
            NDArray[np.uint8],
        )
        assert_type(await up.log_likelihood(pil, u8), float)


def encoded(up: Upscaler, pil: Image.Image, u16: NDArray[np.uint16], count: int) -> None:
    encoding: Encoding[Image.Image] = up.encode(pil)
    assert_type(encoding.sample(tau=0.5), Image.Image)
    assert_type(encoding.samples(count, seed=3), list[Image.Image])
    assert_type(encoding.mean(8), Image.Image)
    assert_type(encoding.std(8, tau=0.9), NDArray[np.float32])
    deep = up.encode(u16, memory_budget=0)
    assert_type(deep, Encoding[NDArray[np.uint16]])
    assert_type(deep.samples(2), list[NDArray[np.uint16]])
    assert_type(deep.mean(2, consistent=True), NDArray[np.uint16])


def files(up: Upscaler, path: Path) -> None:
    result = up.upscale_file(
        path, ["a.png", path], tau=0.5, report=True, progress=lambda done, total: None
    )
    assert_type(result, FileResult)
    assert_type(result.outputs[0].lr_psnr, float | None)


def restored(up: Upscaler, pil: Image.Image, u8: NDArray[np.uint8], path: Path) -> None:
    assert_type(up.restore(pil, tau=0.9, over="local"), Image.Image)
    assert_type(up.restore(u8, tau={1: 0.9}), NDArray[np.uint8])
    assert_type(up.restore_file(path, "clean.png", quality=90, over="spatial"), FileResult)
    assert_type(up.best_of(u8, lambda picture: float(picture.std()), 4, tau=0.9), NDArray[np.uint8])
    assert_type(up.upscale_many([u8, u8]), list[NDArray[np.uint8]])
    assert_type(up.upscale_many(u8), NDArray[np.uint8])
    up.restore(pil, over="everywhere")  # type: ignore[call-overload]


def latents(
    up: Upscaler, bundle: Bundle, array: NDArray[np.float32], mask: NDArray[np.bool_]
) -> None:
    one = Latents(
        {1: array}, height=90, width=70, model_sha256=bundle.model_sha256, log_likelihood=3.5
    )
    assert_type(one.levels[1], NDArray[np.float32])
    assert_type(one.bits_per_dimension, float | None)
    assert_type(one.scaled({1: 0.5}).normalised(0.9, over="local", where=mask), Latents)
    one.save("a.safetensors")
    assert_type(Latents.load(Path("a.safetensors"), model=up), Latents)


def folders(up: Upscaler, path: Path) -> None:
    heard: list[FolderFile] = []
    result = upscale_folder(
        [path, "b"], "large", upscaler=up, tau=0.5, format="jpg", on_file=heard.append
    )
    assert_type(result, FolderResult)
    assert_type(result.files[0].outputs[0].sha256, str | None)


def opened() -> None:
    Upscaler("model.srflow", tile=64, device="cpu", threads=2)
    with Upscaler(tile="auto") as up:
        assert_type(up, Upscaler)
        assert_type(up.scale, int)


def refused(up: Upscaler, pil: Image.Image) -> None:
    up.upscale(pil, tau="0.8")  # type: ignore[call-overload]
    up.upscale(pil, reduction="nearest")  # type: ignore[call-overload]
    up.upscale(np.zeros((3, 4, 3), np.int64))  # type: ignore[type-var]
    up.upscale(pil, samples=8)  # type: ignore[call-overload]
    up.encode(pil).mean(8, reduce="std")  # type: ignore[call-arg]
    Latents.load("a.safetensors", model="x4-small")  # type: ignore[arg-type]
    Upscaler(device=1)  # type: ignore[arg-type]
    upscale_folder("photos", "large", format="bmp")  # type: ignore[arg-type]
