"""Finds the files that a command reads: those named, and the images in the folders named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from srflow_apps.batch.storage import file_names, is_folder
from srflow_apps.batch.url_paths import UrlPath
from srflow_sdk.errors import ImageError
from srflow_sdk.files import READABLE, UNREAD
from srflow_sdk.system import local_files


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file to upscale.

    name: its path inside the folder given on the command line, or its bare name if the file itself was given.
    """

    path: Path
    name: PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Found:
    """The input files of a command, and what was not taken from its folders.

    refused: folders that cannot be listed or have no images, and why.
    unread: how many images are left out, by the names of their formats (:data:`UNREAD`).
    """

    files: list[InputFile] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def find_inputs(inputs: Sequence[Path], *, out: Path, recursive: bool = False) -> Found:
    """Find the input files: those given, and the image files (:data:`READABLE`) in the folders given, sorted.

    Hidden files and folders are skipped, and so is everything under `out` if that lies inside a folder: those are
    earlier outputs. recursive: subfolders too; links to folders are not followed, so that none is entered twice.
    """
    found = Found()
    for path in inputs:
        if is_folder(path):
            _look_into(path, found, out=out, recursive=recursive)
        else:
            found.files.append(InputFile(path=path, name=PurePosixPath(path.name)))
    return found


def say_unread(unread: Mapping[str, int]) -> str | None:
    """One line about the images that were left out, such as "2 camera raw, 1 TGA"; None if there are none."""
    if not unread:
        return None
    named = ", ".join(f"{count} {name}" for name, count in sorted(unread.items(), key=lambda item: (-item[1], item[0])))
    return f"left out, because such images are not read: {named}; convert them to PNG or TIFF"


def real_path(path: Path) -> Path:
    """The path with all links followed, as far as they lead."""
    if isinstance(path, UrlPath):
        return path
    return local_files.real_path(path)


def _look_into(folder: Path, found: Found, *, out: Path, recursive: bool) -> None:
    refused: list[tuple[Path, str]] = []
    links: list[str] = []
    every: Iterable[PurePosixPath]
    if isinstance(folder, UrlPath):
        every = _names_in_store(folder, refused, out=out, recursive=recursive)
    else:
        every = _file_names(folder, refused, links, out=real_path(out), recursive=recursive)
    names: list[PurePosixPath] = []
    for name in every:
        ending = name.suffix.lower()
        if ending in READABLE:
            names.append(name)
        elif ending in UNREAD:
            found.unread[UNREAD[ending]] += 1
    names.sort(key=lambda name: name.parts)
    if not names and not refused:
        more = "" if recursive else "; with --recursive its subfolders are searched too"
        if links:
            more += f"; links to folders, such as {links[0]}, are not followed: name their targets"
        refused.append((folder, f"there are no images in this folder ({', '.join(READABLE)}){more}"))
    found.refused.extend((place, f"{place}: {why}") for place, why in refused)
    found.files.extend(InputFile(path=folder / name, name=name) for name in names)


def _names_in_store(
    folder: UrlPath, refused: list[tuple[Path, str]], *, out: Path, recursive: bool
) -> list[PurePosixPath]:
    """Names of files that are neither hidden nor outputs. refused: gets the folder if it cannot be listed."""
    try:
        names = file_names(folder, recursive=recursive)
    except ImageError as error:
        refused.append((folder, str(error).removeprefix(f"{folder}: ")))
        return []
    inside = folder in out.parents
    return [name for name in names if not (inside and out in (folder / name).parents)]


def _file_names(
    folder: Path, refused: list[tuple[Path, str]], links: list[str], *, out: Path, recursive: bool
) -> Iterator[PurePosixPath]:
    """Names of files that are neither hidden nor outputs. refused, links: get folders that are not entered."""

    def refuse(error: OSError) -> None:
        refused.append((Path(error.filename or folder), f"the folder cannot be listed: {error.strerror}"))

    inside = real_path(folder) in out.parents
    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        links.extend(name for name in folders if not name.startswith(".") and _is_link(here / name))
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
