"""Asks srflow_upscale with NVIDIA's client, over gRPC; RemoteUpscaler asks over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc

TYPES: dict[str, tuple[str, Any]] = {
    "image": ("UINT8", np.uint8),
    "image_bytes": ("BYTES", np.object_),
    "tile": ("FP32", np.float32),
    "tau": ("FP32", np.float32),
    "seed": ("INT64", np.int64),
    "samples": ("INT32", np.int32),
    "sample": ("INT64", np.int64),
    "origin": ("INT64", np.int64),
    "tau_map": ("FP32", np.float32),
}


def picture(number: int = 0, height: int = 45, width: int = 61) -> np.ndarray:
    """Noise, another for each number."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def tensors(inputs: dict[str, Any]) -> list[tritonclient.grpc.InferInput]:
    """The inputs as the client's tensors; single values become arrays of one element."""
    made = []
    for name, value in inputs.items():
        kind, dtype = TYPES[name]
        array = (
            np.array([value], dtype) if np.ndim(value) == 0 else np.ascontiguousarray(value, dtype)
        )
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def ask(address: str, *, timeout_s: float = 120, **inputs: Any) -> dict[str, np.ndarray]:
    """The outputs by name. Raises: tritonclient.utils.InferenceServerException with what the server
    says."""
    with tritonclient.grpc.InferenceServerClient(address) as client:
        answer = client.infer("srflow_upscale", tensors(inputs), client_timeout=timeout_s)
        return {entry.name: answer.as_numpy(entry.name) for entry in answer.get_response().outputs}
