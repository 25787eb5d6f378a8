"""A reader finds the old content or the new; what killed processes left goes, and what is in work
stays."""

import contextlib
import errno
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from srflow_sdk import ImageError, write_image
from srflow_sdk.system import cache_folder as cache
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import (
    is_writable,
    real_path,
    remove_stale_parts,
    remove_stale_parts_in,
    replacing,
    write_atomically,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    (tmp_path / "a.json").write_bytes(b"old")
    return tmp_path / "a.json"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_older_file_and_says_why(target, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["a.json"]


def test_a_folder_is_asked_whether_files_can_be_made_and_nothing_stays_in_it(tmp_path):
    assert (is_writable(tmp_path), is_writable(tmp_path / "no")) == (True, False)
    assert names(tmp_path) == []


@pytest.mark.not_on_windows("links need a privilege there")
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_the_file_behind_it_is_replaced(target, tmp_path, exists):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "b.json"
    further = tmp_path / "links" / "c.json"
    link.symlink_to("c.json")
    further.symlink_to(target)
    if not exists:
        target.unlink()
    (tmp_path / ".a.json.0123abcd.part").touch()  # which a killed process left
    remove_stale_parts(link)
    write_atomically(link, b"new")
    assert (link.is_symlink(), further.is_symlink(), target.is_symlink()) == (True, True, False)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) + names(link.parent) == ["a.json", "links", "b.json", "c.json"]


@pytest.mark.not_on_windows("FIFOs")
@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_is_never_replaced(tmp_path, linked):
    fifo = tmp_path / "fifo"
    link = tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    with pytest.raises(OSError, match="it is a pipe or a device; name a file"):
        write_atomically(link if linked else fifo, b"new")
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert link.is_symlink()
    assert names(tmp_path) == ["fifo", "link"]


@pytest.mark.not_on_windows("signals")
@pytest.mark.parametrize(("moment", "content"), [("before", b"old"), ("after", b"new")])
def test_a_process_killed_at_the_rename_leaves_the_old_content_or_the_new(target, moment, content):
    code = f"""
import os, sys
from pathlib import Path
from srflow_sdk.system.local_files import write_atomically
real = Path.replace
def replace(self, target):
    if {moment == "after"}:
        real(self, target)
    os.kill(os.getpid(), 9)
Path.replace = replace
write_atomically(Path(sys.argv[1]), b"new")
"""
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == content
    remove_stale_parts(target)
    assert names(target.parent) == ["a.json"]


@pytest.mark.not_on_windows("POSIX permissions")
def test_rights_are_those_of_any_new_file_and_nothing_else_stays(target):
    before = os.umask(0o027)
    try:
        write_atomically(target, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["a.json"]


@pytest.mark.not_on_windows("Windows has no locks to tell them apart")
def test_a_folder_is_cleared_of_stale_parts_alone(tmp_path):
    for name in (".a.0123abcd.part", ".b.0123abcd.part", ".c.part", "d.json"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "e"):
        (living,) = tmp_path.glob(".e.*.part")
        remove_stale_parts_in(tmp_path)
        assert names(tmp_path) == sorted([".c.part", "d.json", living.name])


@pytest.mark.not_on_windows("links and FIFOs")
@pytest.mark.parametrize("call", ["upscale_file", "restore_file", "transfer_file"])
@pytest.mark.parametrize("name", ["loop.png", "folder/a.png", "nul\0.png"])
def test_names_that_lead_nowhere_are_one_line(flow, tmp_path, call, name):
    good = tmp_path / "lr.png"
    bad = tmp_path / name
    write_image(good, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder").symlink_to("folder")
    before = sorted(tmp_path.iterdir())
    others = [good, good] if call == "transfer_file" else []
    for source, target in ((bad, tmp_path / "sr.png"), (good, bad)):
        with pytest.raises(
            ImageError, match=r"Too many levels of symbolic links|null byte|has a NUL"
        ) as caught:
            getattr(flow, call)(source, *others, target)
        assert str(bad).partition("\0")[0] in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    ["nul.png", "con.png", "aux.jpg", "d" * 100 + "/" + "f" * 160 + ".png", "g" * 300 + ".png"],
)
def test_devices_and_paths_too_long_for_windows_are_written_or_refused_in_one_line(
    upscaler, tmp_path, name, monkeypatch
):
    def refuse(path):
        raise OSError(errno.EINVAL, "General failure", path)  # as Windows does for these

    monkeypatch.setattr(os.path, "realpath", refuse)
    good = tmp_path / "lr.png"
    odd = tmp_path / name
    odd.parent.mkdir(exist_ok=True)
    write_image(good, np.zeros((8, 8, 3), np.uint8))
    for source, target in ((good, odd), (odd, tmp_path / "sr.png")):
        with contextlib.suppress(ImageError):
            upscaler.upscale_file(source, target)
            assert target.exists()


# The cache folder.


@pytest.fixture
def no_cache(monkeypatch):
    """No folder is named yet, and nobody was warned."""
    monkeypatch.setattr(cache, "_complained", False)
    monkeypatch.delenv("SRFLOW_CACHE_DIR", raising=False)


@pytest.mark.usefixtures("no_cache")
def test_the_variable_names_the_folder_which_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "deep" / "cache"))
    found = cache_folder("engines", "key")
    assert found == tmp_path / "deep" / "cache" / "engines" / "key"
    if sys.platform != "win32":
        for folder in (found, found.parent, found.parent.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cache_folder("engines", "key") == found
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRFLOW_CACHE_DIR", "here")
    assert cache_folder() == tmp_path / "here", "the same from everywhere"


@pytest.mark.usefixtures("no_cache")
@pytest.mark.skipif(sys.platform != "linux", reason="where Linux keeps caches")
def test_without_it_the_folder_is_where_the_system_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "srflow-sdk"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / ".cache" / "srflow-sdk"


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("home", [True, False])
def test_a_folder_that_cannot_be_made_costs_the_cache_and_one_warning(
    tmp_path, monkeypatch, caplog, home
):
    if home:
        (tmp_path / "file").touch()
        monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    else:
        monkeypatch.setattr(
            platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/srflow-sdk")
        )
    assert cache_folder("a") is None
    assert cache_folder("b") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert ("SRFLOW_CACHE_DIR names another folder" if home else "no home") in record.getMessage()
    assert not Path("~").exists()


@pytest.mark.skipif(os.name != "nt", reason="only Windows keeps open files from being replaced")
def test_an_output_that_another_program_holds_open_is_one_clear_error(target):
    with target.open("rb"), pytest.raises(PermissionError, match="close the file where it is open"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["a.json"]


@pytest.mark.skipif(os.name != "nt", reason="only Windows has such prefixes")
def test_a_prefixed_name_is_the_same_path(target):
    assert real_path(Path(f"\\\\?\\{target}")) == real_path(target)
