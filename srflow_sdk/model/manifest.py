"""manifest.json: what a bundle says about its model, read strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import real, whole
from srflow_sdk.errors import BundleError
from srflow_sdk.geometry.sizes import LATENT_SCHEME, LatentLevel
from srflow_sdk.model.engine_records import EngineRecord
from srflow_sdk.plain_text import is_plain, short

SCHEMA_VERSION = 1
"""The newest manifest schema that this SDK reads, and the one it writes."""

REQUIRED_FILES = ("encoder.onnx", "sampler.onnx")

INVERTER = "inverter.onnx"
"""The graph that :meth:`Encoding.invert` runs; bundles may lack it."""

INT8_ENCODER = "encoder.int8.onnx"
"""A second encoder beside a float32 one: quantised, with the same inputs and outputs. Bundles may
lack it. Its rows in :attr:`Manifest.parity` have the graph "encoder.int8+sampler"."""

FP32_GRAPHS = ("encoder.fp32.onnx", "sampler.fp32.onnx")
"""Float32 graphs beside those of a lower precision: a tile with non-finite values is computed again
with them."""

# How far apart two pictures of one network may be, for exports, backends and the doctor:
# image-space PSNR in dB, as healthy networks reach it. One that multiplies rounding is further from
# itself: an export then takes the network, in the same arithmetic, as its bound, and a backend
# takes what the export wrote of that into the manifest.

FLOAT32_DB = 90.0
"""At least this much between two float32 results: what an export in float32 must reach."""

LEAST_DB = 38.0
"""Below this they are different pictures: what an export in the coarsest precision must reach. A
network that is further off in int8 is one for a finer precision: it gets no int8 encoder. In bf16
its own pictures are the bound."""

FINE_DB = 43.0
"""A difference that is hard to see even beside the float32 picture: int8 encoders of trained
networks reach it. Only bundles whose export recorded it are held to it, so it judges no network."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Weights = Literal["fp32", "fp16"]
Reduction = Literal["bicubic", "bilinear"]
_T = TypeVar("_T")
_NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}"
FILE_NAME = re.compile(f"({_NAME_PART}/)?{_NAME_PART}", re.ASCII)
"""Names of files that a bundle may hold: `file` or `folder/file`, not hidden, without odd
characters."""

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ALWAYS_WRITTEN = (
    "schema",
    "latent_scheme",
    "precision",
    "weights",
    "model",
    "provenance",
    "parity",
    "files",
)
_RE_EXPORT = "export the checkpoint again with srflow-export, or fetch the bundle again"

