"""One process at a time reads a bundle in order to write it."""

import multiprocessing
import os
import signal
import tempfile

import pytest

from srflow_export._named_locks import bundle_lock
from srflow_sdk.errors import BundleError

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_S = 60


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))


def hold_for_ever(target, held):
    with bundle_lock(target):
        held.set()
        signal.pause()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("has_cache", [True, False])
def test_who_waits_says_so_and_a_killed_process_lets_the_next_one_in(tmp_path, monkeypatch, has_cache):
    if not has_cache:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    held = SPAWN.Event()
    process = SPAWN.Process(target=hold_for_ever, args=(tmp_path / "m.srflow", held))
    process.start()
    lines = []

    def say(line):
        lines.append(line)
        process.kill()

    try:
        assert held.wait(DEADLINE_S)
        with bundle_lock(tmp_path / "m.srflow", say=say):
            pass
    finally:
        process.kill()
        process.join(DEADLINE_S)
    assert lines == [f"{tmp_path / 'm.srflow'}: another srflow-export is writing this bundle; waiting for it"]


def test_a_bundle_has_one_lock_by_whichever_path_it_is_reached(tmp_path):
    (tmp_path / "m.srflow").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "m.srflow")
    for path in ("m.srflow", "linked"):
        with bundle_lock(tmp_path / path):
            pass
    (_lock,) = (tmp_path / "cache" / "locks").iterdir()


def test_nothing_is_left_beside_the_bundle(tmp_path):
    with bundle_lock(tmp_path / "m.srflow"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_without_a_cache_folder_nothing_is_left_beside_the_bundle_either(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    with bundle_lock(tmp_path / "m.srflow"):
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with (
        pytest.raises(BundleError, match=r"m\.srflow: a bundle cannot be written there, because .* cannot be locked"),
        bundle_lock(tmp_path / "m.srflow"),
    ):
        pass
