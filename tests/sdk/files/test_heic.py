"""HEIC photographs, which libvips from PyPI cannot decode: the extra `heic` does, 10 bits and
turned ones too."""

import base64
import zlib

import numpy as np
import pytest

from srflow_sdk.errors import ImageError
from srflow_sdk.files import open_image, read_image

pytest.importorskip("pi_heif", reason='pip install "srflow-sdk[heic]"')

# 8×8 pixels of 10 bits, white above black
DEEP = (
    "c-muNV30{GsVvAy&8%Pmg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$n#C3}U!AFfalk5HK!)&_G}e"
    "#LAhOd1+uCNK_QaNo9iaGRl$-K}^1a%#vKVl0TURMFl|mPG&)JK9DX2DsyIJ;Q%t{?f@y0`@rz$@2_7B4E)RqKpo-^"
    "j6970|AQ1TgH<pCmF!}2NCe7hIWaP#N-R)lWVxBQ>gBpTCMh1U%n1;|;gAGW&gQ~+u=rpn&<^3`{G6h^<eUniC@%wB"
    "15ijLv$!A?>M;i>)=17t1i6(1>UJ>w|NnoWnG8%Y8i)l7GAlAc8kxDcxPX*IW<f42jDf+%+Q`Jr+5%)-=cXir!dPE}"
    "aXsgWXpspjqQS4s{-1bqeBp!X%*$2^JDhxaBd(kE`_!u1tcr`9Zmd{!WX1{I2LQ7GW_S"
)
# 16×8 pixels, black left of white, in a file that turns it by a quarter; EXIF says the same
TURNED = (
    "c-mc2yGz4h5Wla%Qo$EKKt)OwhblM}1sz0+uffOWAc$c6n%IM+{Y<0QtpyR>oJ4eSbW&$09YjaLe?SlgABf=Mpv1c*"
    "ig@JX?tb^X+zSBOOm|&n4U|A)qnTpcM%@Gum$u>R5J-DAV>zJ>3Z)DGqz|pU|C7-)L_n}5o&!yiB8()`_KS4V8$isN"
    "zQ@rfatxnFob0Mh!5>gCWvqxky+)yHL&y|SRE{G19+k|KUZLC(p)s`Wlj3ji`StMuP^&FaMsr$J3D0AK#te<W_-Q1q"
    "Q?P4Th<}lTM7d(;>1glaw*BC&1W;9Ccw>>+(NS?;INzcg4Ki;zIcXIMt%fL3pb-no2&YYlFDWgZ8><U?hZt+m^R9UZ"
    "q_4tV)F~_?Cu*@6b1KovyVMS}pt65%B53w<M61}?B&QV}!wds8GE<QL6}ZN{ozeMRJxOs~c{RIx(%CfA?{!Sg%&m<t"
    "O)d`(-CVr)_Po3fBpwro$@s)wajAcQffAy@zNe?5+iz8fdR__79n|>-E!u4T"
)


@pytest.fixture
def heic(tmp_path):
    return tmp_path / "photo.heic"


def test_ten_bits_reach_white(heic):
    heic.write_bytes(zlib.decompress(base64.b85decode(DEEP)))
    pixels = read_image(heic).pixels
    assert (pixels.dtype, pixels.shape) == (np.uint16, (8, 8, 3))
    assert pixels[0].min() == 65535
    assert pixels[-1].max() == 0


def test_a_turned_photograph_is_upright_once(heic):
    heic.write_bytes(zlib.decompress(base64.b85decode(TURNED)))
    with open_image(heic) as reader:
        assert (reader.width, reader.height) == (8, 16)
        rows = reader.read_rows(16)
        assert rows[0].max() < 8
        assert rows[-1].min() > 247
        assert reader.metadata.exif is not None


def test_a_damaged_one_is_one_line(heic):
    data = zlib.decompress(base64.b85decode(DEEP))
    for broken in (data[:-20], data[:400] + bytes(len(data) - 400)):
        heic.write_bytes(broken)
        with pytest.raises(ImageError, match=r"photo\.heic: the file ") as caught:
            read_image(heic)
        assert "\n" not in str(caught.value)


def test_without_a_decoder_the_error_says_what_helps(heic, monkeypatch):
    monkeypatch.setattr("srflow_sdk.files.reading.is_installed", lambda module: False)
    heic.write_bytes(zlib.decompress(base64.b85decode(DEEP)))
    try:
        read_image(heic)
    except ImageError as error:
        said = str(error)
    else:
        pytest.skip("this build of libvips has the decoder")
    assert said.endswith(
        'HEIC needs a decoder: pip install "srflow-sdk[heic]", or save the photo as JPEG'
    )