Band = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Half the width of each pixel's interval, from the deviation of its samples. Both are of values in
[0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """A calibration: an interval is the mean ± factor × (deviation + floor).

    Attributes:
        floor: is added to every deviation, /255.
        classes: deviations, /255, that divide pixels into classes of texture, ascending.
        samples: numbers of samples, ascending: deviations of few are less sure.
        coverage: shares of pixels that intervals hold, 0 … 1, ascending.
        factors: by samples, class (one more than `classes`) and coverage, with which they do not
            fall.
        photographs: how many were measured.
    """

    floor: float
    classes: tuple[float, ...]
    samples: tuple[int, ...]
    coverage: tuple[float, ...]
    factors: tuple[tuple[tuple[float, ...], ...], ...]
    photographs: int

    def factors_of(self, n: int, coverage: float) -> list[float]:
        """The factor of each class: of the next smaller n, interpolated by coverage.

        Raises: ArgumentError beyond.
        """
        whole("n", n, least=self.samples[0], of=" of samples")
        coverage = real("coverage", coverage, least=self.coverage[0], most=self.coverage[-1])
        table = self.factors[int(np.searchsorted(self.samples, n, side="right")) - 1]
        return [float(np.interp(coverage, self.coverage, row)) for row in table]

    def band(self, n: int, coverage: float) -> Band:
        """Make the function that gives half the width of intervals; as :meth:`factors_of`."""
        factors = np.array(self.factors_of(n, coverage), np.float32)
        edges = np.array(self.classes, np.float32) / 255
        floor = np.float32(self.floor / 255)
        return lambda deviation: factors[np.digitize(deviation, edges)] * (deviation + floor)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that the runtime must know about a bundle's model, as manifest.json holds it.

    :meth:`from_json` checks types, names, files and the digest; the constructor checks nothing.

    Attributes:
        name: name for people, which pictures record as their origin; not necessarily unique. It has
            no slashes.
        variant: the network's, "paper", "published" or "bounded"; informative only, as the graphs
            hold all of it.
        scale: HR size / LR size, the same for both sides, 1 … 64.
        size_multiple: the graphs take heights and widths in LR pixels that are multiples of this, 1
            … 64.
        latent_levels: the sampler's inputs `noise_level{level}`: at least one, and no level twice.
        default_tau: temperature used when none is given, 0 … 1: above 1, latents are less likely
            than was learnt.
        halo: LR pixels of context that a tile needs on each side to come out as in the whole image,
            0 … 4096.
        inverter_halo: as `halo`, for :data:`INVERTER`; 0 in bundles without it.
        round_trip_db: PSNR in dB, -200 … 200, of photographs that were inverted and decoded, where
            the network itself is worse than usual at it (-200: not finite); None: as usual, or not
            known.
        conditioning_bytes_per_pixel: bytes of all conditioning tensors together, per LR pixel, in
            the graphs' precision, 1 … 2^30.
        precision: of encoder.onnx and sampler.onnx; the inputs `lr`, noise and `tau` and the output
            `sr` are float32.
        weights: how large weights are stored; "fp16" rounds the weights and does not change the
            arithmetic.
        plugins: true if the sampler has nodes of the domain `srflow`, which a native library can
            run but need not.
        auto_tau: true if `default_tau`, where it is taken, is scaled by the picture's texture, as
            ``tau="auto"`` asks.
        reduction: how the LR images of the training were made: both antialiased, bicubic as
            MATLAB's imresize.
        removes_damage: true if those LR images were damaged, as by noise and JPEG, so that pictures
            rightly do not reduce to inputs.
        made_for: the kind of pictures that it suits, of KINDS in model_choice.py; "", and not in
            the file: "damaged" if it removes damage, otherwise "clean".
        smoothed: true if samples are smoothed (:mod:`srflow_sdk.pixels.conservative_smoothing`),
            which is not so of pictures at tau 0; false is not in the file.
        intervals: how :meth:`Encoding.interval` makes intervals; None, and not in the file: nobody
            has calibrated them.
        model: the network's whole configuration, JSON values only.
        provenance: checkpoint sha256 and file name, tool versions, training data note, licence, the
            halo's measurement; JSON values only, and no key is guaranteed.
        parity: the export gate's measurements, an object for each graph, photograph and tau; JSON
            values only.
        schema: version of these fields, 1 … :data:`SCHEMA_VERSION`.
        latent_scheme: version of :mod:`srflow_sdk.latents.random_field` that it was made for:
            always the installed one.
        engines: the engines under `engines/`, newest first; the bundle has every file that they
            name.
        files: all files except manifest.json, including :data:`REQUIRED_FILES`, by plain names such
            as "engines/a.engine": {"sha256": 64 hexadecimal digits, "bytes": 0 or more}. Filled in
            when the bundle is written.
        digest: :func:`manifest_digest` of the other fields: one sha256 for the model. Filled in by
            :meth:`to_json`.
    """

    name: str
    variant: str
    scale: int
    size_multiple: int
    latent_levels: tuple[LatentLevel, ...]
    default_tau: float
    halo: int
    inverter_halo: int = 0
    round_trip_db: float | None = None
    conditioning_bytes_per_pixel: int
    precision: Precision = "fp32"
    weights: Weights = "fp32"
    plugins: bool = False
    auto_tau: bool = False
    reduction: Reduction = "bicubic"
    removes_damage: bool = False
    made_for: str = ""
    smoothed: bool = False
    intervals: Intervals | None = None
    model: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    parity: list[dict[str, Any]] = field(default_factory=list)
    schema: int = SCHEMA_VERSION
    latent_scheme: int = LATENT_SCHEME
    engines: tuple[EngineRecord, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    digest: str = ""

    @property
    def float32_graphs(self) -> tuple[str, str] | None:
        """Names of the encoder and sampler graphs that compute only in float32.

        None if there are none.
        """
        if all(name in self.files for name in FP32_GRAPHS):
            return FP32_GRAPHS
        return REQUIRED_FILES if self.precision == "fp32" else None

    @property
    def kind(self) -> str:
        """The kind of pictures that it suits, such as "clean"."""
        return self.made_for or ("damaged" if self.removes_damage else "clean")

    def to_json(self) -> str:
        """The text of manifest.json, with the other fields' digest.

        Raises:
            BundleError: a value is one that JSON cannot hold.
        """
        try:
            content = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
            if self.intervals is None:
                del content["intervals"]
            if not self.made_for:
                del content["made_for"]
            if not self.smoothed:
                del content["smoothed"]
            content["digest"] = manifest_digest(content)
            return json.dumps(content, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise BundleError(
                f"the manifest holds a value that JSON cannot hold: {error}"
            ) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read and check manifest.json.

        Fields that this SDK does not know are covered by the digest and ignored.

        Args:
            text: the file's content.

        Raises:
            BundleError: the content is not a manifest, was changed after the export, or needs a
                newer SDK.
        """
        raw = _parse(text)
        if missing := [name for name in _ALWAYS_WRITTEN if name not in raw]:
            raise _manifest_error(f"the field {missing[0]} is missing")
        try:
            fits = raw["digest"] == manifest_digest(raw)
        except (KeyError, ValueError, RecursionError):
            fits = False
        if not fits:
            raise _manifest_error(
                "its digest does not match its content, so it was changed after the export"
            )
        manifest = _read(raw)
        for name, record in manifest.files.items():
            sha256 = str(record.get("sha256"))
            nbytes = record.get("bytes")
            if not FILE_NAME.fullmatch(name):
                raise _manifest_error(f"{name!a} is not a plain file name")
            if not _SHA256.fullmatch(sha256) or type(nbytes) is not int or nbytes < 0:
                raise _manifest_error(f"the size or sha256 of {name} is malformed")
        for name in (
            *REQUIRED_FILES,
            *(name for engine in manifest.engines for name in engine.files),
        ):
            if name not in manifest.files:
                raise _manifest_error(f"it does not list {name}")
        return manifest

    @classmethod
    def from_description(cls, text: str | bytes) -> Manifest:
        """Read what a server tells about its model: JSON with the fields that drawing needs.

        Its `model_sha256` becomes the digest, which cannot be checked here. The other fields may be
        missing, and are empty then.

        Args:
            text: the server's description.

        Raises:
            BundleError: as :meth:`from_json`.
        """
        raw = _parse(text)
        manifest = _read({**raw, "digest": raw.get("model_sha256", "")})
        if not _SHA256.fullmatch(manifest.digest):
            raise _manifest_error("its model_sha256 is malformed")
        return manifest


def manifest_digest(content: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's canonical JSON, but for `digest` and `intervals`.

    Canonical is: sorted keys, no spaces, ASCII.

    Intervals change no picture, so a model stays the same when they are calibrated.
    """
    rest = {name: value for name, value in content.items() if name not in ("digest", "intervals")}
    canonical = json.dumps(
        rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _manifest_error(reason: str) -> BundleError:
    return BundleError(f"manifest.json cannot be used: {reason}; {_RE_EXPORT}")


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _manifest_error(f"it is not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise _manifest_error(f"it holds a JSON {type(raw).__name__}, not an object")
    schema = raw.get("schema", SCHEMA_VERSION)
    if type(schema) is int and schema > SCHEMA_VERSION:
        raise BundleError(
            f"the bundle has schema {schema}, written by a newer SDK; this one reads schemas 1 to "
            f"{SCHEMA_VERSION}: pip install -U srflow-sdk"
        )
    return raw


def _read(raw: Mapping[str, Any]) -> Manifest:
    try:
        manifest = _read_record(Manifest, raw)
    except (ValueError, OverflowError) as error:
        raise _manifest_error(str(error)) from error
    if manifest.latent_scheme != LATENT_SCHEME:
        raise BundleError(
            f"the bundle needs latent scheme {manifest.latent_scheme}; this SDK only has scheme "
            f"{LATENT_SCHEME}, which would give different pictures: pip install -U srflow-sdk"
        )
    # they reach terminals, names of files and pictures' metadata
    for text in (manifest.name, manifest.variant):
        if not is_plain(text) or not text.strip(".") or {"/", "\\"} & {*text}:
            raise _manifest_error(
                f"{text[:80]!a} as a name is empty, could be the path of a file, or is no plain "
                "text"
            )
    return manifest


def _read_record(kind: type[_T], raw: object, place: str = "") -> _T:
    """A dataclass from a JSON object, of which nothing is converted.

    Raises: ValueError, OverflowError: one line.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} is {short(raw)}, not an object")
    hints = get_type_hints(kind)
    values = {}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = f"{place}.{entry.name}" if place else entry.name
        if entry.name in raw:
            values[entry.name] = _check_value(hints[entry.name], raw[entry.name], name)
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise ValueError(f"the field {name} is missing")
    return kind(**values)


def _check_value(kind: Any, value: Any, name: str) -> Any:
    outer = get_origin(kind) or kind
    inner = get_args(kind)
    if dataclasses.is_dataclass(outer):
        return _read_record(outer, value, name)  # type: ignore[arg-type]
    if outer is UnionType:  # of something and None
        return None if value is None else _check_value(inner[0], value, name)
    if outer is Literal:
        if value not in inner:
            raise ValueError(f"{name} is {short(value)}, not one of {', '.join(inner)}")
        return value
    if outer in (tuple, list) and isinstance(value, list):
        kinds = inner if outer is tuple and inner[-1] is not ... else [inner[0]] * len(value)
        if len(kinds) == len(value):
            return outer(
                _check_value(*each, f"{name}[{at}]")
                for at, each in enumerate(zip(kinds, value, strict=True))
            )
    if outer in (Mapping, dict) and isinstance(value, dict):
        return {
            key: _check_value(inner[1], entry, f"{name}[{key!r}]") for key, entry in value.items()
        }
    if outer is float and type(value) in (int, float):
        return float(value)
    if outer is Any or type(value) is outer:
        return value
    raise ValueError(f"{name} has the wrong type ({type(value).__name__})")
