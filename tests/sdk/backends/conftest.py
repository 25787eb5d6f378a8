import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend

from .engine_machine import EngineMachine, noise
from .fake_tensorrt import write_engine_bundle


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    machine = EngineMachine(monkeypatch)
    machine.install()
    yield machine
    assert machine.gpu.violations == []


@pytest.fixture(scope="session")
def engine_bundle(tiny_bundle, tmp_path_factory):
    """The tiny bundle with engines for the machine of the fixture above."""
    return write_engine_bundle(tiny_bundle, tmp_path_factory.mktemp("engines") / "tiny.srflow")


@pytest.fixture
def lr():
    return np.random.default_rng(2).random((1, 3, 24, 30), np.float32)


@pytest.fixture
def expected(engine_bundle, lr):
    with OnnxRuntimeBackend(engine_bundle, threads=1) as backend:
        return backend.sample(backend.encode(lr), noise(1), 0.7)
