"""Frames of a clip, upscaled so that what is drawn moves with the picture.

Latents cannot be moved: one of the coarsest level stands for 8×8 pixels, and shifted by less than a
whole latent pixel they draw other detail. So what was drawn is carried. A sample P of latents z has
a mirror image P' of latents -z. D = (P - P') / 2 is its detail, whose mean over z is 0, and B = P -
D its base, which no latents decide. Frame t shows

    B'_t + D'_t,   B'_t = g·warp(B'_{t-1}) + (1 - g)·B_t D'_t = a·warp(D'_{t-1}) + sqrt(1 - a²)·D_t
                    where a pixel was seen in the frame before, B'_t = B_t and D'_t = D_t
                           elsewhere, and everywhere at a keyframe,

with new latents z for each frame. From the one kind of place to the other, a and g fall to 0 within
an LR pixel. D' keeps the size of D, and what interpolation blurs is renewed. B' averages what the
LR frames say about the same place, each with pixels that lie otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import keywords_of, one_of, whole
from srflow_sdk.clips.optical_flow import gray, motion_between, opencv
from srflow_sdk.drawing.finishing import Finishing
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawKeywords, DrawOptions, make_request
from srflow_sdk.errors import ArgumentError
from srflow_sdk.pixels.in_memory import Floats, Pixels, to_unit, unpacked
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

LatentsOfClip = Literal["motion", "screen", "fresh"]
"""How the detail of a clip's frames is drawn: see :class:`FrameUpscaler`."""

