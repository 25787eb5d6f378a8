"""Write bundles atomically: at any moment, and after any crash, a reader finds the whole old or the whole new one.

Locks by name serve things without a descriptor of their own to lock: a bundle that does not exist yet, an engine that
is being built. The operating system frees the locks of a process that dies. Their files stay in the user's cache
folder: removing one that another process has just opened would let both in.
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
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from srflow_sdk.errors import BundleError
from srflow_sdk.model.manifest import REQUIRED_FILES, Manifest, is_plain_file_name
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import file_sha256, sync_directory, write_atomically
from srflow_sdk.system.local_files import lock as lock_descriptor

_STAGING = "staging"
_REPLACED = "replaced"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_EXCHANGE_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


class BundleStage:
    """A hidden directory beside the target where an export collects the bundle's files; see :func:`staged_bundle`.

    path: the directory; write the files here.
    """

    def __init__(self, *, path: Path, target: Path) -> None:
        self.path = path
        self.target = target

    def commit(self, manifest: Manifest) -> Manifest:
        """Finish the bundle and put it at the target, in place of any older bundle.

        manifest: its `files` and `digest` are filled in here, from the files in :attr:`path`.
        Returns the manifest as written. Once this returns, the bundle is on disk. On any error the target stays as is.

        Raises: BundleError if the manifest is not valid, a required file is missing, a name is not plain, or the target
        cannot be replaced.
        """
        try:
            return self._commit(manifest)
        except OSError as error:
            raise BundleError(f"{self.target}: the bundle cannot be written: {error.strerror or error}") from error

    def _commit(self, manifest: Manifest) -> Manifest:
        (self.path / "manifest.json").unlink(missing_ok=True)
        files = {
            path.relative_to(self.path).as_posix(): path for path in sorted(self.path.rglob("*")) if path.is_file()
        }
        if odd := [name for name in files if not is_plain_file_name(name)]:
            raise BundleError(f"{odd[0]!r} cannot be a bundle's file: names must be plain and at most one folder deep")
        if missing := [name for name in REQUIRED_FILES if name not in files]:
            raise BundleError(f"the bundle cannot be written without {missing[0]}")
        records = {name: _hash_and_sync(path) for name, path in files.items()}
        text = dataclasses.replace(manifest, files=records).to_json()
        written = Manifest.from_json(text)  # what is written must be readable
        write_atomically(self.path / "manifest.json", text.encode())
        for folder in {path.parent for path in files.values()} | {self.path}:
            sync_directory(folder)
        refuse_target_that_is_no_bundle(self.target)
        replaced = _sibling(self.target, _REPLACED)
        swap_in(self.path, self.target, replaced=replaced)
        shutil.rmtree(replaced, ignore_errors=True)
        sync_directory(self.target.parent)
        return written


@contextlib.contextmanager
def staged_bundle(target: str | os.PathLike[str]) -> Iterator[BundleStage]:
    """Open a stage for writing the bundle `target`, which does not change until :meth:`BundleStage.commit`.

        with staged_bundle("model.srflow") as stage:
            (stage.path / "encoder.onnx").write_bytes(...)
            (stage.path / "sampler.onnx").write_bytes(...)
            stage.commit(manifest)

    Leaving the block without a commit, with or without an exception, leaves the target as it was and nothing else
    behind. The next stage for the same target removes what a killed process left behind. Stages of running processes do
    not disturb each other; the last commit wins.

    Raises: BundleError if the target exists and is not a bundle, or its folder cannot be written to.
    """
    final = Path(os.path.realpath(target))
    refuse_target_that_is_no_bundle(final)
    with contextlib.ExitStack() as stack:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            _recover(final)
            path = stack.enter_context(staging_directory(final))
        except OSError as error:
            raise BundleError(f"{final}: a bundle cannot be written there: {error}") from error
        try:
            yield BundleStage(path=path, target=final)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BundleError(f"{final}: the disk is full; free some space and export again") from error
            raise BundleError(f"{final}: the bundle cannot be written: {error}") from error


@contextlib.contextmanager
def staging_directory(target: Path, *, rescue: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """Make a hidden directory beside the target, which is removed at the end.

    What killed processes left of such directories is removed first; `rescue` is called with each before that.
    Raises: OSError.
    """
    for left in _siblings(target, _STAGING):
        if (lock := _lock(left, wait=False)) is not None:
            rescue(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    path, lock = _sibling(target, _STAGING), None
    try:  # before it exists, because a signal may come as soon as it does
        lock = _make_locked(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def refuse_target_that_is_no_bundle(target: Path) -> None:
    """Raises: BundleError if something is at this path that is not a bundle, and must not be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise BundleError(f"{target} is a file; a bundle is a directory: choose another name for it")
    # manifest.json alone is common (browser extensions have one), and replacing deletes what was there.
    if not (target / "manifest.json").is_file() or not any((target / name).is_file() for name in REQUIRED_FILES):
        raise BundleError(
            f"{target} exists and is not a bundle, so it is not replaced: choose another name, or remove it"
        )


