"""Writes models into a repository: at any moment, a server that scans it finds whole models only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from srflow_export._bundle_writer import exchange, staging_directory
from srflow_export._named_locks import bundle_lock
from srflow_export.triton.config_text import is_edited, parameters_in, stamped
from srflow_export.triton.graph_models import graph_models
from srflow_export.triton.readme import readme, readme_path
from srflow_export.triton.upscale_model import MODEL_PY, NAME, upscale_config
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import BUNDLE, ServingOptions
from srflow_sdk.system.local_files import sync_directory, write_atomically

_CONFIG = "config.pbtxt"
_CPU_CONFIG = "configs/cpu.pbtxt"
_A_ROOT = "the root of a file system, so nothing can be moved into it at once; name a folder inside it"
_REPLACED = "replaced"
_TILE_BYTES = 2 << 30
_ACTIVATIONS = 5  # conditioning and activations together, in units of the conditioning: see tiles.py, rounded up
_LEAST_CORE = 64  # LR pixels a side that a client's tile may have besides its halo, whatever the model
_NO_FOLDER = (
    b"This file is here so that Python makes no folder of this name: it would change the version's time, and a server "
    b"that polls the repository would load the version again.\n"
)
_OF_THE_MODEL = ("mode", "max_tile_pixels", "sdk_version")  # parameters that a new version has its own of


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to write. configs: texts by file name. files: of the version's folder, contents or what to copy."""

    name: str
    configs: Mapping[str, str]
    files: Mapping[str, bytes | Path]


