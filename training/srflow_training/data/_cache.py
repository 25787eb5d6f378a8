"""Where decoded photographs are kept: by default in the user's cache, if they fit there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import remove_stale_parts_in
from srflow_training.data._decoding import cache_name
from srflow_training.data._folders import Photos

_SHARE_OF_FREE_DISK = 0.5


@dataclass(frozen=True)
class DecodedCache:
    """folder: where decoded photographs are kept; None: nowhere. report: one line for the user; empty if not wanted."""

    folder: Path | None
    report: str


def choose_cache(photos: Photos, setting: str) -> DecodedCache:
    """Choose the folder for decoded photographs by `DataSettings.cache`.

    "auto" takes the user's cache folder if what is not in it yet needs at most half of the disk that is free there.
    """
    if setting == "off":
        return DecodedCache(None, "")
    files = _decoded_sizes(photos)
    total = _readable(sum(files.values()))
    if setting != "auto":
        return DecodedCache(Path(setting), f"decoded photographs: {total} in {setting}")
    folder = cache_folder("photographs")
    if folder is None:
        return DecodedCache(None, _without("this user has no cache folder"))
    remove_stale_parts_in(folder)
    missing = sum(size for name, size in files.items() if not (folder / name).exists())
    free = shutil.disk_usage(folder).free
    if missing > _SHARE_OF_FREE_DISK * free:
        why = f"they need {_readable(missing)}, more than half of the {_readable(free)} free in {folder}"
        return DecodedCache(None, _without(why))
    return DecodedCache(folder, f"decoded photographs: {total} in {folder}")


def _decoded_sizes(photos: Photos) -> dict[str, int]:
    """{name in the cache: bytes} of every photograph at each of its sizes, of its LR file and its teacher's."""
    sizes = {}
    for photo in photos.sizes:
        pixels = photo.height * photo.width
        sizes[cache_name(photo.path, photo.halvings)] = 3 * pixels
        if photo.lr is not None:
            sizes[cache_name(photo.lr, 0)] = 3 * pixels // photos.step**2
        if photo.teacher is not None:
            sizes[cache_name(photo.teacher, 0)] = 3 * pixels
    return sizes


def _without(why: str) -> str:
    return (
        f"decoded photographs are not kept, so every crop costs decoding: {why}; name a folder with data.cache=FOLDER"
    )


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
