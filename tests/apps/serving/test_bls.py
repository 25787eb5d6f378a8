from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srflow_apps.serving.bls import BlsBackend
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.model.bundle import Bundle

from .fake_backend import Response, Tensor, TritonError

VERSIONS = {"srflow_encoder_version": "3", "srflow_sampler_version": "5"}


def server(loaded: dict[str, int]) -> Any:
    """The module of a server that has these versions of models, which answer with their number."""

    class Request:
        def __init__(self, *, model_name: str, model_version: int = -1, **_: Any) -> None:
            self.name, self.version = model_name, model_version

        def exec(self) -> Response:
            if self.version not in (-1, loaded[self.name]):
                return Response(error=TritonError(f"Model '{self.name}' is not ready."))
            return Response([Tensor("sr", np.full((1, 3, 8, 8), loaded[self.name], np.float32))])

    return SimpleNamespace(
        InferenceRequest=Request, Tensor=Tensor, PreferredMemory=lambda *_: None, TRITONSERVER_MEMORY_CPU=0
    )


def drawn(bundle: Path, loaded: dict[str, int]) -> np.ndarray:
    with BlsBackend(Bundle.open(bundle), server(loaded), VERSIONS, on_gpu=False) as backend:
        conditioning = backend.encode(np.zeros((1, 3, 2, 2), np.float32))
        return backend.sample_impl(conditioning, {}, 0.5)


def test_the_versions_that_the_config_names_are_called(tiny_bundle: Path) -> None:
    assert drawn(tiny_bundle, {"srflow_encoder": 3, "srflow_sampler": 5}).mean() == 5


@pytest.mark.parametrize("newer", ["srflow_encoder", "srflow_sampler"])
def test_a_newer_version_is_an_error_and_no_picture(tiny_bundle: Path, newer: str) -> None:
    with pytest.raises(DeviceError, match=rf"{newer}, version [35], failed: Model '{newer}' is not ready"):
        drawn(tiny_bundle, {"srflow_encoder": 3, "srflow_sampler": 5} | {newer: 6})


def test_on_a_gpu_tiles_are_those_for_which_the_servers_pool_is_sized(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert BlsBackend(bundle, server({}), VERSIONS, on_gpu=True).window_limits == bundle.manifest.default_profile
    assert BlsBackend(bundle, server({}), VERSIONS, on_gpu=False).window_limits is None


def test_a_config_without_versions_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ArgumentError, match="srflow_sampler_version is ''; it must be a version of srflow_sampler"):
        BlsBackend(Bundle.open(tiny_bundle), server({}), {"srflow_encoder_version": "1"}, on_gpu=False)
