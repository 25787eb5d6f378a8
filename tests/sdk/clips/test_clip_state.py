from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.upscaler import Upscaler


@pytest.mark.parametrize("tau", [0.8, "auto"])
def test_another_upscaler_goes_on_after_the_last_frame(upscaler: Upscaler, tmp_path: Path, tau: float | str) -> None:
    y, x = np.mgrid[0:24, 0:32]
    frames = [np.rint(127 + 80 * np.sin((x + y + n) / 4))[..., None].repeat(3, 2).astype(np.uint8) for n in range(4)]
    first = FrameUpscaler(upscaler, tau=tau)
    assert first.state() == {}
    drawn = [first.draw(frame, number) for number, frame in enumerate(frames[:3])]
    np.savez(tmp_path / "state.npz", **first.state())
    drawn.append(first.draw(frames[3], 3))
    second = FrameUpscaler(upscaler, tau=tau)
    with np.load(tmp_path / "state.npz") as state:
        second.go_on(state)
    assert np.array_equal(second.draw(frames[3], 3), drawn[3])
    assert not np.array_equal(FrameUpscaler(upscaler, tau=tau, keyframes=3).draw(frames[3], 3), drawn[3])
