"""Typed errors of the SDK. Every message is one line: what failed, why, and how to fix it.

    SRFlowError                  all of them; whoever catches one class catches this
    ├── ArgumentError            also a ValueError
    ├── ImageError
    ├── BundleError
    ├── CheckpointError
    ├── ExportError
    ├── DeviceError
    │   └── OutOfMemoryError
    ├── NonFiniteError
    ├── CancelledError
    └── MissingExtraError

What fails in a library below, such as Pillow, libvips, ONNX Runtime or TensorRT, comes as one of these, with the
library's error as its cause.
"""

from __future__ import annotations

import re


class SRFlowError(Exception):
    """Base of every error that this software raises on purpose.

    To show one to a user, print it: the message is one line, whatever it was made from.
    """

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s*\n\s*", " ", message))


class ArgumentError(SRFlowError, ValueError):
    """A value that a caller passed is out of range, of the wrong shape or type, or does not go with another.

    Nothing was computed or written. The call has to change: the message names the value and what is allowed.
    """


class ImageError(SRFlowError):
    """An image cannot be read, written or used: no such file, damaged, of an unknown kind, too large, a full disk.

    It is about one image: others may go on. What was at the target is as it was, and nothing half written is left.
    """


class BundleError(SRFlowError):
    """A bundle is missing, damaged, changed since its export, or of a newer schema; or it cannot be written.

    No other call with the same bundle works. Fetch or export it again, or update the SDK, as the message says. One that
    was to be replaced is as it was.
    """


class CheckpointError(SRFlowError):
    """A checkpoint is missing, truncated, unsafe, or holds another architecture; nothing in it was executed.

    Name another file, or save the network's state dict again. Raised in training and export, never by the runtime.
    """


class ExportError(SRFlowError):
    """An export or an engine's build failed, or what it made does not compute what the checkpoint's network does.

    No bundle was written, and an older one is as it was. Another precision or version of a tool may do, as the message
    says. Raised by the exporter alone.
    """


class DeviceError(SRFlowError):
    """A device or execution provider cannot be used on this machine, failed, or computes another picture.

    `device="cpu"` works wherever the SDK does; srflow-doctor says what else, and what is missing for the rest.
    """


class OutOfMemoryError(DeviceError):
    """The memory of a device, or of the machine, ran out, with the smallest tiles too where tiles were possible.

    Close other programs, name a smaller tile or image, or use another device. The same object may be used again.
    """


class NonFiniteError(SRFlowError):
    """The network gave NaN or infinite values, in float32 too where the bundle has such graphs.

    A lower temperature mostly helps; the message says where in the image it was. Other images and seeds may go on.
    """


class CancelledError(SRFlowError):
    """The caller's own `cancel` asked to stop; nothing was written. Not a failure: the same call may be made again."""


class MissingExtraError(SRFlowError):
    """An optional part of the installation is needed and absent; the message has the pip command that brings it."""
