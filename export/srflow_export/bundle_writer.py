"""Write bundles atomically: a reader always sees the whole old or the whole new one.

Who writes a bundle holds its lock, by name, since it may not exist yet. The operating system frees
the locks of a process that dies. Their files stay in the user's cache folder: removing one that
another process has just opened would let both in.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from srflow_export.progress import Say
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES, Manifest
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import file_sha256, sync_directory, write_atomically

_REPLACED = "replaced"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_EXCHANGE_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleStage:
    """Where an export collects the bundle's files, in :attr:`path`; see :func:`staged_bundle`."""

    path: Path
    target: Path

    def copy(self, bundle: Bundle, names: Iterable[str]) -> None:
        """Copy files of a bundle."""
        for name in names:
            copy = self.path / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / name, copy)

    def commit(self, manifest: Manifest) -> Manifest:
        """Finish the bundle and put it at the target, in place of any older bundle.

        manifest: its `files` and `digest` are filled in here, from the files in :attr:`path`.
        Returns the manifest as written. Once this returns, the bundle is on disk. On any error the
        target stays as is.

        Raises: BundleError if the manifest is not valid, a required file is missing, or a name is
        not plain; OSError, which :func:`staged_bundle` makes a BundleError, if the target cannot be
        replaced.
        """
        (self.path / "manifest.json").unlink(missing_ok=True)
        files = {
            path.relative_to(self.path).as_posix(): path
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        records = {name: _hash_and_sync(path) for name, path in files.items()}
        text = dataclasses.replace(manifest, files=records).to_json()
        written = Manifest.from_json(text)  # what is written must be readable
        write_atomically(self.path / "manifest.json", text.encode())
        for folder in {path.parent for path in files.values()} | {self.path}:
            sync_directory(folder)
        refuse_target_that_is_no_bundle(self.target)
        swap_in(self.path, self.target, stage=self.path.parent)
        sync_directory(self.target.parent)
        return written


@contextlib.contextmanager
def staged_bundle(
    target: str | os.PathLike[str], *, say: Say = lambda _: None
) -> Iterator[BundleStage]:
    """Open a stage for writing the bundle `target`, which stays as it is until the commit.

        with staged_bundle("model.srflow") as stage:
            (stage.path / "encoder.onnx").write_bytes(...)
            (stage.path / "sampler.onnx").write_bytes(...)
            stage.commit(manifest)

    Leaving the block without a commit, with or without an exception, leaves the target as it was
    and nothing else behind. The next stage for the same target removes what a killed process left
    behind. One process at a time has a stage for a target (:func:`bundle_lock`): others wait for
    it, and `say` receives a line.

    Raises: BundleError if the target exists and is not a bundle, or its folder cannot be written
        to.
    """
    final = Path(os.path.realpath(target))
    refuse_target_that_is_no_bundle(final)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bundle_lock(target, say=say))
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            path = stack.enter_context(staging_directory(final, into=final.parent)) / final.name
            path.mkdir()
        except OSError as error:
            raise BundleError(f"{final}: a bundle cannot be written there: {error}") from error
        try:
            yield BundleStage(path=path, target=final)
        except OSError as error:
            raise BundleError(
                f"{final}: the bundle cannot be written: {error.strerror or error}"
            ) from error


@contextlib.contextmanager
def staging_directory(target: Path, *, into: Path) -> Iterator[Path]:
    """Make a hidden directory beside the target, and remove it at the end.

    The caller holds the target's lock.

    into: the folder into which :func:`swap_in` moves things from it. What killed processes left of
    such directories is removed first, and what they had moved away is put back. Raises: OSError.
    """
    prefix = f".{target.name}.staging-"
    for left in sorted(
        path for path in target.parent.iterdir() if path.name.startswith(prefix) and path.is_dir()
    ):
        _remove(left, into)
    stage = target.parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    try:  # before it exists, because a signal may come as soon as it does
        stage.mkdir()
        yield stage
    finally:
        _remove(stage, into)


def _remove(stage: Path, into: Path) -> None:
    """Put back what was moved away for something that never came, and remove the directory."""
    replaced = stage / _REPLACED
    for moved in replaced.iterdir() if replaced.is_dir() else []:
        if not (into / moved.name).exists():
            moved.rename(into / moved.name)
    shutil.rmtree(stage, ignore_errors=True)


def refuse_target_that_is_no_bundle(target: Path) -> None:
    """Refuse to replace what is no bundle. Raises: BundleError."""
    if not target.exists():
        return
    if not target.is_dir():
        raise BundleError(
            f"{target} is a file; a bundle is a directory: choose another name for it"
        )
    # manifest.json alone is common (browser extensions have one), and replacing deletes what was
    # there.
    if not (target / "manifest.json").is_file() or not any(
        (target / name).is_file() for name in REQUIRED_FILES
    ):
        raise BundleError(
            f"{target} exists and is not a bundle, so it is not replaced: choose another name, or "
            "remove it"
        )


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("r+b") as file:  # Windows flushes no file that is open for reading alone
        os.fsync(file.fileno())


def _hash_and_sync(path: Path) -> dict[str, str | int]:
    sync_file(path)
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def swap_in(staged: Path, target: Path, *, stage: Path) -> None:
    """Put something from a staging directory at the target; an older one ends up in that directory.

    Without an atomic exchange there is a moment with nothing at the target; after a crash in it,
    the next :func:`staging_directory` puts the older one back.
    """
    if target.exists():
        if _exchange(staged, target):
            return
        (stage / _REPLACED).mkdir(exist_ok=True)
        target.rename(stage / _REPLACED / target.name)
    staged.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically (Linux); False if the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _EXCHANGE_UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextlib.contextmanager
def bundle_lock(target: str | os.PathLike[str], *, say: Say = lambda _: None) -> Iterator[None]:
    """Hold the right to write a bundle, or to replace one by another made from it.

    It is held from reading to commit; otherwise the work of another process in between would be
    lost. It works between processes of one user on one machine, since the lock is in the user's
    cache folder, or in that for temporary files if there is none. `say` receives a line if it has
    to wait. Not reentrant.

    Raises: BundleError if the lock cannot be made.
    """
    final = Path(os.path.realpath(target))
    folder = cache_folder("locks")
    name = f"{hashlib.sha256(os.fsencode(final)).hexdigest()}.lock"
    if folder is not None:
        path = folder / name
    else:
        path = (
            Path(tempfile.gettempdir()) / f"srflow-{getattr(os, 'getuid', lambda: 'user')()}-{name}"
        )
    try:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{target}: another srflow-export is writing this bundle; waiting for it")
            lock.acquire()
    except OSError as error:
        why = error.strerror or error
        raise BundleError(
            f"{target}: a bundle cannot be written there, because {path} cannot be locked: {why}"
        ) from error
    try:
        yield
    finally:
        lock.release()
