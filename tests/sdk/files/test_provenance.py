import dataclasses
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import Metadata, Provenance, read_image, read_provenance, write_image
from srflow_sdk.files.provenance import NAMESPACE, add_provenance, parse_provenance, remove_stale
from tests.sdk.files.pictures import WRITTEN, picture

EXAMPLE = Provenance(
    model="x4-small",
    model_sha256="ab" * 32,
    tau=0.1 + 0.2,
    seed=2**64 - 1,
    sample=7,
    latent_scheme=1,
    sdk_version="0.1.0",
    tile=None,
    consistent=False,
    source='Übung <1> & "2" 100%.png',
    source_sha256="cd" * 32,
)
FOREIGN = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
    b'xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'dc:format="image/png"><dc:creator><rdf:Seq><rdf:li>A &amp; B</rdf:li>'
    b'</rdf:Seq></dc:creator></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_every_format_gives_it_back_and_another_library_finds_it_beside_what_was_there(
    tmp_path, suffix
):
    write_image(
        tmp_path / f"a{suffix}", picture(), metadata=Metadata(xmp=FOREIGN), provenance=EXAMPLE
    )
    assert read_provenance(tmp_path / f"a{suffix}") == EXAMPLE
    with Image.open(tmp_path / f"a{suffix}") as image:
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    text = packet if isinstance(packet, str) else packet.decode()
    root = ElementTree.fromstring(text)
    found = [element.get(f"{{{NAMESPACE}}}seed") for element in root.iter()]
    assert [seed for seed in found if seed] == [str(2**64 - 1)]
    assert "<rdf:li>A &amp; B</rdf:li>" in text
    assert 'dc:format="image/png"' in text


def test_an_output_made_from_an_output_tells_of_the_last_one_only(tmp_path):
    write_image(tmp_path / "a.png", picture(), metadata=Metadata(xmp=FOREIGN), provenance=EXAMPLE)
    file = read_image(tmp_path / "a.png")
    later = dataclasses.replace(EXAMPLE, source="a.png", tau=None, tile=96, consistent=True)
    write_image(tmp_path / "b.tif", file.pixels, metadata=file.metadata, provenance=later)
    assert read_provenance(tmp_path / "b.tif") == later
    packet = read_image(tmp_path / "b.tif").metadata.xmp
    assert packet is not None
    assert packet.count(b"model_sha256") == 1
    assert b"A &amp; B" in packet


def test_what_few_outputs_have_survives_and_others_say_nothing_of_it():
    plain = add_provenance(None, EXAMPLE)
    for fields in (
        {"precision": "int8", "device": "openvino"},
        {"scale": np.float64(1 / 3), "reduction": "lanczos", "linear_light": np.bool_(True)},
    ):
        other = dataclasses.replace(EXAMPLE, seed=np.uint64(2**64 - 1), **fields)
        packet = add_provenance(FOREIGN, other)
        assert parse_provenance(packet) == other
        assert not [name for name in fields if name.encode() in plain]
    assert b'tau="1"' in add_provenance(None, dataclasses.replace(EXAMPLE, tau=np.float64(1)))
    assert parse_provenance(packet.replace(repr(1 / 3).encode(), b"nan")) is None


@pytest.mark.parametrize(
    "source", ["\udcff\udcfe.png", "a\x01\n\t\r\x85.png", "%41%.png", "]]>", "<!DOCTYPE a>"]
)
def test_file_names_that_xml_cannot_hold_survive(source):
    provenance = dataclasses.replace(EXAMPLE, source=source)
    assert parse_provenance(add_provenance(None, provenance)) == provenance


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_without_provenance_says_none(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}")
    assert read_provenance(tmp_path / f"a{suffix}") is None
    write_image(tmp_path / f"b{suffix}", picture(), metadata=Metadata(xmp=FOREIGN))
    assert read_provenance(tmp_path / f"b{suffix}") is None
    with pytest.raises(ImageError, match="no such file"):
        read_provenance(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('seed="18446744073709551615"', 'seed="' + "9" * 9000 + '"'),
        ('seed="18446744073709551615"', ""),
        ('tau="0.30000000000000004"', 'tau="nan"'),
        ("<x:xmpmeta", "<!DOCTYPE x [<!ENTITY a 'b'>]><x:xmpmeta"),
        ("<x:xmpmeta", "<x:xmpmeta" + " " * 2_000_000),
    ],
)
def test_malformed_provenance_is_none(old, new):
    packet = add_provenance(None, EXAMPLE).decode()
    malformed = packet.replace(
        f"srflow:{old}" if "=" in old else old, f"srflow:{new}" if new[:1].isalpha() else new
    )
    assert malformed != packet
    assert parse_provenance(malformed.encode()) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xfe<\0",
        b"<a/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        FOREIGN.replace(b"A &amp; B", b"<d>" * 50_000 + b"</d>" * 50_000),
        b"<a>" * sys.getrecursionlimit() * 2,
    ],
)
def test_packets_that_are_no_sound_xmp_are_replaced(packet):
    assert parse_provenance(add_provenance(packet, EXAMPLE)) == EXAMPLE


def test_it_is_read_from_the_header_alone(tmp_path):
    path = tmp_path / "a.png"
    write_image(
        path,
        np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8),
        provenance=EXAMPLE,
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read_provenance(path) == EXAMPLE
    with pytest.raises(ImageError):
        read_image(path)


STALE = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:t="http://ns.adobe.com/tiff/1.0/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b't:Orientation="6" t:ImageWidth="8" t:Make="Acme" exif:PixelXDimension="8" '
    b't:XResolution="72/1"/>'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
    b"<tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>8</tiff:ImageLength>"
    b"<tiff:YResolution>72/1</tiff:YResolution><exif:PixelYDimension>8</exif:PixelYDimension>"
    b"<exif:ISO>200</exif:ISO>"
    b"<xmp:Thumbnails><rdf:Alt><rdf:li><image>/9j/4AAQ</image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    b"<xmp:ThumbnailImage>/9j/4AAQ</xmp:ThumbnailImage><xmp:Rating>5</xmp:Rating>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


NESTED = STALE.replace(b"<exif:ISO>200", b"<a>" * 50_000 + b"</a>" * 50_000 + b"<exif:ISO>200")


@pytest.mark.parametrize(
    ("suffix", "provenance"),
    [(".png", None), (".jpg", EXAMPLE), (".tif", EXAMPLE), (".webp", None)],
)
def test_a_packet_says_nothing_of_older_pixels(tmp_path, suffix, provenance):
    write_image(
        tmp_path / f"a{suffix}", picture(), metadata=Metadata(xmp=STALE), provenance=provenance
    )
    packet = read_image(tmp_path / f"a{suffix}").metadata.xmp
    assert packet is not None
    for gone in (
        b"Thumbnail",
        b"/9j/",
        b"Dimension",
        b"ImageWidth",
        b"ImageLength",
        b"Orientation",
        b"Resolution",
    ):
        assert gone not in packet
    for kept in (b't:Make="Acme"', b"<exif:ISO>200</exif:ISO>", b"<xmp:Rating>5</xmp:Rating>"):
        assert kept in packet


@pytest.mark.parametrize("packet", [FOREIGN, b"", b"<a>" * 3000, NESTED])
def test_a_packet_without_such_things_or_that_is_none_stays_as_it_is(packet):
    assert remove_stale(packet) is packet