_KEPT = 0.95  # a: each second of 25 frames renews most of the detail, too slowly to be seen
_BASE_KEPT = 0.6  # g: more flickers less, and blurs
_BAND = 128  # rows carried at a time, so that copies stay small


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A frame, as far as the next one depends on it.

    picture, with its detail in it: float32 sH×sW×3.
    """

    number: int
    shape: tuple[int, ...]
    gray: NDArray[np.uint8]
    picture: Floats
    detail: Floats


class FrameUpscaler:
    """Upscales a clip's frames in their order, so that sampled detail stays where it belongs.

    A keyframe is what :meth:`Upscaler.upscale` draws. With tau="auto" each place's temperature
    changes as slowly as its detail. Memory is that of six pictures in float32. Not thread-safe.

    Args:
        upscaler: With one model, or several of which `model` is one; it stays open.
        latents: "motion" carries what was drawn along the motion from frame to frame; "screen"
            draws every frame with the same latents, which look like dirt on a window once the
            picture moves; "fresh" draws each with others, those of sample = its number, and detail
            boils.
        keyframes: With "motion", frames whose numbers are multiples of this begin anew, as a frame
            after a cut does. So a run may start at any of them, and draws the same frames, bit for
            bit, on the same machine: :meth:`start`.
        model: The name of the upscaler's model that draws.
        **drawing: The keywords of :meth:`Upscaler.upscale`.

    Raises:
        ArgumentError: For other values.
        MissingExtraError: OpenCV is missing, for "motion" alone.

    Example:
        >>> clip = FrameUpscaler(Upscaler("x4-small"), seed=1)
        >>> large = [clip.draw(frame, number) for number, frame in enumerate(frames)]
    """

    def __init__(
        self,
        upscaler: Upscaler,
        *,
        latents: LatentsOfClip = "motion",
        keyframes: int = 240,
        model: str | None = None,
        **drawing: Unpack[DrawKeywords],
    ) -> None:
        one_of("latents", latents, LatentsOfClip)
        self._keyframes = whole("keyframes", keyframes, least=1)
        self._engine = upscaler.engine
        self._latents = latents
        self._options = keywords_of(DrawOptions, drawing)
        if self._options.wrap:
            raise ArgumentError("frames of clips cannot be wrapped; omit wrap")
        bundle = self._engine.bundles.get(model or "") or upscaler.bundle
        self._painter = self._engine.open_painter(bundle)
        self._last: _Frame | None = None
        if latents == "motion":
            opencv()

    def start(self, number: int) -> int:
        """The first frame that must be followed so that frame `number`, 0 or more, can be drawn.

        So must all after it.
        """
        number = whole("number", number, least=0)
        return number - number % self._keyframes if self._latents == "motion" else number

    def follow(self, frame: Pixels, number: int) -> None:
        """Take a frame into account as :meth:`draw` does, without giving it.

        With "motion" it costs nearly as much.
        """
        frame = self._check(frame, number)
        if self._latents == "motion":
            self._last = self._next(frame, number)

    def draw(self, frame: Pixels, number: int) -> Pixels:
        """Draw a frame. After an error it may be drawn again.

        Args:
            frame: H×W×3, or ×4 with alpha, sRGB, uint8 or uint16.
            number: Of the frame in its clip, from 0 on. With "motion" each is the last one's plus
                1, or a multiple of `keyframes`.

        Returns:
            sH×sW, of the frame's channels and dtype.

        Raises:
            ArgumentError: For other frames and after a gap; also the errors of
                :meth:`Upscaler.upscale`.
        """
        frame = self._check(frame, number)
        if self._latents != "motion":
            sample = number if self._latents == "fresh" else self._options.sample
            options = replace(self._options, sample=sample)
            encoded = self._engine.encode(frame, painter=self._painter)
            drawn: Pixels = encoded.draw_images(options)[0]
            return drawn
        manifest = self._painter.manifest
        state = self._next(frame, number)
        pixels, kind = unpacked(frame)
        lr = LowResolution.of(pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo)
        request = make_request(self._options, manifest, height=lr.height, width=lr.width)
        rows: list[Pixels] = []
        Finishing(lr, manifest, request).push(state.picture, rows.append)
        self._last = state
        return np.concatenate(rows)

    def state(self) -> dict[str, Any]:
        """Arrays and numbers by which another one, with the same options, goes on after this one.

        They are as large as eight frames that were drawn; empty without a last frame, or without
        "motion".
        """
        return {} if self._last is None else dict(vars(self._last))

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on after the frame at which :meth:`state` was taken.

        It may have been in a file of numpy meanwhile.
        """
        arrays = {each.name: np.asarray(state[each.name]) for each in fields(_Frame)}
        number = int(arrays.pop("number"))
        shape = tuple(map(int, arrays.pop("shape")))
        self._last = _Frame(number=number, shape=shape, **arrays)

    def _check(self, frame: Pixels, number: int) -> Pixels:
        whole("number", number, least=0, most=(1 << 64) - 1)
        frame = np.asarray(frame)
        shape = frame.shape
        if (
            frame.dtype not in (np.uint8, np.uint16)
            or not frame.size
            or shape[2:] not in ((3,), (4,))
        ):
            raise ArgumentError(
                f"a frame is {frame.dtype} {shape}; it must be an array H×W×3 or ×4 of uint8 or "
                "uint16, sRGB"
            )
        last = self._last
        if self._latents != "motion":
            return frame
        if number % self._keyframes and (last is None or number != last.number + 1):
            done = "none was" if last is None else f"the last was {last.number}"
            fix = f"follow them from {self.start(number)} on, in order"
            raise ArgumentError(f"frame {number} needs those before it, and {done}: {fix}")
        if last is not None and shape != last.shape:
            sizes = " pixels, and the last one ".join(
                f"{width}×{height}" for height, width, _ in (shape, last.shape)
            )
            raise ArgumentError(f"frame {number} has {sizes}: take another FrameUpscaler for it")
        return frame

    def _next(self, frame: Pixels, number: int) -> _Frame:
        # Many names: the frame and the one before it, by band, in memory that is used again.
        options = self._options
        last = self._last
        seen = gray(frame[..., :3])
        motion = None
        if last is not None and number % self._keyframes:
            motion = motion_between(last.gray, seen, height=frame.shape[0], width=frame.shape[1])
            motion = None if motion.is_cut else motion
        # A keyframe is drawn with the latents that were asked for, others with those of samples
        # that nobody asks for.
        sample = options.sample + (number << 32 if motion else 0)
        # what finishes a picture is done in `draw`, once
        plain = DrawOptions(
            tau=options.tau,
            seed=options.seed,
            sample=sample % (1 << 64),
            progress=options.progress,
            cancel=options.cancel,
        )
        encoded = self._engine.encode(to_unit(frame), draw=plain, painter=self._painter)
        drawn = encoded.draw(plain, mirrored=True)
        picture, detail = (np.ascontiguousarray(one[..., :3]) for one in drawn)
        np.subtract(picture, detail, out=detail)
        detail /= 2
        for top in range(0, len(picture), _BAND):
            if last is None or motion is None:
                break
            rows = slice(top, min(top + _BAND, len(picture)))
            (came, came_detail), seen_at = motion.carried(
                last.picture, last.detail, top=rows.start, bottom=rows.stop
            )
            base = picture[rows] - detail[rows]
            kept = _KEPT * seen_at
            base += _BASE_KEPT * seen_at * (came - came_detail - base)
            detail[rows] = kept * came_detail + np.sqrt(1 - kept**2) * detail[rows]
            np.add(base, detail[rows], out=picture[rows])
        return _Frame(number=number, shape=frame.shape, gray=seen, picture=picture, detail=detail)