def write_repository(
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    repository: str | os.PathLike[str],
    *,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Add a bundle's models to a Triton model repository, each as a new version; older versions stay.

    bundle: one, or several. The models' names of several end in a hyphen and the bundle's name, as in
    srflow_upscale-x4-photo; a client that names none draws each picture with the embedded one that suits it.
    A README beside the repository says how to start a server with it.
    Limits and other parameters that somebody changed in srflow_upscale's config.pbtxt are kept. A config that was
    edited stays beside the new one, with its version and .old after its name.
    `say` receives a line for each model.
    Raises: BundleError, ArgumentError for a folder that cannot be a repository, ExportError if it cannot be written.
    Models that were there before an error stay whole.
    """
    _check_no_url(Path(repository))
    sources = [bundle] if isinstance(bundle, (str, os.PathLike)) else list(bundle)
    opened, target = [Bundle.open(source) for source in sources], Path(os.path.realpath(repository))
    for source in sources:
        check_repository(target, bundle=Path(os.path.realpath(source)))
    try:
        # before anything is written
        sets = []
        for each, suffix in zip(opened, _suffixes(opened), strict=True):
            options = _options(target, each, f"{NAME}{suffix}", say)
            sets.append(_Prepared(bundle=each, suffix=suffix, options=options, graphs=_graphs(each, suffix)))
        target.mkdir(parents=True, exist_ok=True)
        with bundle_lock(target, say=say):
            written = {}

            def add(model: Model) -> None:
                written[model.name], edited = _add(model, target)
                place = Path(repository) / model.name
                say(f"wrote {place}, version {written[model.name]}")
                for name, old in edited.items():
                    say(f"{place / name} had been edited: it is {place / old} now; repeat in the new one what you need")

            for one in sets:
                for graph in one.graphs:
                    add(graph)
                add(_upscale_model(one))
        for older in sorted(path for path in target.glob("srflow_*") if path.name not in written):
            say(f"{Path(repository) / older.name} is still an older bundle's: remove it if no client needs it")
        served = {f"{NAME}{one.suffix}": one.bundle for one in sets}
        write_atomically(readme_path(target), readme(served, target).encode())
        say(f"how to start a server and ask it: {readme_path(Path(repository))}")
    except OSError as error:
        why = f"it is {_A_ROOT}" if error.errno == errno.EXDEV else error.strerror or str(error)
        raise ExportError(f"{repository}: models cannot be written there: {why}") from error


def check_repository(target: Path, *, bundle: Path | None = None) -> None:
    """Raises: ArgumentError if this path cannot be a repository of models."""
    _check_no_url(target)
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"{target} is a file; a model repository is a folder: choose another name")
    if (target / "manifest.json").is_file() or (bundle is not None and target.is_relative_to(bundle)):
        raise ArgumentError(f"{target} is a bundle, or lies in one; a model repository is a folder of its own")
    if (target / _CONFIG).is_file():
        raise ArgumentError(f"{target} is one model of a repository; name the folder above it: {target.parent}")
    if os.path.ismount(target):
        raise ArgumentError(f"{target} is {_A_ROOT}")
    for folder in sorted(target.iterdir()) if target.is_dir() else []:
        if folder.is_dir() and not (folder / _CONFIG).is_file():
            raise ArgumentError(
                f"{folder} has no {_CONFIG}, and a server does not start with such a folder in its repository: choose "
                "another folder, or remove it"
            )


def _check_no_url(repository: Path) -> None:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(repository)):
        url = re.sub(":/+", "://", str(repository), count=1)  # a Path has one slash
        raise ArgumentError(
            f"{url} is a URL; a model repository is written into a folder: name one, then copy it there, for example "
            "with: aws s3 sync FOLDER s3://BUCKET/FOLDER"
        )


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A bundle's models. suffix: of their names. graphs: all but srflow_upscale."""

    bundle: Bundle
    suffix: str
    options: ServingOptions
    graphs: Sequence[Model]


def _suffixes(bundles: Sequence[Bundle]) -> list[str]:
    """The ends of the models' names: none for one bundle. Raises: ArgumentError if bundles' names cannot tell them."""
    names = [bundle.manifest.name for bundle in bundles]
    for name in names if len(names) > 1 else []:
        if names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise ArgumentError(
                f"several bundles need names of their own, of letters, digits and ._-, and one is {name!r}: give it "
                "another with --name when it is exported"
            )
    return [f"-{name}" for name in names] if len(names) > 1 else [""]


def _defaults(bundle: Bundle) -> ServingOptions:
    """By default the largest tile whose conditioning and activations take about 2 GiB."""
    affordable = _TILE_BYTES // (_ACTIVATIONS * bundle.manifest.conditioning_bytes_per_pixel)
    least = (_LEAST_CORE + 2 * padded_size(bundle.manifest.halo, bundle.manifest.size_multiple)) ** 2
    return ServingOptions(max_tile_pixels=max(affordable, least))


def _options(repository: Path, bundle: Bundle, name: str, say: Callable[[str], None]) -> ServingOptions:
    """The defaults for the model, and what somebody set in the older version's config."""
    config, options = repository / name / _CONFIG, _defaults(bundle)
    if not config.is_file():
        return options
    found = parameters_in(config.read_text())
    if found.get("mode", "python") != "python":
        say(f"{name} had the mode {found['mode']}, which is gone: the SDK runs the graphs now")
    defaults = options.parameters()
    kept = {key: text for key, text in found.items() if key not in _OF_THE_MODEL and defaults.get(key, text) != text}
    if kept:
        say(f"kept from {config}: {', '.join(f'{key} {text}' for key, text in kept.items())}")
    try:
        return ServingOptions.of_parameters(defaults | kept)
    except ArgumentError as error:
        raise ArgumentError(f"{config}: {error}; correct it, then export again") from error


def _graphs(bundle: Bundle, suffix: str) -> list[Model]:
    return [
        Model(name=graph.name, configs={_CONFIG: graph.gpu, _CPU_CONFIG: graph.cpu}, files=graph.files)
        for graph in graph_models(bundle, suffix)
    ]


def _upscale_model(prepared: _Prepared) -> Model:
    bundle, options, name = prepared.bundle, prepared.options, f"{NAME}{prepared.suffix}"
    files: dict[str, bytes | Path] = {"model.py": MODEL_PY.encode(), "__pycache__": _NO_FOLDER}
    files |= {f"{BUNDLE}/{file}": bundle.path / file for file in ("manifest.json", *bundle.manifest.files)}
    return Model(
        name=name,
        configs={
            _CONFIG: upscale_config(bundle, name, options, kind="KIND_AUTO"),
            _CPU_CONFIG: upscale_config(bundle, name, options, kind="KIND_CPU"),
        },
        files=files,
    )


def _add(model: Model, repository: Path) -> tuple[int, dict[str, str]]:
    """Put a new version of the model beside its older ones, all at once.

    Returns its number, and the new names of configs that somebody had edited, by the old ones.
    """
    place = repository / model.name
    with staging_directory(repository, rescue=lambda left: _put_back(left / _REPLACED, repository)) as stage:
        staged = stage / model.name
        if place.is_dir():
            shutil.copytree(place, staged, copy_function=_linked, symlinks=True)
        version = 1 + max((int(path.name) for path in _versions(staged)), default=0)
        edited = {name: f"{name}.{version - 1}.old" for name in model.configs if _is_edited(staged / name)}
        for name, old in edited.items():
            (staged / name).replace(staged / old)  # a server reads names that end in .pbtxt
        for name, text in model.configs.items():
            _write(staged / name, stamped(text).encode())
        for name, content in model.files.items():
            _write(staged / str(version) / name, content)
        for folder in [path for path in staged.rglob("*") if path.is_dir()] + [staged]:
            sync_directory(folder)
        _swap_in(staged, place, replaced=stage / _REPLACED / model.name)
        with contextlib.suppress(OSError):  # not all systems can; the model is in place
            sync_directory(repository)
    return version, edited


def _swap_in(staged: Path, place: Path, *, replaced: Path) -> None:
    if not place.exists():
        staged.rename(place)
    elif not exchange(staged, place):  # then there is a moment without the model: _put_back repairs a crash in it
        replaced.parent.mkdir()
        place.rename(replaced)
        try:
            staged.rename(place)
        except BaseException:
            replaced.rename(place)
            raise


def _put_back(folder: Path, repository: Path) -> None:
    """Put models that a killed process had moved away back into the repository."""
    for model in folder.iterdir() if folder.is_dir() else []:
        if not (repository / model.name).exists():
            model.rename(repository / model.name)


def _versions(model: Path) -> list[Path]:
    """The folders of versions: Triton takes those whose names are numbers."""
    if not model.is_dir():
        return []
    return [path for path in model.iterdir() if path.is_dir() and path.name.isascii() and path.name.isdecimal()]


def _is_edited(config: Path) -> bool:
    return config.is_file() and is_edited(config.read_text(errors="replace"))


def _linked(source: str, target: str) -> None:
    """The same file under another name, or a copy where that cannot be. Files of versions are never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write(path: Path, content: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be an older version's file under another name
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())
