"""XMP packets: what is stale is removed, and how an output was made added and read.

The properties are in one rdf:Description, in the namespace :data:`NAMESPACE`. The input's own
packet is kept, with its prefixes; only an earlier provenance in it is replaced.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

_LOGGER = logging.getLogger(__name__)

NAMESPACE = "https://srflow-sdk.dev/ns/1.0/"

UPSCALE = "upscale"
RESTORE = "restore"
TRANSFER = "transfer"
INTERVAL = "interval"
"""Operations; "interval" made a bound of one. A picture that does not name its own was upscaled.
The `source` of a transfer is its target, and its `settings` name the other inputs."""

_MAX_BYTES = 1 << 20
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_X = "adobe:ns:meta/"

_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_HEADER = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TRAILER = '<?xpacket end="w"?>'
_STALE = (  # orientation: 1 where nothing is said
    (_TIFF, "Orientation"),
    (_TIFF, "ImageWidth"),
    (_TIFF, "ImageLength"),
    (_TIFF, "XResolution"),
    (_TIFF, "YResolution"),
    (_EXIF, "PixelXDimension"),
    (_EXIF, "PixelYDimension"),
    (_XMP, "Thumbnails"),
    (_XMP, "ThumbnailImage"),
)

_XMLNS = "http://www.w3.org/2000/xmlns/"
_EMPTY = f'<x:xmpmeta xmlns:x="{_X}"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
# not in XML, or changed by its parsers
_UNSAFE = re.compile("[%\x00-\x1f\x7f-\x9f\udc80-\udcff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How an output was made.

    With the same source, model and SDK, these values make the same picture again.

    Attributes:
        model, model_sha256: name and digest of the bundle.
        tau: temperature; None means that a map was used, so this alone cannot make the picture
            again.
        auto_tau: version of the map by which tau="auto" scaled `tau`, None if it did not.
        seed, sample, latent_scheme: they select the random field.
        tile: side of a tile's core in LR pixels, None for one tile.
        consistent: whether it was projected onto the LR image.
        source, source_sha256: the source's file name without folders, and the sha256 of its bytes.
        scale: sides of an output that was reduced, divided by the source's; None: it has the
            model's scale.
        reduction: the kernel, "bicubic" or "lanczos", None likewise.
        linear_light: whether light was averaged instead of values.
        value_range: the values that were black and white, or percentiles, as text; None: those of
            the dtype.
        wrap: the directions in which it tiles without a seam, "x", "y" or "xy"; None: none.
        operation: what was done, "upscale", "restore", "transfer", or "interval", which is a bound
            of one.
        settings: of an operation other than "upscale", what it needs besides the fields above, in
            its own words.
        precision, device: what the encoder computed in, "bf16" or "int8", and where, such as
            "openvino"; "bundle" and None if it computed as the bundle was exported.
        cleaned_by: name and digest of the model that drew the source at temperature 0 before, in
            its size; None: none.
    """

    model: str
    model_sha256: str
    tau: float | None
    auto_tau: int | None = None
    seed: int
    sample: int
    latent_scheme: int
    sdk_version: str
    tile: int | None
    consistent: bool
    source: str
    source_sha256: str
    scale: float | None = None
    reduction: str | None = None
    linear_light: bool = False
    value_range: str | None = None
    wrap: str | None = None
    operation: str = UPSCALE
    settings: str | None = None
    precision: str = "bundle"
    device: str | None = None
    cleaned_by: str | None = None


# others are texts
_KINDS: dict[str, Any] = dict.fromkeys(("seed", "sample", "latent_scheme", "tile", "auto_tau"), int)
_KINDS |= {"tau": float, "scale": float, "consistent": bool, "linear_light": bool}


