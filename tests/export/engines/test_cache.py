"""Unchanged input builds nothing; damaged entries build again; of many processes one builds."""

import json
import multiprocessing
import os
import signal
import stat

import pytest

from srflow_export.engines._cache import EngineCache

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_S = 60
INPUT = {"graph": "abc", "precision": "fp16", "sms": [89]}


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return b"engine %d" % self.calls


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def test_the_same_input_is_built_once(cache):
    build, lines = Builder(), []
    engines = [cache.get(INPUT, build, name="encoder.onnx", say=lines.append) for _ in range(3)]
    assert engines == [b"engine 1"] * 3
    assert build.calls == 1
    assert len(lines) == 2
    assert "built before" in lines[0]


@pytest.mark.parametrize("change", [{"graph": "abd"}, {"precision": "fp32"}, {"sms": [89, 120]}, {"level": 3}])
def test_another_input_is_another_engine(cache, change):
    build = Builder()
    cache.get(INPUT, build, name="encoder.onnx")
    assert cache.get({**INPUT, **change}, build, name="encoder.onnx") == b"engine 2"


def damage_engine(engine, record):
    engine.write_bytes(b"engine X")


def cut_engine(engine, record):
    engine.write_bytes(engine.read_bytes()[:-1])


def remove_engine(engine, record):
    engine.unlink()


def remove_record(engine, record):
    record.unlink()


def empty_record(engine, record):
    record.write_bytes(b"")


def odd_record(engine, record):
    record.write_text("[]")


def record_without_hash(engine, record):
    record.write_text(json.dumps({"bytes": 8}))


@pytest.mark.parametrize(
    "damage",
    [damage_engine, cut_engine, remove_engine, remove_record, empty_record, odd_record, record_without_hash],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_entry_is_built_again_and_kept(cache, damage):
    build = Builder()
    cache.get(INPUT, build, name="encoder.onnx")
    damage(next(cache.folder.glob("*.engine")), next(cache.folder.glob("*.json")))
    assert cache.get(INPUT, build, name="encoder.onnx") == b"engine 2"
    assert cache.get(INPUT, build, name="encoder.onnx") == b"engine 2"


def test_a_failed_build_leaves_nothing_and_frees_the_lock(cache):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.get(INPUT, fail, name="encoder.onnx")
    assert not list(cache.folder.glob("*.engine"))
    assert cache.get(INPUT, Builder(), name="encoder.onnx") == b"engine 1"


def test_a_folder_that_cannot_be_made_is_said_and_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    lines = []
    engine = EngineCache(tmp_path / "file" / "engines").get(INPUT, Builder(), name="encoder.onnx", say=lines.append)
    assert engine == b"engine 1"
    assert "cannot keep engines" in lines[0]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows write where they like")
def test_a_folder_that_cannot_be_written_is_said_and_done_without(cache):
    cache.folder.mkdir()
    cache.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    lines = []
    assert cache.get(INPUT, Builder(), name="encoder.onnx", say=lines.append) == b"engine 1"
    assert "cannot keep engines" in lines[0]


def get_when_another_waits(folder, log, waiting, results):
    def build():
        with log.open("a") as file:
            file.write("built\n")
        waiting.wait(DEADLINE_S)  # until the other one stands at the lock
        return b"one engine"

    def say(line):
        if "waiting for it" in line:
            waiting.set()

    results.put(EngineCache(folder).get(INPUT, build, name="encoder.onnx", say=say))


def test_of_two_processes_one_builds_and_the_other_waits(cache, tmp_path):
    waiting, results = SPAWN.Event(), SPAWN.Queue()
    arguments = (cache.folder, tmp_path / "log", waiting, results)
    processes = [SPAWN.Process(target=get_when_another_waits, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=DEADLINE_S) for _ in processes] == [b"one engine"] * 2
    for process in processes:
        process.join(DEADLINE_S)
    assert waiting.is_set()
    assert (tmp_path / "log").read_text() == "built\n"


def build_for_ever(folder, started):
    def build():
        started.set()
        signal.pause()
        return b"never"

    EngineCache(folder).get(INPUT, build, name="encoder.onnx")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_build_lets_the_next_one_in(cache):
    started = SPAWN.Event()
    process = SPAWN.Process(target=build_for_ever, args=(cache.folder, started))
    process.start()
    assert started.wait(DEADLINE_S)
    process.kill()
    process.join(DEADLINE_S)
    assert cache.get(INPUT, Builder(), name="encoder.onnx") == b"engine 1"
