"""Where decoded photographs are kept, and what the user is told about it."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from srflow_training.data import Photos, choose_cache
from srflow_training.settings import DataSettings


@pytest.fixture
def folder(tmp_path):
    """Two photographs of 60×50 pixels, each used whole and halved: 2 × (9000 + 2250) bytes decoded."""
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((60, 50, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "user"))
    return tmp_path / "user" / "photographs"


def photos_of(folder, **data):
    settings = DataSettings(**{"crop": 16, "batch": 8, "narrowest": 25, **data})
    return Photos(folder, settings, 4, pytest.fail), settings


def with_free_disk(monkeypatch, size):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))


def test_the_cache_is_on_by_default_and_in_the_users_folder(folder, users_folder):
    photos, settings = photos_of(folder)
    chosen, report = choose_cache(photos, settings.cache)
    assert chosen == users_folder
    assert report == f"decoded photographs: 0 MB in {users_folder}"


def test_what_is_kept_may_take_half_of_the_free_disk_and_no_more(folder, users_folder, monkeypatch):
    photos, _ = photos_of(folder)
    with_free_disk(monkeypatch, 45_000)
    assert choose_cache(photos, "auto")[0] == users_folder
    with_free_disk(monkeypatch, 44_999)
    chosen, report = choose_cache(photos, "auto")
    assert chosen is None
    assert "more than half of the 0 MB free" in report
    assert "data.cache=FOLDER" in report


def test_lr_files_are_counted_too(folder, tmp_path, users_folder, monkeypatch):
    (tmp_path / "lr").mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((15, 12, 3), np.uint8)).save(tmp_path / "lr" / f"{name}.png")
    photos, _ = photos_of(folder, narrowest=0, lr=str(tmp_path / "lr"))
    needed = 2 * (9000 + 9000 // 16)
    with_free_disk(monkeypatch, 2 * needed)
    assert choose_cache(photos, "auto")[0] == users_folder
    with_free_disk(monkeypatch, 2 * needed - 1)
    assert choose_cache(photos, "auto")[0] is None


def test_a_folder_that_the_user_names_is_taken_whatever_its_free_disk(folder, tmp_path, monkeypatch):
    photos, _ = photos_of(folder)
    with_free_disk(monkeypatch, 0)
    found = choose_cache(photos, str(tmp_path / "mine"))
    assert found == (tmp_path / "mine", f"decoded photographs: 0 MB in {tmp_path / 'mine'}")


def test_nothing_is_kept_when_switched_off(folder, users_folder):
    photos, _ = photos_of(folder)
    assert choose_cache(photos, "off") == (None, "")
    assert not users_folder.exists()


def test_without_a_users_cache_training_goes_on_and_says_why(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    chosen, report = choose_cache(photos_of(folder)[0], "auto")
    assert chosen is None
    assert "no cache folder" in report
