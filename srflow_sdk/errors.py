"""Typed errors of the SDK. Every message is one line: what failed, why, and how to fix it.

    SRFlowError                  base of them all; catch it to catch every error
    ├── ArgumentError            also a ValueError
    ├── ImageError
    ├── BundleError
    ├── CheckpointError
    ├── ExportError
    ├── DeviceError
    │   └── OutOfMemoryError
    ├── NonFiniteError
    ├── CancelledError
    ├── RemoteError
    │   └── UnavailableError
    └── MissingExtraError

A failure inside a library such as Pillow, libvips, ONNX Runtime or TensorRT is raised as one of
these, with the library's error as its cause.
"""

from __future__ import annotations

import re

from srflow_sdk.plain_text import printable

# characters of a message: files that others wrote may hold endless names and values
_BEGINNING = 1500
_END = 500

_READ = 10_000  # characters at both ends that are looked at


class SRFlowError(Exception):
    """Base class of every error that the SDK raises on purpose.

    To show one to a user, print it: the message is always one line of at most some 2,000
    characters, without control characters, and without the passwords and queries of URLs.
    """

    def __init__(self, message: str) -> None:
        if len(message) > 2 * _READ:
            message = f"{message[:_READ]} … {message[-_READ:]}"
        line = printable(re.sub(r"\s*\n\s*", " ", message))
        super().__init__(
            line if len(line) <= _BEGINNING + _END else f"{line[:_BEGINNING]} … {line[-_END:]}"
        )


class ArgumentError(SRFlowError, ValueError):
    """An argument is out of range, has the wrong shape or type, or conflicts with another.

    Nothing was computed or written. Change the call: the message names the value and what is
    allowed.
    """


class ImageError(SRFlowError):
    """An image cannot be read, written or used.

    It is missing, damaged, of an unknown kind, too large, or the disk is full.

    It concerns one image; others may work. An older file at the target is unchanged, and no
    half-written file is left.
    """


class BundleError(SRFlowError):
    """A bundle is missing, damaged, changed, of a newer schema, or cannot be written.

    No other call with the same bundle will work. Fetch or export it again, or update the SDK, as
    the message says. A bundle that was to be replaced is unchanged.
    """


class CheckpointError(SRFlowError):
    """A checkpoint is missing, truncated, unsafe, or holds another architecture.

    No code in it was executed.

    Name another file, or save the network's state dict again. Raised in training and export, never
    by the runtime.
    """


class ExportError(SRFlowError):
    """An export or engine build failed, or computes something else than the checkpoint.

    No bundle was written, and an older one is unchanged. Another precision or tool version may
    work, as the message says. Raised only by the exporter.
    """


class DeviceError(SRFlowError):
    """A device cannot be used on this machine, failed, or computes a different picture.

    `device="cpu"` works wherever the SDK does; srflow-doctor says what else works, and what the
    rest needs.
    """


class OutOfMemoryError(DeviceError):
    """Memory ran out, on the device or the machine, even with the smallest tiles.

    Close other programs, use a smaller tile or image, or use another device. The same object can be
    used again.
    """


class NonFiniteError(SRFlowError):
    """The network gave NaN, infinite or absurdly large values, also in float32.

    A lower temperature usually helps; the message says where in the image it happened. Other images
    and seeds may work.
    """


class CancelledError(SRFlowError):
    """The caller's `cancel` event was set.

    Nothing was written. Not a failure: the same call can be made again.
    """


class RemoteError(SRFlowError):
    """A server failed, did not answer in time, or does not serve what this client needs.

    The message has its reason.

    What a server says of an argument, of an image or of its memory is raised as the error that
    :class:`Upscaler` raises for that.
    """


class UnavailableError(RemoteError):
    """A server cannot be reached, is stopping, or serves another model than before.

    It concerns every picture alike. Nothing of the current one is left; the same call works once
    the server is back.
    """


class MissingExtraError(SRFlowError):
    """An optional package is needed but not installed.

    The message has the pip command that installs it.
    """