def _hash_and_sync(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def swap_in(staged: Path, target: Path, *, replaced: Path) -> None:
    """Put a staged directory at the target; an older one ends up at the staging path, or at `replaced`.

    Without an atomic exchange there is a moment with nothing at the target, and a crash in it leaves `replaced`.
    """
    if not target.exists():
        staged.rename(target)
    elif not _exchange(staged, target):
        replaced.parent.mkdir(exist_ok=True)
        target.rename(replaced)
        try:
            staged.rename(target)
        except BaseException:
            replaced.rename(target)
            raise


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


def _sibling(target: Path, purpose: str) -> Path:
    return target.parent / f".{target.name}.{purpose}-{os.getpid()}-{secrets.token_hex(4)}"


def _siblings(target: Path, purpose: str) -> list[Path]:
    prefix = f".{target.name}.{purpose}-"
    return sorted(path for path in target.parent.iterdir() if path.name.startswith(prefix) and path.is_dir())


def _make_locked(path: Path) -> int | None:
    """Make a staging directory; returns the descriptor whose lock shows that its process is alive (None: no locks)."""
    for _ in range(16):
        path.mkdir()
        # Waiting, because another process may have taken the new directory for stale, and is about to remove it.
        lock = _lock(path)
        if path.is_dir():
            return lock
        if lock is not None:
            os.close(lock)
    raise OSError(errno.EAGAIN, "the staging directory keeps being removed by another export")


def _lock(path: Path, *, wait: bool = True) -> int | None:
    """Lock a directory until the returned descriptor is closed or the process ends; None if that cannot be done now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # Windows cannot open directories
    except OSError:
        return None
    if lock_descriptor(descriptor, wait=wait):
        return descriptor
    os.close(descriptor)
    return None


def _recover(target: Path) -> None:
    """Clean up after dead processes: put back an older bundle that was moved away, or remove it."""
    for replaced in reversed(_siblings(target, _REPLACED)):
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(target)


def acquired(path: Path, *, waiting: str, say: Callable[[str], None]) -> FileLock:
    """Acquire the lock of this file; the caller releases it. `say` receives `waiting` if another process holds it.

    Raises: OSError if the file cannot be written.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    return lock


@contextlib.contextmanager
def bundle_lock(target: str | os.PathLike[str], *, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the right to write a bundle, or to replace one by another made from it.

    A process that reads a bundle in order to rewrite it holds this from reading to commit; otherwise the work of
    another process in between would be lost. It works between processes of one user on one machine, since the lock is
    in the user's cache folder, or in that for temporary files if there is none. Not reentrant.

    Raises: BundleError if the lock cannot be made.
    """
    final = Path(os.path.realpath(target))
    folder = cache_folder("locks")
    waiting = f"{target}: another srflow-export is writing this bundle; waiting for it"
    name = f"{hashlib.sha256(os.fsencode(final)).hexdigest()}.lock"
    if folder is not None:
        path = folder / name
    else:
        path = Path(tempfile.gettempdir()) / f"srflow-{getattr(os, 'getuid', lambda: 'user')()}-{name}"
    try:
        lock = acquired(path, waiting=waiting, say=say)
    except OSError as error:
        why = error.strerror or error
        raise BundleError(
            f"{target}: a bundle cannot be written there, because {path} cannot be locked: {why}"
        ) from error
    try:
        yield
    finally:
        lock.release()
