"""Model repositories for NVIDIA Triton Inference Server, made from bundles.

At any moment, a server that scans a repository finds whole models only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srflow_export.bundle_writer import bundle_lock, staging_directory, swap_in, sync_file
from srflow_export.progress import Say
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.geometry.tiles import padded_size
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import (
    BUNDLE,
    MODEL_PARAMETER,
    VERSION_PARAMETER,
    ServingOptions,
    described,
)
from srflow_sdk.system.local_files import sync_directory

NAME = "srflow_upscale"
CONFIGS = {"config.pbtxt": "KIND_AUTO", "configs/cpu.pbtxt": "KIND_CPU"}
"""A model's configs, and their kind of instance: AUTO is one for each GPU, or one on the CPU."""

MODEL_PY = f'''"""Loaded by Triton's python backend; srflow-sdk does the work."""

try:
    from srflow_apps.serving.triton_model import TritonPythonModel
except ImportError as error:
    raise ImportError(
        f"srflow_upscale needs srflow-sdk in the server's Python environment ({{error}}): "
        "pip install 'srflow-sdk>={__version__}'"
    ) from error

__all__ = ["TritonPythonModel"]
'''

_INPUTS = {  # each optional
    "image": ("UINT8", "-1, -1, 3"),
    "image_bytes": ("STRING", "1"),
    "tile": ("FP32", "-1, -1, 3"),
    "tau": ("FP32", "1"),
    "seed": ("INT64", "1"),
    "samples": ("INT32", "1"),
    "sample": ("INT64", "1"),
    "origin": ("INT64", "2"),
    "tau_map": ("FP32", "-1, -1"),
}
_OUTPUTS = {"upscaled": ("UINT8", "-1, -1, -1, 3"), "tile_upscaled": ("FP32", "-1, -1, -1, 3")}
_A_ROOT = (
    "the root of a file system, so nothing can be moved into it at once; name a folder inside it"
)
_TILE_BYTES = 2 << 30
# conditioning and activations together, in units of the conditioning: see tiles.py, rounded up
_ACTIVATIONS = 5
# LR pixels a side that a client's tile may have besides its halo, whatever the model
_LEAST_CORE = 64
_NO_FOLDER = (
    b"This file is here so that Python makes no folder of this name: it would change the version's "
    b"time, and a server "
    b"that polls the repository would load the version again.\n"
)
# parameters that a new version has its own of
_OF_THE_MODEL = ("max_tile_pixels", VERSION_PARAMETER)


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A model to write. place: its folder."""

    bundle: Bundle
    place: Path
    options: ServingOptions


def write_repository(
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    repository: str | os.PathLike[str],
    *,
    say: Say = lambda _: None,
) -> None:
    """Add `srflow_upscale` with a bundle to a Triton model repository, as a new version.

    Limits and other parameters that somebody changed in its config.pbtxt are kept. A config that
    was edited stays beside the new one, with its version and .old after its name. Models that were
    there before an error stay whole.

    Args:
        bundle: one, or several. Of several, each has a model, whose name ends in a hyphen and the
            bundle's name, as in srflow_upscale-x4-photo; a client that names none draws each
            picture with the one that suits it.
        repository: its folder, which need not exist.
        say: receives a line for each model.

    Raises:
        BundleError: a bundle cannot be read.
        ArgumentError: the folder cannot be a repository, or several bundles have one name.
        ExportError: it cannot be written.
    """
    shown = Path(repository)
    target = Path(os.path.realpath(repository))
    sources = [bundle] if isinstance(bundle, (str, os.PathLike)) else list(bundle)
    opened = [Bundle.open(source) for source in sources]
    for source in sources:
        check_repository(shown, bundle=Path(os.path.realpath(source)))
    try:
        places = [target / f"{NAME}{suffix}" for suffix in _choose_suffixes(opened)]
        models = [
            _Model(bundle=each, place=place, options=_choose_options(place, each, say))
            for each, place in zip(opened, places, strict=True)
        ]
        target.mkdir(parents=True, exist_ok=True)
        with bundle_lock(target, say=say):
            for model in models:
                version, edited = _add_version(model)
                place = shown / model.place.name
                say(f"wrote {place}, version {version}")
                for name, old in edited.items():
                    say(
                        f"{place / name} had been edited: it is {place / old} now; repeat in the "
                        "new one what you need"
                    )
    except OSError as error:
        why = f"it is {_A_ROOT}" if error.errno == errno.EXDEV else error.strerror or str(error)
        raise ExportError(f"{repository}: models cannot be written there: {why}") from error


def check_repository(repository: Path, *, bundle: Path | None = None) -> None:
    """Raises: ArgumentError if this path cannot be a repository of models."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", repository.as_posix()):
        url = re.sub(":/+", "://", repository.as_posix(), count=1)  # a Path has one slash
        raise ArgumentError(
            f"{url} is a URL; a model repository is written into a folder: name one, then copy it "
            "there, for example with: aws s3 sync FOLDER s3://BUCKET/FOLDER"
        )
    target = Path(os.path.realpath(repository))
    if target.exists() and not target.is_dir():
        raise ArgumentError(
            f"{target} is a file; a model repository is a folder: choose another name"
        )
    if (target / "manifest.json").is_file() or (
        bundle is not None and target.is_relative_to(bundle)
    ):
        raise ArgumentError(
            f"{target} is a bundle, or lies in one; a model repository is a folder of its own"
        )
    if (target / "config.pbtxt").is_file():
        raise ArgumentError(
            f"{target} is one model of a repository; name the folder above it: {target.parent}"
        )
    if os.path.ismount(target):
        raise ArgumentError(f"{target} is {_A_ROOT}")
    for folder in sorted(target.iterdir()) if target.is_dir() else []:
        if folder.is_dir() and not (folder / "config.pbtxt").is_file():
            raise ArgumentError(
                f"{folder} has no config.pbtxt, and a server does not start with such a folder in "
                "its repository: choose another folder, or remove it"
            )


