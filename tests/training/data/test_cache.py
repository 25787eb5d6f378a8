"""Where decoded photographs are kept, and how much of the disk they may take."""

import shutil
from types import SimpleNamespace

import pytest

from tests.training.crops import crops_of, save, texture


@pytest.fixture
def folder(tmp_path):
    """Three photographs of 60×50 pixels: 9128 bytes each as .npy files."""
    for name in "abc":
        save(tmp_path / "photos" / f"{name}.png", texture(60, 50, ord(name)))
    return tmp_path / "photos"


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "user"))
    return tmp_path / "user" / "photographs"


def with_disk(monkeypatch, size, folder):
    """A disk with this much free beside what the folder holds."""

    def usage(_path):
        return SimpleNamespace(
            free=size - sum(file.stat().st_size for file in folder.glob("*.npy"))
        )

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.parametrize(("free", "kept"), [(2 * 27_500, 3), (2 * 27_000, 2)])
def test_the_users_cache_takes_half_of_the_free_disk_and_no_more(
    folder,
    users_folder,
    monkeypatch,
    free,
    kept,
):
    with_disk(monkeypatch, free, users_folder)
    batch = crops_of(folder, cache="auto", batch=16)[0]
    assert len(list(users_folder.glob("*.npy"))) == kept
    assert len(batch.problems) == (kept < 3)
    assert all("half of the disk that was free is taken" in line for line in batch.problems)


def test_a_folder_that_the_user_names_may_fill_its_disk(folder, tmp_path, monkeypatch):
    with_disk(monkeypatch, 28_000, tmp_path / "mine")
    assert crops_of(folder, cache=str(tmp_path / "mine"), batch=16)[0].problems == ()
    assert len(list((tmp_path / "mine").glob("*.npy"))) == 3


def test_without_a_users_cache_training_goes_on_and_says_why(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    assert "no cache folder" in crops_of(folder, cache="auto")[0].problems[0]
