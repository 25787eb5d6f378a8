"""One model on one server: what it is, and its answers for tiles."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.answers import MalformedError
from srflow_apps.serving.client.base_client import Address, Client, NotThereError, UnknownModelError
from srflow_apps.serving.client.grpc import GrpcClient
from srflow_apps.serving.client.http import NOT_HTTP, HttpClient
from srflow_apps.serving.client.message_sizes import Limits
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import ArgumentError, BundleError, RemoteError, UnavailableError
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions
from srflow_sdk.system.interruptible import cancelled_by
from srflow_sdk.system.raising import stop_if_set

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0
_HINT = "start the server, or check the name and port; Triton's ports are 8001 for gRPC and 8000 for http://"
_OTHER_PROTOCOL = {"grpc": ("Socket closed", "Failed parsing HTTP/2"), "http": (NOT_HTTP,)}
"""The clients' words for a port that speaks the other protocol."""

_T = TypeVar("_T")


class NoModelError(RemoteError):
    """The server has no such model."""


_log = logging.getLogger(__name__)


class Server:
    """A model of :mod:`srflow_apps.serving` on a server. Thread-safe.

    manifest, precision: the model's. limits: of messages.
    timeout: seconds that a call may take. retry_for: seconds for which a call is tried again while the server is
    unavailable; the first one, which opens it, is not.

    Raises: ArgumentError, MissingExtraError, UnavailableError if it cannot be reached, NoModelError.
    """

    def __init__(
        self, address: Address, model: str, *, timeout: float, retry_for: float, max_message_bytes: int
    ) -> None:
        self.address = address
        self.model = model
        self._retry_for = retry_for
        make = GrpcClient if address.protocol == "grpc" else HttpClient
        self._client: Client = make(address, timeout=timeout, max_message_bytes=max_message_bytes)
        try:
            self.manifest, options = self._described(self._usable(self._parameters))
            self.precision = options.precision
            self.limits = Limits(
                message_bytes=max_message_bytes,
                tile_pixels=options.max_tile_pixels,
                answer_bytes=options.max_answer_bytes,
                samples=options.max_samples,
                scale=self.manifest.scale,
                multiple=self.manifest.size_multiple,
                halo=self.manifest.halo,
            )
        except NotThereError as error:
            self.close()
            raise UnavailableError(_unreachable(address, str(error))) from error
        except UnknownModelError as error:
            others = self._others()
            self.close()
            raise NoModelError(f"{address} has no model {model!r}{others}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. Closing twice is harmless."""
        self._client.close()

    def draw(
        self,
        lr: NDArray[np.float32],
        window: Window,
        tau: float | NDArray[np.float32],
        *,
        seed: int,
        samples: range,
        cancel: threading.Event | None,
    ) -> NDArray[np.float32]:
        """Samples of a tile, all of its window: float32 n×sh×sw×3, sRGB, not clipped.

        lr: the window, float32 3×h×w in [0, 1]. tau: a number, or a map h×w. It is tried again while the server is
        unavailable.

        Raises: UnavailableError, also if the server has another model now; RemoteError; CancelledError; ArgumentError,
        OutOfMemoryError, NonFiniteError and ImageError if the server says so.
        """
        inputs: dict[str, NDArray[Any]] = {
            "tile": np.ascontiguousarray(lr.transpose(1, 2, 0)),
            "origin": np.array([window.top, window.left], np.int64),
            "seed": np.array([seed], np.int64),
            "sample": np.array([samples.start], np.int64),
            "samples": np.array([len(samples)], np.int32),
        }
        if isinstance(tau, np.ndarray):
            inputs["tau_map"] = np.ascontiguousarray(tau)
        else:
            inputs["tau"] = np.array([tau], np.float32)
        scale = self.manifest.scale
        shape = len(samples), window.height * scale, window.width * scale, 3
        with cancelled_by(cancel):
            answer = self._persistent(lambda: self._client.infer(self.model, inputs, "tile_upscaled", shape), cancel)
            self._check_same_model(cancel)  # after the answer, so that one of another model is not used
        return answer

    def _check_same_model(self, cancel: threading.Event | None) -> None:
        found, options = self._described(self._persistent(self._parameters, cancel))
        if found.digest != self.manifest.digest:
            raise UnavailableError(
                f"{self.address} now serves another model as {self.model}: {found.name} (sha256 {found.digest[:12]}…) "
                f"instead of {self.manifest.name} (sha256 {self.manifest.digest[:12]}…); begin again"
            )
        if options.precision != self.precision:
            raise UnavailableError(
                f"{self.address} now draws in {options.precision} instead of {self.precision}; begin again"
            )

    def _persistent(self, ask: Callable[[], _T], cancel: threading.Event | None) -> _T:
        """The answer, also of a server that was away for a while. Raises: UnavailableError."""
        begun, pause, waiting = time.monotonic(), _FIRST_PAUSE_S, cancel or threading.Event()
        while True:
            try:
                return self._usable(ask)
            except (NotThereError, UnknownModelError) as error:  # it was there: the server stops, or loads it again
                gone = time.monotonic() - begun
                if gone + pause > self._retry_for:
                    tried = f" (tried for {gone:.0f} s)" if gone >= 1 else ""
                    raise UnavailableError(f"{self.address} is not available{tried}: {error}") from error
                if pause == _FIRST_PAUSE_S:
                    _log.warning("%s is not available: %s; trying again for %g s", self.address, error, self._retry_for)
            waiting.wait(pause)
            stop_if_set(cancel)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _usable(self, ask: Callable[[], _T]) -> _T:
        """The answer. Raises: RemoteError if it is malformed."""
        try:
            return ask()
        except MalformedError as error:
            raise RemoteError(f"{self.address} gave an answer that cannot be used: {error}") from error

    def _parameters(self) -> dict[str, str]:
        """The parameters of the model's config."""
        return self._client.parameters(self.model)

    def _others(self) -> str:
        """The models that there are, for an error."""
        try:
            names = self._usable(self._client.models)
        except (NotThereError, UnknownModelError, RemoteError):
            return ""
        return f"; its models are {', '.join(names[:20])}" if names else "; it has none that is ready"

    def _described(self, parameters: dict[str, str]) -> tuple[Manifest, ServingOptions]:
        """Read a config's parameters. Raises: RemoteError."""
        what = f"{self.model} on {self.address}"
        if MODEL_PARAMETER not in parameters:
            raise RemoteError(f"{what} is not a model that upscales pictures; name srflow_upscale, or one like it")
        try:
            return Manifest.from_description(parameters[MODEL_PARAMETER]), ServingOptions.of_parameters(parameters)
        except BundleError as error:
            raise RemoteError(f"{what}: {error}") from error
        except ArgumentError as error:
            raise RemoteError(f"the config of {what} cannot be used: {error}") from error


def _unreachable(address: Address, why: str) -> str:
    if any(sign in why for sign in _OTHER_PROTOCOL[address.protocol]):
        spoken, other, scheme = ("gRPC", "HTTP", "http") if address.protocol == "grpc" else ("HTTP", "gRPC", "grpc")
        return (
            f"{address} does not speak {spoken} ({why}); if that is the {other} port, write {scheme}://{address.place}"
        )
    return f"{address} cannot be reached: {why}; {_HINT}"
