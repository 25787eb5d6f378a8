from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.backends import OnnxRuntimeBackend, kept
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle

resource = pytest.importorskip("resource", reason="Linux only")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="graphs are kept on Linux only")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def few_bytes_a_file() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass
class Drawn:
    """What the embedded model drew on a backend of its own, and the kept weights that the process had mapped."""

    sr: np.ndarray
    mapped: set[str]


def drawn() -> Drawn:
    bundle = Bundle.embedded()
    lr = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    window = window_noise(bundle.manifest.latent_levels, scale=4, seed=0, sample=0, height=16, width=16)
    noise = {level: array[None] for level, array in window.items()}
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        mapped = weights_in_memory(Path(os.environ["SRFLOW_CACHE_DIR"]))
        return Drawn(backend.sample(backend.encode(lr), noise, 0.7), mapped)


def weights_in_memory(cache: Path) -> set[str]:
    """Weights kept in this cache that the process has mapped; it may still have others, of backends of other tests."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.endswith("/weights.bin")}
    return {path for path in mapped if path.startswith(str(cache))}


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_second_process_maps_the_kept_weights_and_draws_the_same_bits(folder: Path) -> None:
    first = drawn()
    found = entries(folder)
    assert len(found) == 2  # encoder and sampler, and no leftovers
    second = drawn()
    np.testing.assert_array_equal(second.sr, first.sr)
    assert second.mapped == {str(entry / "weights.bin") for entry in found}
    assert entries(folder) == found


def halve_the_weights(entry: Path) -> None:
    os.truncate(entry / "weights.bin", 1000)


def take_the_weights(entry: Path) -> None:
    (entry / "weights.bin").unlink()


def break_the_graph(entry: Path) -> None:
    (entry / "graph.onnx").write_bytes(b"no graph")


@pytest.mark.parametrize("damage", [halve_the_weights, take_the_weights, break_the_graph])
def test_a_kept_graph_that_does_not_load_is_deleted_and_the_bundles_is_used(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    first = drawn()
    for entry in entries(folder):
        damage(entry)
    without = drawn()
    np.testing.assert_array_equal(without.sr, first.sr)
    assert not without.mapped
    assert entries(folder) == []
    drawn()
    assert len(drawn().mapped) == 2


@pytest.mark.usefixtures("few_bytes_a_file")
def test_without_room_nothing_is_kept_and_the_picture_is_drawn(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert np.isfinite(drawn().sr).all()
    assert entries(folder) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_cache_folder_nobody_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    assert np.isfinite(drawn().sr).all()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_those_used_longest_ago_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn()
    old = entries(folder)
    for age, entry in enumerate(old, start=1):
        os.utime(entry, (time.time() - age, time.time() - age))
    monkeypatch.setattr(kept, "MOST_BYTES", sum(map(kept.bytes_of, old)))
    new = kept.kept_folder("graphs", "another graph")
    assert new is not None
    with kept.keeping(new) as part:
        (part / "graph.onnx").write_bytes(b"small")
    assert entries(folder) == sorted([old[0], new])


def test_what_a_killed_process_left_is_deleted_an_hour_later(folder: Path) -> None:
    drawn()
    for name, age in ((".old.part", 4000), (".new.part", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age, time.time() - age))
    for entry in entries(folder):
        if not entry.name.startswith("."):
            shutil.rmtree(entry)
    drawn()
    assert [entry.name for entry in entries(folder) if entry.name.startswith(".")] == [".new.part"]


def test_processors_with_other_instructions_have_places_of_their_own(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    found = set()
    for flags in ("avx2", "avx2 avx512f"):
        told.write_text(f"processor : 0\nmodel name : X\nflags : {flags}\ncpu MHz : 1\n\nprocessor : 1\nflags : none\n")
        found.add(kept.processor.__wrapped__(told))
    assert found == {"X | avx2", "X | avx2 avx512f"}
    told.write_text("")
    assert kept.processor.__wrapped__(told) is None


def test_an_inverter_whose_weights_lie_in_another_sampler_is_another_graph(folder: Path, tmp_path: Path) -> None:
    mine = Bundle.embedded("x2-small")
    changed = mine.file("sampler.onnx").read_bytes()
    shared = onnx.load(mine.file("inverter.onnx"), load_external_data=False).graph.initializer
    place = next(
        {entry.key: entry.value for entry in weight.external_data} for weight in shared if weight.external_data
    )
    start, length = int(place["offset"]), int(place["length"])
    with staged_bundle(tmp_path / "other.srflow") as stage:
        for name in ("encoder.onnx", "inverter.onnx"):
            (stage.path / name).write_bytes(mine.file(name).read_bytes())
        (stage.path / "sampler.onnx").write_bytes(changed[:start] + bytes(length) + changed[start + length :])
        stage.commit(mine.manifest)

    def latents(bundle: Bundle) -> np.ndarray:
        random = np.random.default_rng(0)
        with OnnxRuntimeBackend(bundle, threads=1) as backend:
            conditioning = backend.encode(random.random((1, 3, 16, 16), np.float32))
            return backend.invert(conditioning, random.random((1, 3, 32, 32), np.float32))[0][1]

    others = latents(Bundle.open(tmp_path / "other.srflow"))
    found = latents(mine)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(found, latents(mine))
    assert not np.array_equal(found, others)
