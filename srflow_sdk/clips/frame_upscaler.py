"""Frames of a clip, upscaled so that what is drawn moves with what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import one_of, whole
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.clips.moving_latents import MOST_KEYFRAMES, MovingLatents, Places, moved_places, on_levels, still_places
from srflow_sdk.clips.optical_flow import BackwardFlow, backward_flow, gray, opencv
from srflow_sdk.drawing.requests import DrawOptions, make_request, takes_draw_keywords
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.encoding import Encoding
from srflow_sdk.errors import ArgumentError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.requests import DrawKeywords

LatentsOfClip = Literal["motion", "screen", "fresh"]
"""Where the latents of a clip's frames come from: see :class:`FrameUpscaler`."""

_NEWS = 0.25
"""How much a frame's own temperatures count against those that came along its motion, with tau="auto"."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """A frame, as far as the next one depends on it. tau: the map H×W of the padded frame, or None for a number."""

    number: int
    keyframe: int
    gray: NDArray[np.uint8]
    shape: tuple[int, ...]
    places: dict[int, Places]
    tau: NDArray[np.float32] | None


class FrameUpscaler:
    """Upscales the frames of a clip in their order, so that detail that is sampled stays on what it belongs to.

    upscaler: with one model; it stays open.
    latents: "motion" carries each frame's latents along the motion from the frame before; "screen" draws every frame
        with the same latents, which look like dirt on a window once the picture moves; "fresh" draws each with others,
        sample = the frame's number, which boil.
    keyframes: with "motion", frames whose numbers are multiples of this, 1 … 8192, begin anew, and so does a frame
        after a cut. So a run may start anywhere, and draws the same frames, bit for bit, on the same machine:
        :meth:`start`.
    The other keywords are those of :meth:`Upscaler.upscale`. tau="auto" is smoothed along the motion. Every frame alone
    is a sample of the model: its latents are independent, and standard normal before tau. A keyframe is what
    :meth:`Upscaler.upscale` draws.

    Memory is that of one frame, and two numbers for each of its latent positions. Not thread-safe.

    Raises: ArgumentError; MissingExtraError without OpenCV, for "motion" alone.
    """

    @takes_draw_keywords
    def __init__(
        self,
        upscaler: BaseUpscaler,
        *,
        latents: LatentsOfClip = "motion",
        keyframes: int = 240,
        **drawing: Unpack[DrawKeywords],
    ) -> None:
        one_of("latents", latents, LatentsOfClip)
        self._keyframes = whole("keyframes", keyframes, least=1, most=MOST_KEYFRAMES)
        self._upscaler, self._latents, self._options = upscaler, latents, DrawOptions(**drawing)
        self._manifest = upscaler.bundle.manifest
        self._last: _State | None = None
        if latents == "motion":
            opencv()

    def start(self, number: int) -> int:
        """The first frame that must be followed or drawn, and all after it, so that `number` can be drawn."""
        number = whole("number", number, least=0)
        return number - number % self._keyframes if self._latents == "motion" else number

    def follow(self, frame: NDArray[Any], number: int) -> None:
        """Take a frame into account as :meth:`draw` does, without drawing it: it costs the motion alone."""
        self._checked(frame, number)
        if self._latents == "motion":
            self._last = self._next(self._encoding(frame), frame, number)[0]

    def draw(self, frame: NDArray[Any], number: int) -> NDArray[Any]:
        """Draw a frame: sH×sW×3, of the frame's dtype.

        frame: H×W×3, sRGB, uint8 or uint16.
        number: of the frame in its clip, from 0 on. With "motion" each is the last one's plus 1, or a multiple of
            `keyframes`.

        Raises: ArgumentError for other frames and after a gap, and the errors of :meth:`Upscaler.upscale`. After an
        error the frame may be drawn again.
        """
        self._checked(frame, number)
        if self._latents != "motion":
            sample = number if self._latents == "fresh" else self._options.sample
            drawn: NDArray[Any] = self._upscaler.upscale(frame, **replace(self._options, sample=sample).keywords)
            return drawn
        encoding = self._encoding(frame)
        state, temperature = self._next(encoding, frame, number)
        latents = MovingLatents(
            levels=self._manifest.latent_levels,
            places=state.places,
            temperature=temperature,
            seed=int(self._options.seed),
            sample=int(self._options.sample),
        )
        picture = encoding._of_latents(latents, self._options)
        self._last = state
        return picture

    def _checked(self, frame: NDArray[Any], number: int) -> None:
        whole("number", number, least=0, most=(1 << 64) - 1)
        if not isinstance(frame, np.ndarray) or frame.dtype not in (np.uint8, np.uint16):
            what = str(frame.dtype) if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ArgumentError(f"a frame is {what}; it must be an array H×W×3 of uint8 or uint16")
        if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ArgumentError(f"a frame has the shape {frame.shape}; it must be H×W×3, sRGB")
        last = self._last
        if self._latents != "motion":
            return
        if number % self._keyframes and (last is None or number != last.number + 1):
            done = "none was" if last is None else f"the last was {last.number}"
            raise ArgumentError(
                f"frame {number} needs those before it, and {done}: follow them from {self.start(number)} on, in order"
            )
        if last is not None and frame.shape != last.shape:
            sizes = [f"{shape[1]}×{shape[0]}" for shape in (frame.shape, last.shape)]
            raise ArgumentError(
                f"frame {number} has {sizes[0]} pixels, and the last one {sizes[1]}: take another FrameUpscaler for it"
            )

    def _encoding(self, frame: NDArray[Any]) -> Encoding[Any]:
        return self._upscaler._encoding(frame, memory_budget=0, cancel=self._options.cancel)

    def _next(self, encoding: Encoding[Any], frame: NDArray[Any], number: int) -> tuple[_State, Temperature]:
        """The state after a frame, and the frame's temperature."""
        lr, manifest, last = encoding._lr, self._manifest, self._last
        levels, scale, seen = manifest.latent_levels, manifest.scale, gray(frame)
        temperature = make_request(self._options, manifest, height=lr.height, width=lr.width).temperature
        auto = temperature.auto
        temperature = temperature.for_rows(lr, 0, lr.padded_height)
        tau = (
            temperature.within(Window(top=0, left=0, height=lr.padded_height, width=lr.padded_width)) if auto else None
        )
        found = None
        if number % self._keyframes and last is not None:
            found = backward_flow(last.gray, seen, height=lr.height, width=lr.width)
        if found is None or found.is_cut or last is None:
            sides = {
                entry.level: [side * scale >> entry.level for side in (lr.padded_height, lr.padded_width)]
                for entry in levels
            }
            places, keyframe = {level: still_places(*size) for level, size in sides.items()}, number
        else:
            keyframe = last.keyframe
            motion = on_levels(found, levels, scale=scale, multiple=manifest.size_multiple)
            places = {
                level: moved_places(last.places[level], moved.flow, moved.seen, age=number - keyframe)
                for level, moved in motion.items()
            }
            if isinstance(tau, np.ndarray) and last.tau is not None:
                tau = _smoothed(tau, last.tau, found)
        tau = tau if isinstance(tau, np.ndarray) else None
        state = _State(number=number, keyframe=keyframe, gray=seen, shape=frame.shape, places=places, tau=tau)
        return state, temperature if tau is None else temperature.mapped(tau)


def _smoothed(tau: NDArray[np.float32], before: NDArray[np.float32], found: BackwardFlow) -> NDArray[np.float32]:
    """A map of temperatures, drawn towards the last frame's at the places where its pixels were."""
    height, width = found.seen.shape
    y, x = np.floor(np.indices((height, width)) + found.flow + 0.5).astype(np.intp)
    inside = found.seen & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    came = before[np.where(inside, y, 0), np.where(inside, x, 0)]
    smoothed: NDArray[np.float32] = tau.copy()
    part = smoothed[:height, :width]
    part[inside] += np.float32(1 - _NEWS) * (came - part)[inside]
    return smoothed
