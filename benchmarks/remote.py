"""What a server and its messages cost: the same picture and tile by gRPC, by HTTP, through shared memory, and here.

srflow-export --bundle srflow_sdk/models/x4-small.srflow --triton REPO     then start Triton on it, as its README says
python benchmarks/remote.py [--grpc 127.0.0.1:8001] [--http 127.0.0.1:8000] [--runs 9] [--size 64 176]

The server must be on this machine. If it serves another model than the embedded one, only tiles are compared; with one
that computes next to nothing, what remains is the cost of messages. Ways alternate, so that other work on the machine
hits all alike; medians are printed, and in parentheses how many times as long as the first way.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from tritonclient.utils import shared_memory

from srflow_sdk import Upscaler
from srflow_sdk.triton import RemoteUpscaler

MODEL = "srflow_upscale"
MEGABYTES = 1e6


def medians(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each way, which take turns; a first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, call in ways.items():
            begun = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def show(what: str, seconds: dict[str, float], first: str) -> None:
    """Print a line for each way."""
    print(what)
    for name, value in seconds.items():
        print(f"  {name:34} {1000 * value:7.1f} ms  ({value / seconds[first]:.2f})")


class SharedTile:
    """Asks for one tile through system shared memory: both tensors lie there, and messages are small."""

    def __init__(self, client: tritonclient.grpc.InferenceServerClient, tile: NDArray[np.float32], scale: int) -> None:
        self._client, self._tile = client, tile
        height, width, _ = tile.shape
        self._shape = (1, height * scale, width * scale, 3)
        size = 4 * int(np.prod(self._shape))
        self._regions = {}
        client.unregister_system_shared_memory()
        for name, length in (("srflow_in", tile.nbytes), ("srflow_out", size)):
            key = f"/{name}_{os.getpid()}"
            self._regions[name] = shared_memory.create_shared_memory_region(name, key, length)
            client.register_system_shared_memory(name, key, length)
        self._input = tritonclient.grpc.InferInput("tile", list(tile.shape), "FP32")
        self._input.set_shared_memory("srflow_in", tile.nbytes)
        self._output = tritonclient.grpc.InferRequestedOutput("tile_upscaled")
        self._output.set_shared_memory("srflow_out", size)

    def __call__(self) -> NDArray[np.float32]:
        shared_memory.set_shared_memory_region(self._regions["srflow_in"], [self._tile])
        self._client.infer(MODEL, [self._input, tau(tritonclient.grpc)], outputs=[self._output])
        return shared_memory.get_contents_as_numpy(self._regions["srflow_out"], np.float32, self._shape)

    def close(self) -> None:
        """Give the memory back."""
        self._client.unregister_system_shared_memory()
        for region in self._regions.values():
            shared_memory.destroy_shared_memory_region(region)


def tau(library: object) -> object:
    """The input tau."""
    tensor = library.InferInput("tau", [1], "FP32")
    tensor.set_data_from_numpy(np.array([0.8], np.float32))
    return tensor


def asked(
    library: object, client: object, name: str, value: NDArray[np.generic], output: str
) -> Callable[[], NDArray[np.generic]]:
    """One request of this input."""
    kind = {"float32": "FP32", "uint8": "UINT8", "object": "BYTES"}[value.dtype.name]

    def ask() -> NDArray[np.generic]:
        tensor = library.InferInput(name, list(value.shape), kind)
        tensor.set_data_from_numpy(value)
        wanted = library.InferRequestedOutput(output)
        return client.infer(MODEL, [tensor, tau(library)], outputs=[wanted]).as_numpy(output)

    return ask


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grpc", default="127.0.0.1:8001")
    parser.add_argument("--http", default="127.0.0.1:8000")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 176])
    arguments = parser.parse_args()
    by_grpc = tritonclient.grpc.InferenceServerClient(arguments.grpc)
    by_http = tritonclient.http.InferenceServerClient(arguments.http, network_timeout=600)
    photo = data.astronaut()
    with RemoteUpscaler(arguments.grpc) as remote, Upscaler("x4-small", device="cpu") as local:
        scale = remote.scale
        for size in arguments.size:
            image = np.ascontiguousarray(photo[:size, :size])
            tile = image.astype(np.float32) / 255
            shared = SharedTile(by_grpc, tile, scale)
            ways: dict[str, Callable[[], object]] = {
                "gRPC": asked(tritonclient.grpc, by_grpc, "tile", tile, "tile_upscaled"),
                "gRPC, shared memory": shared,
                "HTTP": asked(tritonclient.http, by_http, "tile", tile, "tile_upscaled"),
            }
            assert np.array_equal(ways["gRPC"](), shared())
            sent = tile.nbytes / MEGABYTES
            what = f"a tile of {size}×{size}: {sent:.2f} MB to the server, {sent * scale**2:.2f} MB back"
            show(what, medians(ways, arguments.runs), "gRPC")
            shared.close()
            if remote.bundle.model_sha256 != local.bundle.model_sha256:
                continue
            file = io.BytesIO()
            Image.fromarray(image).save(file, format="jpeg", quality=95)
            encoded = np.array([file.getvalue()], object)
            ways = {
                "tile, RemoteUpscaler": lambda image=image: remote.upscale(image, tau=0.8),
                "image": asked(tritonclient.grpc, by_grpc, "image", image, "upscaled"),
                "image_bytes (a JPEG)": asked(tritonclient.grpc, by_grpc, "image_bytes", encoded, "upscaled"),
                "here, Upscaler": lambda image=image: local.upscale(image, tau=0.8),
            }
            show(f"a picture of {size}×{size}", medians(ways, arguments.runs), "tile, RemoteUpscaler")


if __name__ == "__main__":
    main()
