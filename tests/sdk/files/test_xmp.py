from __future__ import annotations

from pathlib import Path

import pytest

from srflow_sdk.files import Metadata, Provenance, read_image, write_image
from srflow_sdk.files.provenance import for_new_pixels
from tests.sdk.files.pictures import WRITTEN, picture
from tests.sdk.files.test_provenance import EXAMPLE, FOREIGN

STALE = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:t="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b't:Orientation="6" t:ImageWidth="8" t:Make="Acme" exif:PixelXDimension="8" t:XResolution="72/1"/>'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
    b"<tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>8</tiff:ImageLength><tiff:YResolution>72/1"
    b"</tiff:YResolution><exif:PixelYDimension>8</exif:PixelYDimension><exif:ISO>200</exif:ISO>"
    b"<xmp:Thumbnails><rdf:Alt><rdf:li><image>/9j/4AAQ</image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    b"<xmp:ThumbnailImage>/9j/4AAQ</xmp:ThumbnailImage><xmp:Rating>5</xmp:Rating>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("provenance", [None, EXAMPLE], ids=["metadata alone", "provenance"])
def test_a_packet_says_nothing_of_older_pixels(tmp_path: Path, suffix: str, provenance: Provenance | None) -> None:
    write_image(tmp_path / f"a{suffix}", picture(), metadata=Metadata(xmp=STALE), provenance=provenance)
    packet = read_image(tmp_path / f"a{suffix}").metadata.xmp
    assert packet is not None
    for gone in (b"Thumbnail", b"/9j/", b"PixelXDimension", b"PixelYDimension", b"ImageWidth", b"Orientation"):
        assert gone not in packet
    assert b"Resolution" not in packet
    assert b"ImageLength" not in packet
    for kept in (b't:Make="Acme"', b"<exif:ISO>200</exif:ISO>", b"<xmp:Rating>5</xmp:Rating>"):
        assert kept in packet


@pytest.mark.parametrize("packet", [FOREIGN, b"", b"<broken", b"<a>" * 3000, STALE[:-3]])
def test_a_packet_without_such_things_or_that_is_none_stays_as_it_is(packet: bytes) -> None:
    assert for_new_pixels(packet) is packet


def test_elements_nested_by_the_thousand_are_no_error() -> None:
    packet = STALE.replace(b"<exif:ISO>200", b"<a>" * 50_000 + b"</a>" * 50_000 + b"<exif:ISO>200")
    assert for_new_pixels(packet) is packet
