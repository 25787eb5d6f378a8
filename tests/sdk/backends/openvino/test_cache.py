"""OpenVINO's cache of compiled graphs: used, checked, bounded, and never in the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from srflow_sdk.backends import kept
from srflow_sdk.backends import openvino as graphs
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.model.bundle import Bundle
from tests.sdk.tiny_bundle import write_tiny_bundle

from .pictures import picture


def from_cache(backend: OpenVinoBackend) -> list[bool]:
    return [
        graph._compiled.get_property("LOADED_FROM_CACHE") for graph in (backend._encoder, backend._sampler) if graph
    ]


def test_compiled_graphs_are_kept_in_the_cache(bundle: Bundle, cache: Path) -> None:
    with OpenVinoBackend(bundle, both=True, threads=1) as first:
        assert from_cache(first) == [False, False]
        expected = picture(first, bundle)
    with OpenVinoBackend(bundle, both=True, threads=1) as second:
        assert from_cache(second) == [True, True]
        np.testing.assert_array_equal(picture(second, bundle), expected)
    assert len(list(cache.iterdir())) == 2, "no folder of a part is left"


def test_another_precision_or_file_is_compiled_anew(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    for model in (bundle, Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", gain=2.0))):
        with OpenVinoBackend(model, both=True, threads=1) as backend:
            assert from_cache(backend) == [False, False]
    with OpenVinoBackend(bundle, both=True, threads=1, hint="bf16") as backend:
        assert from_cache(backend) == [False, True]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
    ],
    ids=["empty", "half"],
)
def test_a_damaged_cache_costs_only_time(bundle: Bundle, cache: Path, damaged: Callable[[bytes], bytes]) -> None:
    with OpenVinoBackend(bundle, both=True, threads=1) as backend:
        expected = picture(backend, bundle)
    for path in cache.glob("*/*.blob"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(damaged(content))
    with OpenVinoBackend(bundle, both=True, threads=1) as backend:
        assert from_cache(backend) == [False, False]
        np.testing.assert_array_equal(picture(backend, bundle), expected)


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would wait for ever for an entry that it could not write before, so a process does not ask again."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(graphs, "_cache_works", True)
    own = Bundle.open(write_tiny_bundle(tmp_path / "own.srflow"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        for _ in range(2):
            with OpenVinoBackend(own, both=True, threads=1) as backend:
                picture(backend, own)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if int(openvino.__version__[:4]) >= 2026:  # 2024.6 and 2025.4 do not say so, and later find it damaged
        assert list(cache.iterdir()) == [], "nothing half written is kept"


def test_the_cache_keeps_what_was_used_last(
    bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenVinoBackend(bundle, both=True, threads=1):
        pass
    for path in cache.iterdir():
        os.utime(path, (1, 1))
    with OpenVinoBackend(bundle, both=True, threads=1, hint="bf16"):  # one new graph, and the old sampler
        pass
    most = sum(map(kept.bytes_of, cache.iterdir()))
    monkeypatch.setattr(kept, "MOST_BYTES", most)
    with OpenVinoBackend(Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", gain=2.0)), both=True, threads=1):
        pass
    assert sum(map(kept.bytes_of, cache.iterdir())) <= most
    with OpenVinoBackend(bundle, both=True, threads=1) as backend:
        assert from_cache(backend)[0] is False, "it was used longest ago"
