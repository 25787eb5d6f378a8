"""Makes a picture again from what its file says about how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from srflow_apps.batch.operations import Operation
from srflow_apps.batch.storage import reading
from srflow_sdk.drawing.auto_tau import AUTO_TAU_SCHEME
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import Provenance, read_provenance
from srflow_sdk.files.provenance import TRANSFER
from srflow_sdk.latents.random_field import LATENT_SCHEME
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.url_paths import UrlPath


def read_recipe(output: Path, bundle: Bundle, *, operation: Operation) -> Provenance:
    """Read how an output was made. operation: the one that is asked for; only its kind counts.

    Raises: ImageError, one line, if it does not say, or this model or SDK version cannot make it again.
    """
    recipe = read_provenance(output)
    if recipe is None:
        raise ImageError(
            f"{output} does not say how it was made: it is not an output of srflow-{operation.name}, or another "
            "program dropped that when it saved the file"
        )
    if recipe.operation == TRANSFER:
        raise ImageError(
            f"{output} was made by srflow-transfer from several pictures; run that again with the ones it was made from"
        )
    if recipe.operation != operation.name:
        raise ImageError(
            f"{output} was not made by srflow-{operation.name} but by srflow-{recipe.operation}; make it again with "
            f"srflow-{recipe.operation} --from-output"
        )
    if recipe.tau is None and recipe.settings is None:
        raise ImageError(f"{output} was made with a map of temperatures, which its file does not contain")
    if recipe.model_sha256 != bundle.model_sha256:
        manifest = bundle.manifest
        raise ImageError(
            f"{output} was made with the model {recipe.model} (sha256 {recipe.model_sha256[:12]}…), not with "
            f"{manifest.name} (sha256 {manifest.digest[:12]}…); name its bundle, or its name on the server, with "
            "--model"
        )
    if recipe.auto_tau not in (None, AUTO_TAU_SCHEME):
        raise ImageError(
            f"{output} was made with version {recipe.auto_tau} of --tau auto, but this SDK has version "
            f"{AUTO_TAU_SCHEME}; make it again with srflow-sdk {recipe.sdk_version}"
        )
    if recipe.auto_tau is not None and recipe.tau != bundle.manifest.default_tau:
        raise ImageError(
            f"{output} says that --tau auto scaled {recipe.tau:g}, but with this model it scales "
            f"{bundle.manifest.default_tau:g}; what the file says of itself was changed, so choose --tau yourself"
        )
    if recipe.latent_scheme != LATENT_SCHEME:
        raise ImageError(
            f"{output} was made with latent scheme {recipe.latent_scheme}, but this SDK uses scheme {LATENT_SCHEME}; "
            f"make it again with srflow-sdk {recipe.sdk_version}"
        )
    return recipe


def embedded_for(output: Path) -> Bundle:
    """The embedded model that an output says it was made with; the default one if none of them is."""
    recipe = None if isinstance(output, UrlPath) else read_provenance(output)
    bundles = [Bundle.embedded(name) for name in Bundle.embedded_names()]
    return next(
        (bundle for bundle in bundles if recipe is not None and bundle.model_sha256 == recipe.model_sha256),
        bundles[0] if bundles else Bundle.embedded(),
    )


def find_source(output: Path, recipe: Provenance, given: Sequence[Path]) -> Path:
    """The input of an output: the one given, or one of the recorded name beside the output or in the current directory.

    Raises: ImageError if none has the same bytes; ArgumentError if several are given.
    """
    if len(given) > 1:
        raise ArgumentError(f"--from-output makes one picture again; name one input, not {len(given)}")
    if given:
        _check_same(given[0], output, recipe)
        return given[0]
    name = PurePosixPath(recipe.source.replace("\\", "/")).name  # the file may be from anywhere: no paths from it
    candidates = [place / name for place in (output.parent, Path()) if name]
    for candidate in candidates:
        if candidate.is_file() and _hash(candidate) == recipe.source_sha256:
            return candidate
    raise ImageError(
        f"{output} was made from {name or 'a file'} (sha256 {recipe.source_sha256[:12]}…), which is neither beside it "
        "nor in the current directory; name it as INPUT"
    )


def _check_same(source: Path, output: Path, recipe: Provenance) -> None:
    digest = _hash(source)
    if digest != recipe.source_sha256:
        raise ImageError(
            f"{source} (sha256 {digest[:12]}…) is not the file that {output} was made from: {recipe.source} "
            f"(sha256 {recipe.source_sha256[:12]}…)"
        )


def _hash(path: Path) -> str:
    try:
        with reading(path) as local:
            return file_sha256(local)
    except OSError as error:
        raise ImageError(f"{path}: the file cannot be read: {error.strerror or error}") from error
