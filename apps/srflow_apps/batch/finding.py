"""Finds the files that a command reads: those named, and the images in the folders named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from srflow_apps.batch import cloud
from srflow_sdk.errors import ImageError
from srflow_sdk.files import READABLE, UNREAD
from srflow_sdk.system import local_files
from srflow_sdk.system.url_paths import UrlPath


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file to upscale.

    name: its path inside the folder given on the command line, or its bare name if the file itself was given.
    """

    path: Path
    name: PurePosixPath


def find_inputs(
    inputs: Sequence[Path],
    *,
    out: Path,
    recursive: bool = False,
    failed: Callable[[Path, str], None] | None = None,
    unread: Counter[str] | None = None,
) -> list[InputFile]:
    """The input files of a command: those given, and the image files (:data:`READABLE`) in the folders given, sorted.

    Hidden files and folders are skipped, and so is everything under `out` if that lies inside a folder: those are
    earlier outputs. recursive: subfolders too; links to folders are not followed, so that none is entered twice.
    failed: called with each folder that cannot be listed or has no images, and why; the others are still used.
    unread: counts the images in folders that are left out, by the names of their formats (:data:`UNREAD`).

    Raises: ImageError for such a folder, without `failed`.
    """

    def fail(folder: Path, why: str) -> None:
        line = f"{folder}: {why}"
        if failed is None:
            raise ImageError(line)
        failed(folder, line)

    counter = Counter[str]() if unread is None else unread
    found: list[InputFile] = []
    for path in inputs:
        if is_folder(path):
            found += _in_folder(path, out=out, recursive=recursive, fail=fail, unread=counter)
        else:
            found.append(InputFile(path=path, name=PurePosixPath(path.name)))
    return found


def say_unread(unread: Mapping[str, int]) -> str | None:
    """One line about the images that were left out, such as "2 camera raw, 1 TGA"; None if there are none."""
    if not unread:
        return None
    named = ", ".join(f"{count} {name}" for name, count in sorted(unread.items(), key=lambda item: (-item[1], item[0])))
    return f"left out, because such images are not read: {named}; convert them to PNG or TIFF"


def is_folder(path: Path) -> bool:
    """True if it is a folder, as far as can be seen. Raises: ImageError if a URL's store does not answer."""
    if isinstance(path, UrlPath):
        return cloud.is_folder(path)
    try:
        return path.is_dir()
    except OSError:  # a parent folder cannot be entered
        return False


def real_path(path: Path) -> Path:
    """The path with all links followed, as far as they lead."""
    if isinstance(path, UrlPath):
        return path
    return local_files.real_path(path)


def _in_folder(
    folder: Path, *, out: Path, recursive: bool, fail: Callable[[Path, str], None], unread: Counter[str]
) -> list[InputFile]:
    refused: list[OSError] = []
    links: list[str] = []
    names: list[PurePosixPath] = []
    if isinstance(folder, UrlPath):
        found = _names_in_store(folder, out=out, recursive=recursive, fail=fail)
        if found is None:
            return []
    else:
        found = _file_names(
            folder, out=real_path(out), recursive=recursive, refused=refused.append, linked=links.extend
        )
    for name in found:
        ending = name.suffix.lower()
        if ending in READABLE:
            names.append(name)
        elif ending in UNREAD:
            unread[UNREAD[ending]] += 1
    names.sort(key=lambda name: name.parts)
    for error in refused:
        fail(Path(error.filename or folder), f"the folder cannot be listed: {error.strerror}")
    if not names and not refused:
        more = "" if recursive else "; with --recursive its subfolders are searched too"
        if links:
            more += f"; links to folders, such as {links[0]}, are not followed: name their targets"
        fail(folder, f"there are no images in this folder ({', '.join(READABLE)}){more}")
    return [InputFile(path=folder / name, name=name) for name in names]


def _names_in_store(
    folder: UrlPath, *, out: Path, recursive: bool, fail: Callable[[Path, str], None]
) -> Iterable[PurePosixPath] | None:
    """As _file_names; None if the folder cannot be listed."""
    try:
        names = cloud.file_names(folder, recursive=recursive)
    except ImageError as error:
        fail(folder, str(error).removeprefix(f"{folder}: "))
        return None
    inside = folder in out.parents
    return [name for name in names if not (inside and out in (folder / name).parents)]


def _file_names(
    folder: Path,
    *,
    out: Path,
    recursive: bool,
    refused: Callable[[OSError], None],
    linked: Callable[[Iterable[str]], None],
) -> Iterator[PurePosixPath]:
    """Names of files that are neither hidden nor outputs.

    refused, linked: called with folders that cannot be listed, and with links to folders.
    """
    inside = real_path(folder) in out.parents
    for place, folders, files in os.walk(folder, onerror=refused):
        here = Path(place)
        linked(name for name in folders if not name.startswith(".") and _is_link(here / name))
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        if inside:
            folders[:] = [name for name in folders if real_path(here / name) != out]
        for name in files:
            path = here / name
            if name.startswith("."):
                continue
            if inside and _is_link(path) and out in real_path(path).parents:
                continue
            yield PurePosixPath(path.relative_to(folder).as_posix())


def _is_link(path: Path) -> bool:
    """True if it is a link, as far as can be seen."""
    try:
        return path.is_symlink()
    except OSError:
        return False
