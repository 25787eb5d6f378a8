"""The client's entry point: :class:`RemoteUpscaler`, which draws with a model on a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srflow_apps.serving.client.address import Protocol, parse_address
from srflow_apps.serving.client.message_sizes import LEAST_MESSAGE_BYTES
from srflow_apps.serving.client.remote_painter import RemotePainter
from srflow_apps.serving.client.server import Server
from srflow_sdk._checks import real, whole
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.tiles import TileSize, check_tile
from srflow_sdk.encoding import Encoding
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import InMemoryImage, Tensor

MODEL = "srflow_upscale"
"""The name that srflow-export gives the model for clients."""

MAX_MESSAGE_BYTES = 8_000_000

_GRPC_BYTES = 1 << 31  # no message of gRPC has as many
LONGEST_S = 10_000_000.0
"""Longest time to wait, 116 days: with much longer ones a call by gRPC fails at once."""


class RemoteUpscaler(BaseUpscaler):
    """Super-resolution on a Triton server, which `srflow-export --triton` makes a repository for.

        with RemoteUpscaler("gpu-machine:8001") as upscaler:
            upscaler.upscale("photo.jpg").save("large.png")

    Pictures and files are read, cut into tiles, finished and written here, as :class:`Upscaler` does it; the server
    draws the tiles. With equal tiles the pictures are those of an Upscaler on the server's device, bit for bit;
    otherwise they differ by the halo's truncation.

    url: "host:port", "grpc://host:port" or "http://host:port"; without a port, Triton's own: 8001 and 8000. protocol:
    "grpc" or "http", for a URL that names none; None is gRPC. Connections are not encrypted.
    model: its name on the server.
    tile: as for :class:`Upscaler`, but "auto" takes the largest that fits a message, up to 512 pixels, and one that
    does not fit becomes smaller, with one warning.
    max_message_bytes: no request or answer is larger; what is beyond it is not read. Several samples are asked for at a
    time as far as they fit.
    timeout: seconds that the server may take for one tile, to the last byte of its answer. retry_for: how many seconds
    a server that is unavailable is tried again, after pauses that grow; only opening it fails at once. Other failures
    are not tried again.

    :attr:`bundle` has the manifest as far as the server tells it, and no files; :attr:`precision` is the server's own.
    `encode` keeps nothing encoded: each later call has its tiles encoded again. It has no `restore`, `transfer` and
    `log_likelihood`, and `Encoding.invert` and `Encoding.decode` raise RemoteError: they need the model here. Seeds and
    samples are below 2^63. An answer that the protocol does not allow is a RemoteError, and one whose values are not
    finite, or beyond ±65,504, a NonFiniteError.

    Thread-safe. Not to be used in a process that is forked after it was made.

    Raises: ArgumentError; MissingExtraError for gRPC without the extra `triton`; UnavailableError if the server cannot
    be reached; RemoteError if it has no such model. Every method raises these, and the errors of :class:`Upscaler`,
    which also stand for what the server says of arguments and of its memory. UnavailableError also says that the server
    has another model by now, so no picture is made with two.
    """

    def __init__(
        self,
        url: str,
        *,
        protocol: Protocol | None = None,
        model: str = MODEL,
        tile: TileSize = "auto",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        timeout: float = 120.0,
        retry_for: float = 30.0,
    ) -> None:
        address = parse_address(url, protocol)
        check_tile(tile)
        if not isinstance(model, str) or not model:
            raise ArgumentError(f"model is {model!r}; it must be the name of a model on the server")
        message_bytes = whole("max_message_bytes", max_message_bytes, least=LEAST_MESSAGE_BYTES, most=_GRPC_BYTES - 1)
        server = Server(
            address,
            model,
            timeout=real("timeout", timeout, least=0.001, most=LONGEST_S),
            retry_for=real("retry_for", retry_for, least=0, most=LONGEST_S),
            max_message_bytes=message_bytes,
        )
        bundle = Bundle(path=Path(model), manifest=server.manifest)
        super().__init__(bundle, RemotePainter(bundle, server, tile), tile)

    def _encoding(
        self, image: InMemoryImage | Tensor | EncodedImage, *, memory_budget: int, copied: bool = False
    ) -> Encoding[Any]:
        return super()._encoding(image, memory_budget=0, copied=copied)
