"""What a user's strictly typed program sees; checked by mypy (make lint), never run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

from srflow_sdk import Encoding, Report, Upscaler


def one_answer(up: Upscaler, pil: Image.Image, u8: NDArray[np.uint8], f32: NDArray[np.float32], path: Path) -> None:
    assert_type(up.upscale(pil), Image.Image)
    assert_type(up.upscale(u8, tau=0.5, seed=1), NDArray[np.uint8])
    assert_type(up.upscale(f32, tau=np.ones((3, 4)), consistent=True, cancel=threading.Event()), NDArray[np.float32])
    assert_type(up.upscale(path), Image.Image)
    assert_type(up.upscale("a.png", samples=1), Image.Image)
    assert_type(up.upscale(pil, reduce=None, report=False), Image.Image)
    assert_type(up.upscale(pil, report=True), tuple[Image.Image, Report])


def many_answers(up: Upscaler, pil: Image.Image, u8: NDArray[np.uint8], path: Path, count: int) -> None:
    assert_type(up.upscale(u8, samples=8), list[NDArray[np.uint8]] | Any)
    assert_type(up.upscale(path, samples=count), list[Image.Image] | Any)
    assert_type(up.upscale(u8, samples=8, reduce="mean"), NDArray[np.uint8])
    assert_type(up.upscale(pil, samples=8, reduce="std"), NDArray[np.float32])
    assert_type(up.upscale(pil, samples=8, reduce="mean", report=True), tuple[Image.Image, Report])
    assert_type(up.upscale(path, samples=8, report=True), tuple[list[Image.Image] | Any, Report])


def chosen_at_run_time(up: Upscaler, pil: Image.Image, flag: bool, how: Literal["mean", "std"] | None) -> None:
    up.upscale(pil, report=flag)
    up.upscale(pil, samples=3, reduce=how)


def encoded(up: Upscaler, pil: Image.Image, u16: NDArray[np.uint16]) -> None:
    encoding: Encoding[Image.Image] = up.encode(pil)
    assert_type(encoding.sample(tau=0.5), Image.Image)
    assert_type(encoding.sample(samples=8, reduce="std"), NDArray[np.float32])
    assert_type(up.encode(u16).sample(report=True), tuple[NDArray[np.uint16], Report])
    assert_type(up.encode("a.png").sample(), Image.Image)


def refused(up: Upscaler, pil: Image.Image) -> None:
    up.upscale(pil, tau="0.8")  # type: ignore[call-overload]
    up.upscale(3)  # type: ignore[call-overload]
    up.upscale(pil, samples=8, reduce="median")  # type: ignore[call-overload]
    Upscaler(device="tpu")  # type: ignore[arg-type]