def _choose_suffixes(bundles: Sequence[Bundle]) -> list[str]:
    """Return the ends of the models' names: none for one bundle. Raises: ArgumentError."""
    names = [bundle.manifest.name for bundle in bundles]
    for name in names if len(names) > 1 else []:
        if names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise ArgumentError(
                "several bundles need names of their own, of letters, digits and ._-, and one is "
                f"{name!r}: give it another with --name when it is exported"
            )
    return [f"-{name}" for name in names] if len(names) > 1 else [""]


def _choose_options(place: Path, bundle: Bundle, say: Say) -> ServingOptions:
    """Choose the largest tile of about 2 GiB, and keep what the older version's config has."""
    affordable = _TILE_BYTES // (_ACTIVATIONS * bundle.manifest.conditioning_bytes_per_pixel)
    least = (
        _LEAST_CORE + 2 * padded_size(bundle.manifest.halo, bundle.manifest.size_multiple)
    ) ** 2
    options = ServingOptions(max_tile_pixels=max(affordable, least))
    config = place / "config.pbtxt"
    if not config.is_file():
        return options
    written = read_parameters(config.read_text(encoding="utf-8"))
    defaults = options.parameters()
    kept = {
        key: text
        for key, text in written.items()
        if key not in _OF_THE_MODEL and defaults.get(key, text) != text
    }
    if kept:
        say(f"kept from {config}: {', '.join(f'{key} {text}' for key, text in kept.items())}")
    try:
        return ServingOptions.of_parameters(defaults | kept)
    except ArgumentError as error:
        raise ArgumentError(f"{config}: {error}; correct it, then export again") from error


def read_parameters(config: str) -> dict[str, str]:
    """The parameters of a config that :func:`_make_config` wrote, whatever was edited since."""
    return dict(re.findall(r'key:\s*"(\w+)"\s*value:?\s*\{\s*string_value:\s*"([^"\\]*)"', config))


def _make_config(model: _Model, kind: str) -> str:
    """Make a config in protobuf's text format, without batches.

    Triton's batches need equal shapes, and the SDK batches tiles.

    Its first line is a comment from which :func:`_is_edited` tells whether somebody changed it.
    """
    own = {
        VERSION_PARAMETER: __version__,
        MODEL_PARAMETER: described(model.bundle),
    } | model.options.parameters()
    inputs = [_tensor(name, *declared, " optional: true") for name, declared in _INPUTS.items()]
    outputs = [_tensor(name, *declared) for name, declared in _OUTPUTS.items()]
    parameters = [
        f"{{ key: {_quote(key)} value: {{ string_value: {_quote(own[key])} }} }}" for key in own
    ]
    text = f"""name: {_quote(model.place.name)}
backend: "python"
max_batch_size: 0
{_list("input", inputs)}
{_list("output", outputs)}
instance_group [ {{ kind: {kind} count: 1 }} ]
version_policy: {{ latest: {{ num_versions: 1 }} }}
{_list("parameters", parameters)}
"""
    return _stamp(text)


def _list(field: str, entries: Sequence[str]) -> str:
    return f"{field} [\n  " + ",\n  ".join(entries) + "\n]"


def _tensor(name: str, dtype: str, dims: str, more: str = "") -> str:
    return f"{{ name: {_quote(name)} data_type: TYPE_{dtype} dims: [{dims}]{more} }}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _stamp(text: str) -> str:
    return (
        "# Written by srflow-export; sha256 of what follows: "
        f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
    )


def _is_edited(config: Path) -> bool:
    if not config.is_file():
        return False
    text = config.read_text(encoding="utf-8", errors="replace")
    return text != _stamp(text.partition("\n")[2])


def _add_version(model: _Model) -> tuple[int, dict[str, str]]:
    """Put a new version of the model beside its older ones, all at once.

    Returns its number, and the new names of configs that somebody had edited, by the old ones.
    """
    place = model.place
    repository = model.place.parent
    bundle = model.bundle
    files: dict[str, bytes | Path] = {"model.py": MODEL_PY.encode(), "__pycache__": _NO_FOLDER}
    files |= {
        f"{BUNDLE}/{file}": bundle.path / file for file in ("manifest.json", *bundle.manifest.files)
    }
    with staging_directory(repository, into=repository) as stage:
        staged = stage / place.name
        if place.is_dir():
            shutil.copytree(place, staged, copy_function=_link_or_copy, symlinks=True)
        version = 1 + max((int(path.name) for path in _versions(staged)), default=0)
        edited = {
            name: f"{name}.{version - 1}.old" for name in CONFIGS if _is_edited(staged / name)
        }
        for name, old in edited.items():
            (staged / name).replace(staged / old)  # a server reads names that end in .pbtxt
        for name, kind in CONFIGS.items():
            _write(staged / name, _make_config(model, kind).encode())
        for name, content in files.items():
            _write(staged / str(version) / name, content)
        for folder in [path for path in staged.rglob("*") if path.is_dir()] + [staged]:
            sync_directory(folder)
        swap_in(staged, place, stage=stage)
        with contextlib.suppress(OSError):  # not all systems can; the model is in place
            sync_directory(repository)
    return version, edited


def _versions(model: Path) -> list[Path]:
    """The folders of versions: Triton takes those whose names are numbers."""
    if not model.is_dir():
        return []
    return [
        path
        for path in model.iterdir()
        if path.is_dir() and path.name.isascii() and path.name.isdecimal()
    ]


def _link_or_copy(source: str, target: str) -> None:
    """Link a file under another name, or copy it where that cannot be."""
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
    sync_file(path)
