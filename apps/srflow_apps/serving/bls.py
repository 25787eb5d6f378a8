"""The graphs as models of the same server, called through the python backend ("business logic scripting", BLS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends import Backend, Conditioning
from srflow_sdk.backends._ort import is_out_of_memory
from srflow_sdk.errors import ArgumentError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.graph_structure import read_graph
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.model.serving_config import ENCODER, SAMPLER, version_parameter


class _ServerTensors(Conditioning):
    """The encoder's outputs where the server put them, for example in a GPU's memory."""

    def __init__(self, tensors: Sequence[Any], nbytes: int) -> None:
        self.tensors = list(tensors)
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes


class BlsBackend(Backend):
    """Calls srflow_encoder and srflow_sampler, whose own schedulers queue calls and join them into batches.

    triton: the module triton_python_backend_utils.
    on_gpu: sizes are those of the engines that the bundle has, or of
        its default profile, for which the server's pool of GPU memory is sized; otherwise any.
    parameters: of the config. They name the models and their versions, because the newest may be another bundle's.

    Raises: ArgumentError if there is no version.
    """

    def __init__(self, bundle: Bundle, triton: Any, parameters: Mapping[str, str], *, on_gpu: bool) -> None:
        super().__init__()
        self._triton = triton
        self._models = {role: _called_model(parameters, role) for role in (ENCODER, SAMPLER)}
        self._versions = {model: _version(parameters, model) for model in self._models.values()}
        self._names = read_graph(bundle.file(REQUIRED_FILES[0])).outputs
        self._pixel_bytes = bundle.manifest.conditioning_bytes_per_pixel
        engines = [record for record in bundle.manifest.engines if record.runtime == "tensorrt"]
        limits = engines[0].profile if engines else bundle.manifest.default_profile
        self._limits = limits if on_gpu else None

    @property
    def device(self) -> str:
        return "triton"

    @property
    def window_limits(self) -> LrProfile | None:
        return self._limits

    def activate_impl(self) -> None:
        """The server has loaded the models, or loads them later."""

    def deactivate_impl(self) -> None:
        """They stay the server's."""

    def encode_impl(self, lr: NDArray[np.float32]) -> Conditioning:
        request = self._triton.InferenceRequest(
            model_name=self._models[ENCODER],
            model_version=self._versions[self._models[ENCODER]],
            requested_output_names=list(self._names),
            inputs=[self._triton.Tensor("lr", np.ascontiguousarray(lr, np.float32))],
        )
        tensors = self._called(request, self._models[ENCODER]).output_tensors()
        return _ServerTensors(tensors, lr.shape[2] * lr.shape[3] * self._pixel_bytes)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        if not isinstance(conditioning, _ServerTensors):
            raise DeviceError(f"conditioning of type {type(conditioning).__name__} belongs to another backend")
        triton = self._triton
        levels = [
            triton.Tensor(f"noise_level{level}", np.ascontiguousarray(array, np.float32))
            for level, array in noise.items()
        ]
        request = triton.InferenceRequest(
            model_name=self._models[SAMPLER],
            model_version=self._versions[self._models[SAMPLER]],
            requested_output_names=["sr"],
            inputs=[*conditioning.tensors, *levels, triton.Tensor("tau", np.array([[tau]], np.float32))],
            preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),
        )
        (sr,) = self._called(request, self._models[SAMPLER]).output_tensors()
        return np.array(sr.as_numpy(), np.float32)

    def _called(self, request: Any, model: str) -> Any:
        """The response. Raises: DeviceError, OutOfMemoryError."""
        named = f"{model}, version {self._versions[model]},"
        try:
            response = request.exec()
        except Exception as error:  # the module has one of its own for what it cannot send
            raise DeviceError(f"{named} cannot be called: {error}; load it in this server") from error
        if not response.has_error():
            return response
        reason = str(response.error().message()).strip()
        if is_out_of_memory(reason):
            raise OutOfMemoryError(f"{named} failed: out of memory ({reason}); send a smaller picture")
        raise DeviceError(f"{named} failed: {reason}")


def _called_model(parameters: Mapping[str, str], role: str) -> str:
    """The model of a role: its own name, or of several bundles, before a hyphen and the bundle's name."""
    named = (name.removesuffix(version_parameter("")) for name in parameters if name.startswith(f"{role}-"))
    return next(named, role)


def _version(parameters: Mapping[str, str], model: str) -> int:
    name = version_parameter(model)
    text = parameters.get(name, "")
    if not text.isascii() or not text.isdecimal():
        raise ArgumentError(f"{name} is {text!r}; it must be a version of {model}: export the bundle again")
    return int(text)
