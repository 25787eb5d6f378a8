from __future__ import annotations

import importlib
import logging
import stat
import sys
from pathlib import Path

import platformdirs
import pytest

from srflow_sdk.system import cache_folder as cache
from srflow_sdk.system.cache_folder import cache_folder


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_complained", False)
    monkeypatch.delenv("SRFLOW_CACHE_DIR", raising=False)


def test_the_variable_names_the_folder_which_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux keeps caches")
def test_without_it_the_folder_is_where_the_system_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "srflow-sdk"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / ".cache" / "srflow-sdk"


@pytest.mark.parametrize(
    ("system", "folder"),
    [("macos.MacOS", "home/Library/Caches/srflow-sdk"), ("windows.Windows", "local/srflow-sdk/Cache")],
)
def test_other_systems_have_their_own_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, folder: str
) -> None:
    module, _, name = system.partition(".")
    places = importlib.import_module(f"platformdirs.{module}")
    monkeypatch.setattr(platformdirs, "PlatformDirs", getattr(places, name))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda _name: str(tmp_path / "local"))
    assert cache_folder() == tmp_path / folder


@pytest.mark.parametrize("home", [True, False])
def test_a_folder_that_cannot_be_made_costs_the_cache_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: bool
) -> None:
    if home:
        (tmp_path / "file").touch()
        monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    else:
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/srflow-sdk"))
    assert cache_folder("a") is None
    assert cache_folder("b") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert ("SRFLOW_CACHE_DIR names another folder" if home else "no home") in record.getMessage()
    assert not Path("~").exists()
