"""Bundles: directories that hold an exported model, verified whenever one is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.geometry.sizes import LatentLevel
from srflow_sdk.model.manifest import INVERTER, SCHEMA_VERSION, Manifest
from srflow_sdk.system.local_files import content_sha256, open_regular

__all__ = ["SCHEMA_VERSION", "Bundle", "LatentLevel", "Manifest"]

_EMBEDDED = Path(__file__).resolve().parents[1] / "models"

DEFAULT_MODEL = "x4-small"
"""The embedded model that is used where none is named."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An exported model on disk, verified: a directory with its graphs and a manifest.

    Make one with :meth:`open` or :meth:`embedded`. It is immutable, and any number of threads may
    share it.

    Attributes:
        path: the directory.
        manifest: what it says about its model, such as ``manifest.scale``.

    Example:
        >>> Bundle.embedded("x4-small").manifest.scale
        4
    """

    path: Path
    manifest: Manifest
    _cleaner: Bundle | None = field(default=None, repr=False)
    """The model that draws damaged pictures first, of one that is chosen by the picture."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle directory and verify it: manifest, schema, sizes and sha256 of every file.

        Args:
            path: the directory. A string that is the name of an embedded model, such as "x4-small",
                means that model; for a directory of the same name, write "./x4-small" or a
                :class:`~pathlib.Path`.

        Raises:
            BundleError: something is missing, damaged, changed since the export, or of a newer
                schema.
        """
        bundle = cls._describe(path)
        bundle._verify()
        return bundle

    @classmethod
    def _describe(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle, but read only its manifest: milliseconds, however large it is."""
        directory = bundle_path(path)
        make = "srflow-export makes one from a checkpoint"
        if not directory.exists():
            names = ", ".join(cls.embedded_names()) or "none"
            raise BundleError(
                f"{directory}: there is no such bundle; {make}, and these are installed: {names}"
            )
        if not directory.is_dir():
            raise BundleError(
                f"{directory} is a file; a bundle is a directory with a manifest.json. To make "
                f"one from a checkpoint: srflow-export --ckpt {directory.name}"
            )
        try:
            with open_regular(directory / "manifest.json") as file:
                return cls(path=directory, manifest=Manifest.from_json(file.read()))
        except FileNotFoundError as error:
            raise BundleError(
                f"{directory} is not a bundle: it has no manifest.json; {make}"
            ) from error
        except OSError as error:
            raise BundleError(f"{directory} cannot be opened as a bundle: {error}") from error
        except BundleError as error:
            raise BundleError(f"{directory}: {error}") from error

    def _verify(self) -> None:
        """Raises: BundleError unless every file is there as it was exported."""
        for name, record in self.manifest.files.items():
            what = f"{self.path}: {name}"
            fix = "fetch or export the bundle again"
            try:
                with open_regular(self.path / name) as file:
                    actual = os.fstat(file.fileno()).st_size
                    if actual != record["bytes"]:
                        raise BundleError(
                            f"{what} has {actual} bytes, not the manifest's {record['bytes']}; "
                            f"{fix}"
                        )
                    if content_sha256(file) != record["sha256"]:
                        raise BundleError(
                            f"{what} differs from what was exported (its sha256 does not match); "
                            f"{fix}"
                        )
            except FileNotFoundError as error:
                raise BundleError(f"{what} is missing; {fix}") from error
            except OSError as error:
                raise BundleError(
                    f"{what} cannot be read: {error.strerror or error}; {fix}"
                ) from error

    @classmethod
    def embedded(cls, name: str = DEFAULT_MODEL) -> Bundle:
        """Open a model that is installed with the SDK.

        Args:
            name: one of :meth:`embedded_names`.

        Raises:
            BundleError: this installation has no such model, or it is damaged.
        """
        if name not in (names := cls.embedded_names()):
            others = ", ".join(names) or "none"
            raise BundleError(
                f"this installation of srflow-sdk has no model {name!r} (it has: {others}); "
                "reinstall it (pip install --force-reinstall srflow-sdk) or name a bundle"
            )
        return cls.open(name)

    @staticmethod
    def embedded_names() -> tuple[str, ...]:
        """The names of the models that are installed with the SDK, the default first."""
        names = (path.stem for path in _EMBEDDED.glob("*.srflow"))
        return tuple(sorted(names, key=lambda name: (name != DEFAULT_MODEL, len(name), name)))

    @property
    def is_embedded(self) -> bool:
        """True if it is one of the models that are installed with the SDK."""
        return self.path.parent == _EMBEDDED

    @property
    def model_sha256(self) -> str:
        """One sha256 for the whole bundle: it covers the manifest and, through it, every file."""
        return self.manifest.digest

    def file(self, name: str) -> Path:
        """The path of a file of the bundle.

        Args:
            name: as the manifest lists it, such as "encoder.onnx".

        Raises:
            ArgumentError: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            names = ", ".join(sorted(self.manifest.files)) or "none on this machine"
            raise ArgumentError(f"{self.path} has no file {name!r}; it has {names}")
        return self.path / name


def check_inverts(bundle: Bundle) -> None:
    """Raises: BundleError if the bundle has no inverter."""
    if INVERTER in bundle.manifest.files:
        return
    fix = "export its checkpoint again with a newer srflow-export, without --no-inverter"
    raise BundleError(f"{bundle.path} has no {INVERTER}, which this needs: {fix}")


def bundle_path(path: str | os.PathLike[str]) -> Path:
    """The directory that :meth:`Bundle.open` opens: of an embedded model if a string is its name.

    It may not exist.
    """
    is_name = isinstance(path, str) and path in Bundle.embedded_names()
    return _EMBEDDED / f"{path}.srflow" if is_name else Path(path)
