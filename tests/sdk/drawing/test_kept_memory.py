"""What is kept encoded is sized by the memory that is free, and dropped when it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk import Upscaler
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding
from srflow_sdk.errors import OutOfMemoryError
from srflow_sdk.latents import arrays

from ..flow_bundle import write_flow_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow_bundle(tmp_path_factory.mktemp("flow") / "flow.srflow")


@pytest.fixture
def flow(bundle: Path) -> Iterator[Upscaler]:
    with Upscaler(bundle, device="cpu", threads=1, tile=16) as opened:
        yield opened


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 190, (140, 130, 3), np.uint8)


@pytest.mark.parametrize(("free", "budget"), [(1 << 34, ENCODING_BUDGET_BYTES), (600_000_000, 150_000_000), (0, 0)])
def test_at_most_a_quarter_of_the_free_memory_is_kept(
    flow: Upscaler, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, free: int, budget: int
) -> None:
    budgets: list[int] = []
    begin = Encoding.__init__

    def noted(encoding: Any, *arguments: Any, memory_budget: int, **options: Any) -> None:
        budgets.append(memory_budget)
        begin(encoding, *arguments, memory_budget=memory_budget, **options)

    monkeypatch.setattr(Encoding, "__init__", noted)
    monkeypatch.setattr("srflow_sdk.drawing.painter.available_memory", lambda: free)
    flow.restore(picture)
    flow.transfer(picture, picture[::-1], np.pad(np.ones((9, 9), np.bool_), ((60, 71), (60, 61))))
    flow.best_of(picture[:20, :20], lambda made: made.std(), 2)
    assert budgets == [budget] * 3


@pytest.mark.parametrize("graph", ["invert", "sample"])
def test_where_memory_runs_out_kept_tiles_are_encoded_again(
    flow: Upscaler, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    wanted = flow.restore(picture, tau=0.5)
    encoding = flow.encode(np.zeros((35, 33, 3), np.uint8))
    work: Any = getattr(OnnxRuntimeBackend, graph)
    failed: list[int] = []

    def scarce(backend: Any, conditioning: Any, *arguments: Any) -> Any:
        if len(failed) < 1:
            failed.append(encoding.nbytes)
            raise OutOfMemoryError("out of memory")
        return work(backend, conditioning, *arguments)

    monkeypatch.setattr(OnnxRuntimeBackend, graph, scarce)
    monkeypatch.setattr(Painter, "shrink", lambda *_: pytest.fail("tiles became smaller instead"))
    assert np.array_equal(flow.restore(picture, tau=0.5), wanted)
    assert failed


def test_what_was_dropped_is_no_longer_counted(
    flow: Upscaler, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no memory for the latents while tiles are kept."""
    encoding = flow.encode(picture[:35, :33])
    assert encoding.kept_tiles == encoding.tiles == 9
    large = np.full((140, 132, 3), 99, np.uint8)
    wanted = flow.encode(picture[:35, :33], memory_budget=0).invert(large)
    allocate = arrays.allocate

    def scarce(*arguments: Any) -> Any:
        if encoding.kept_tiles:
            raise MemoryError
        return allocate(*arguments)

    monkeypatch.setattr(arrays, "allocate", scarce)
    latents = encoding.invert(large)
    assert (encoding.kept_tiles, encoding.nbytes) == (0, 0)
    assert all(np.array_equal(latents.levels[level], wanted.levels[level]) for level in wanted.levels)
