"""Frames of a clip, upscaled one after the other so that what is drawn moves with the picture."""

from srflow_sdk.clips.frame_upscaler import FrameUpscaler

__all__ = ["FrameUpscaler"]
