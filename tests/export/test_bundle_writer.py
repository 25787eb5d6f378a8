from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from srflow_export import bundle_writer
from srflow_export.bundle_writer import bundle_lock, staged_bundle
from srflow_export.triton import write_repository
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from tests.sdk.tiny_bundle import (
    STUB_FILES,
    hidden_files,
    tiny_manifest,
    write_stub_bundle,
    write_tiny_bundle,
)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.srflow"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_commit_replaces_the_older_bundle(
    target: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(bundle_writer, "_exchange", lambda *_: False)
    write_stub_bundle(target, b"one")
    (target / "old-notes.txt").write_text("goes with the old bundle")
    write_stub_bundle(target, b"two")
    assert (target / "encoder.onnx").read_bytes() == b"encodertwo"
    assert not (target / "old-notes.txt").exists()
    assert hidden_files(target.parent) == []


def test_only_what_can_be_written_is_flushed_as_windows_wants_it(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = list[int]()
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flushed.append(os.write(descriptor, b""))  # EBADF on one that is open for reading alone
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_repository(write_tiny_bundle(target), tmp_path / "models")
    assert len(flushed) > len(STUB_FILES)


def test_an_exception_leaves_the_older_bundle_and_nothing_else(target: Path) -> None:
    def interrupted() -> None:
        with staged_bundle(target) as stage:
            (stage.path / "encoder.onnx").write_bytes(b"half")
            raise KeyboardInterrupt

    write_stub_bundle(target, b"one")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Bundle.open(target).file("encoder.onnx").read_bytes() == b"encoderone"
    assert hidden_files(target.parent) == []


@pytest.mark.parametrize(
    ("files", "manifest"),
    [
        (["encoder.onnx"], {}),
        ([*STUB_FILES, ".cache"], {}),
        (STUB_FILES, {"provenance": {"path": Path("x")}}),
        (STUB_FILES, {"parity": [{"psnr": float("inf")}]}),
    ],
)
def test_a_refused_commit_leaves_the_older_bundle(
    target: Path, files: list[str], manifest: dict[str, Any]
) -> None:
    write_stub_bundle(target, b"one")
    with staged_bundle(target) as stage:
        for name in files:
            (stage.path / name).write_bytes(b"new")
        with pytest.raises(BundleError):
            stage.commit(tiny_manifest(**manifest))
    assert Bundle.open(target).file("encoder.onnx").read_bytes() == b"encoderone"
    assert hidden_files(target.parent) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_failing_swap_leaves_the_older_bundle(
    target: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    write_stub_bundle(target, b"one")

    def fail(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    real_rename = Path.rename

    def rename(self: Path, new: Path) -> Path:
        return fail() if ".staging-" in self.parent.name else real_rename(self, new)

    monkeypatch.setattr(bundle_writer, "_exchange", fail if exchange else lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(BundleError, match="Input/output"):
        write_stub_bundle(target, b"two")
    assert Bundle.open(target).file("encoder.onnx").read_bytes() == b"encoderone"
    assert hidden_files(target.parent) == []


@pytest.mark.parametrize("kind", ["file", "folder with files", "another program's manifest.json"])
def test_what_is_not_a_bundle_is_never_replaced(target: Path, kind: str) -> None:
    if kind == "file":
        target.write_bytes(b"precious")
    else:
        target.mkdir()
        (target / "precious.txt").write_text("precious")
    if kind.startswith("another"):
        (target / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(BundleError, match="another name"):
        write_stub_bundle(target)
    assert (
        target.read_bytes() == b"precious" if kind == "file" else (target / "precious.txt").exists()
    )
    assert hidden_files(target.parent) == []


def run_and_kill(target: Path, *, kill_at: str) -> None:
    """Export over the target in another process, which is killed when it reaches a function of the
    writer."""
    script = f"""
        import os
        from pathlib import Path
        from srflow_export import bundle_writer
        from tests.sdk.tiny_bundle import write_stub_bundle
        real = bundle_writer.{kill_at}
        def die(*arguments, **options):
            if {kill_at != "swap_in"!r}:
                real(*arguments, **options)
            os.kill(os.getpid(), 9)
        bundle_writer.{kill_at} = die
        write_stub_bundle(Path({str(target)!r}), b"two")
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=root,
        timeout=60,
        check=False,
        stderr=subprocess.PIPE,
    )
    assert abs(done.returncode) == 9, done.stderr.decode()


@pytest.mark.parametrize("kill_at", ["_hash_and_sync", "swap_in", "_exchange"])
def test_a_killed_export_leaves_a_whole_bundle_and_its_remains_are_removed(
    target: Path, kill_at: str
) -> None:
    write_stub_bundle(target, b"one")
    run_and_kill(target, kill_at=kill_at)
    survivor = Bundle.open(target).file("encoder.onnx").read_bytes()
    swapped = kill_at == "_exchange" and os.name != "nt"  # which cannot swap two folders at once
    assert survivor == (b"encodertwo" if swapped else b"encoderone")
    assert len(hidden_files(target.parent)) == 1
    write_stub_bundle(target, b"three")
    assert Bundle.open(target).file("encoder.onnx").read_bytes() == b"encoderthree"
    assert hidden_files(target.parent) == []


def test_an_older_bundle_that_a_crash_left_aside_is_put_back(target: Path) -> None:
    write_stub_bundle(target, b"one")
    aside = target.parent / f".{target.name}.staging-1-abcd" / "replaced"
    aside.mkdir(parents=True)
    target.rename(aside / target.name)
    with staged_bundle(target):
        assert Bundle.open(target).file("encoder.onnx").read_bytes() == b"encoderone"
    assert hidden_files(target.parent) == []


def test_bundles_are_written_without_torch_and_onnx() -> None:
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None); import srflow_export.bundle_writer"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_place_that_cannot_be_written_to_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="a bundle cannot be written there"):
        write_stub_bundle(tmp_path / "file" / "model.srflow")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with (
        pytest.raises(
            BundleError,
            match=r"m\.srflow: a bundle cannot be written there, because .* cannot be locked",
        ),
        bundle_lock(tmp_path / "m.srflow"),
    ):
        pass


def hold_for_ever(target: Path, held: Any) -> None:
    with bundle_lock(target):
        held.set()
        signal.pause()


@pytest.mark.not_on_windows("signals")
@pytest.mark.parametrize("has_cache", [True, False])
def test_who_waits_for_a_lock_says_so_and_a_killed_process_lets_the_next_one_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_cache: bool
) -> None:
    (tmp_path / "file").write_text("in the way of a cache")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / ("cache" if has_cache else "file")))
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=hold_for_ever, args=(tmp_path / "m.srflow", held))
    process.start()
    lines = []

    def say(line: str) -> None:
        lines.append(line)
        process.kill()

    try:
        assert held.wait(60)
        with bundle_lock(tmp_path / "m.srflow", say=say):
            pass
    finally:
        process.kill()
        process.join(60)
    assert lines == [
        f"{tmp_path / 'm.srflow'}: another srflow-export is writing this bundle; waiting for it"
    ]
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "file"}, (
        "nothing is left beside the bundle"
    )
