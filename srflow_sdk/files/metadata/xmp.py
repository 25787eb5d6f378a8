"""XMP packets: parses and writes them, and removes what describes an older picture's pixels."""

from __future__ import annotations

from xml.dom import minidom
from xml.parsers.expat import ExpatError

MAX_BYTES = 1 << 20
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
X = "adobe:ns:meta/"

_TIFF, _EXIF, _XMP = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/xap/1.0/"
_HEADER = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TRAILER = '<?xpacket end="w"?>'
_ORIENTATION = (_TIFF, "Orientation")
_STALE = (
    (_TIFF, "ImageWidth"),
    (_TIFF, "ImageLength"),
    (_TIFF, "XResolution"),
    (_TIFF, "YResolution"),
    (_EXIF, "PixelXDimension"),
    (_EXIF, "PixelYDimension"),
    (_XMP, "Thumbnails"),
    (_XMP, "ThumbnailImage"),
)


def parse_packet(packet: bytes) -> minidom.Document | None:
    """The packet's XML; None if it is malformed, too large, or has a document type, which could define entities."""
    if len(packet) > MAX_BYTES:
        return None
    try:
        text = packet.decode("utf-8-sig").strip("\0 \t\r\n")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        return minidom.parseString(text.encode())
    except (UnicodeError, ExpatError, ValueError, LookupError, RecursionError):
        return None


def rdf_element(document: minidom.Document) -> minidom.Element | None:
    """The element that holds all descriptions. Raises: RecursionError if elements are nested by the thousand."""
    found = document.getElementsByTagNameNS(RDF, "RDF")
    return found[0] if found else None


def write_packet(document: minidom.Document) -> bytes:
    """The document as an XMP packet. Raises: RecursionError if elements are nested by the thousand."""
    xml = "".join(node.toxml() for node in document.childNodes if node.nodeType == node.ELEMENT_NODE)
    return f"{_HEADER}{xml}{_TRAILER}".encode()


def for_new_pixels(packet: bytes) -> bytes:
    """The packet with orientation 1 and without the thumbnails, sizes and resolution of an older picture.

    Returns the given bytes if there is nothing to change or they cannot be parsed as XMP.
    """
    document = parse_packet(packet)
    try:
        return packet if document is None or not _update(document) else write_packet(document)
    except RecursionError:
        return packet


def _update(document: minidom.Document) -> bool:
    """Update a document; returns whether there was anything to change."""
    found = False
    for element in list(document.getElementsByTagName("*")):
        for namespace, name in _STALE:
            if element.hasAttributeNS(namespace, name):
                element.removeAttributeNS(namespace, name)
                found = True
        if element.hasAttributeNS(*_ORIENTATION) and element.getAttributeNS(*_ORIENTATION) != "1":
            element.getAttributeNodeNS(*_ORIENTATION).value = "1"  # type: ignore[union-attr]
            found = True
        kind = (element.namespaceURI, element.localName)
        if kind in _STALE and element.parentNode is not None:
            element.parentNode.removeChild(element)
            found = True
        elif kind == _ORIENTATION:
            while element.firstChild is not None:
                element.removeChild(element.firstChild)
            element.appendChild(document.createTextNode("1"))
            found = True
    return found