def add_provenance(
    packet: bytes | None, provenance: Provenance, *, max_bytes: int = _MAX_BYTES
) -> bytes:
    """Add the provenance to a packet, instead of an older one.

    A packet that is malformed or would become too large is dropped.
    """

    def add(document: minidom.Document) -> bool:
        for old in _find_descriptions(document):
            old.parentNode.removeChild(old)  # type: ignore[union-attr]
        for root in document.getElementsByTagNameNS(_RDF, "RDF")[:1]:
            own = root.appendChild(document.createElementNS(_RDF, "rdf:Description"))
            for prefix, uri in (("rdf", _RDF), ("srflow", NAMESPACE)):
                own.setAttributeNS(_XMLNS, f"xmlns:{prefix}", uri)
            own.setAttributeNS(_RDF, "rdf:about", "")
            for each in fields(provenance):
                if (value := getattr(provenance, each.name)) != each.default:
                    own.setAttributeNS(NAMESPACE, f"srflow:{each.name}", _text(each.name, value))
            return True
        return False

    merged = None if packet is None else _edit(packet, add)
    if packet is not None and (merged is None or len(merged) > max_bytes):
        _LOGGER.warning(
            "%s: XMP packet not carried over: it is malformed or too large", provenance.source
        )
        merged = None
    return merged or _edit(_EMPTY.encode(), add) or b""


def remove_stale(packet: bytes) -> bytes:
    """The packet without an older picture's orientation, thumbnails, sizes and resolution.

    Itself without any.
    """

    def remove(document: minidom.Document) -> bool:
        changed = False
        for element in list(document.getElementsByTagName("*")):
            for name in _STALE:
                if element.hasAttributeNS(*name):
                    element.removeAttributeNS(*name)
                    changed = True
            if (
                element.namespaceURI,
                element.localName,
            ) in _STALE and element.parentNode is not None:
                element.parentNode.removeChild(element)
                changed = True
        return changed

    return _edit(packet, remove) or packet


def parse_provenance(packet: bytes | None) -> Provenance | None:
    """The provenance in an XMP packet.

    None if there is none, or a property is missing or malformed.
    """
    try:
        document = None if packet is None else _parse(packet)
        for own in [] if document is None else _find_descriptions(document):
            return Provenance(
                **{
                    each.name: _value(each.name, own.getAttributeNS(NAMESPACE, each.name))
                    for each in fields(Provenance)
                    if own.hasAttributeNS(NAMESPACE, each.name)
                }
            )
    except (TypeError, ValueError, RecursionError):  # TypeError: a property is missing
        pass
    return None


def _edit(packet: bytes, change: Callable[[minidom.Document], bool]) -> bytes | None:
    """The packet after a change.

    None if it is no XMP, or the change says that there is nothing to change.
    """
    document = _parse(packet)
    try:
        if document is None or not change(document):
            return None
        xml = "".join(
            node.toxml() for node in document.childNodes if node.nodeType == node.ELEMENT_NODE
        )
    except RecursionError:  # elements nested by the thousand
        return None
    return f"{_HEADER}{xml}{_TRAILER}".encode()


def _parse(packet: bytes) -> minidom.Document | None:
    """The packet's XML.

    None if it is malformed, too large, or has a document type, which could define entities.
    """
    if len(packet) > _MAX_BYTES:
        return None
    try:
        text = packet.decode("utf-8-sig").strip("\0 \t\r\n")
        return (
            None
            if "<!DOCTYPE" in text or "<!ENTITY" in text
            else minidom.parseString(text.encode())
        )
    except (UnicodeError, ExpatError, ValueError, LookupError, RecursionError):
        return None


def _find_descriptions(document: minidom.Document) -> list[minidom.Element]:
    descriptions = document.getElementsByTagNameNS(_RDF, "Description")
    return [
        description
        for description in descriptions
        if description.hasAttributeNS(NAMESPACE, "model_sha256")
    ]


def _text(name: str, value: Any) -> str:
    """A field as text that reads back as the same value; numbers may be numpy's."""
    kind = _KINDS.get(name, str)
    if kind is str:
        quote = functools.partial(urllib.parse.quote, safe="", errors="surrogateescape")
        return _UNSAFE.sub(lambda match: quote(match[0]), str(value or ""))
    return "None" if value is None else repr(kind(value)).removesuffix(".0")


def _value(name: str, text: str) -> Any:
    """The value of a field that was written as this text. Raises: ValueError."""
    kind = _KINDS.get(name, str)
    if kind is str:
        return urllib.parse.unquote(text, errors="surrogateescape") or getattr(Provenance, name, "")
    if kind is bool:
        return bool(("False", "True").index(text))
    if name in ("tau", "tile") and text == "None":
        return None
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(text)
    return value
