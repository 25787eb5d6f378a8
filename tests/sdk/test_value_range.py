"""Values in their own units: arrays and TIFF files come back in them."""

import numpy as np
import pytest
import tifffile

from srflow_sdk import ArgumentError, ImageError, OutputSize, read_provenance

# -300 … 750
HEIGHTS = (np.indices((20, 24)).sum(axis=0) * 25.0 - 300).astype(np.float32)[..., None]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "f2", "f8", ">i2"])
def test_the_answer_has_the_dtype_and_the_units(upscaler, dtype):
    values = (HEIGHTS[..., 0] / 10 + 40).clip(0, 110).astype(dtype)
    large = upscaler.upscale(values, value_range=(0, 110), tau=0, consistent=True)
    assert (large.shape, large.dtype) == ((80, 96), values.dtype.newbyteorder("="))
    assert abs(float(large.mean(dtype=np.float64)) - float(values.mean(dtype=np.float64))) < 2


def test_peaks_beyond_the_range_stay(upscaler):
    values = HEIGHTS[..., 0].copy()
    values[10, 12] = 10_000
    large = upscaler.upscale(values, value_range=("1%", "99%"), tau=0, consistent=True)
    assert large.max() > 7_000
    assert abs(large.mean() - values.mean()) < 10


def test_pixels_without_data_stay_without_and_others_do_not_see_them(upscaler):
    values = HEIGHTS[..., 0].copy()
    filled = HEIGHTS[..., 0]
    values[:4, :6] = np.nan
    large = upscaler.upscale(values, value_range=(-300, 750), tau=0)
    assert np.array_equal(np.isnan(large), np.isnan(values).repeat(4, axis=0).repeat(4, axis=1))
    assert np.nanmax(np.abs(large - upscaler.upscale(filled, value_range=(-300, 750), tau=0))) < 300


def test_each_band_is_drawn_alone_with_one_field(upscaler):
    bands = np.concatenate([HEIGHTS, HEIGHTS[::-1], HEIGHTS, HEIGHTS * 2, HEIGHTS], axis=2)
    told = []
    options = {"value_range": (-600, 1500), "tau": 0.8, "seed": 5}
    large = upscaler.upscale(bands, progress=lambda *step: told.append(step), **options)
    assert large.shape == (80, 96, 5)
    assert np.array_equal(large[..., 1:2], upscaler.upscale(bands[..., 1:2], **options))
    assert np.array_equal(large[..., 0], large[..., 4])
    assert told[-1] == (5, 5)
    chw = upscaler.upscale(np.moveaxis(bands, -1, 0), layout="chw", **options)
    assert np.array_equal(np.moveaxis(chw, 0, -1), large)
    half = upscaler.upscale(bands, scale=1.5, **options)
    assert half.shape == (30, 36, 5)


def test_a_wrong_range_is_one_line(upscaler, photo):
    for given in ((1, 1), ("1%", "101%"), "12"):
        with pytest.raises(ArgumentError, match=r"^value_range is ") as caught:
            upscaler.upscale(HEIGHTS, value_range=given)
        assert "\n" not in str(caught.value)
    for draw in (
        upscaler.encode(photo).sample,
        lambda **options: upscaler.upscale_many([photo], **options),
    ):
        with pytest.raises(ArgumentError, match="value_range is for upscale and upscale_file"):
            draw(value_range=(0, 1))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.full((9, 9), 7.0), "both percentiles of band 1 are 7"),
        (np.full((9, 9), np.nan), "band 1 has infinite values, or none at all"),
        (np.array([[1.0, np.inf]]), "band 1 has infinite values"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(upscaler, values, why):
    with pytest.raises(ImageError, match=why) as caught:
        upscaler.upscale(values, value_range=("1%", "99%"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "bands"), [("float32", 1), ("uint16", 5), ("int32", 3)])
def test_a_file_keeps_its_dtype_bands_and_their_meaning(upscaler, tmp_path, dtype, bands):
    values = np.repeat(HEIGHTS / 10 + 40, bands, axis=2).astype(dtype)
    planar = "contig" if bands > 1 else None
    tifffile.imwrite(tmp_path / "in.tif", values, photometric="minisblack", planarconfig=planar)
    targets = [tmp_path / "0.tif", tmp_path / "1.tif"]
    upscaler.upscale_file(tmp_path / "in.tif", targets, value_range=(0, 120), seed=2)
    for sample, target in enumerate(targets):
        with tifffile.TiffFile(target) as file:
            page = file.pages.first
            assert (page.photometric, tuple(page.extrasamples)) == (1, (0,) * (bands - 1))
            written = page.asarray().reshape(80, 96, bands)
        expected = upscaler.upscale(values, value_range=(0, 120), seed=2, sample=sample)
        assert written.dtype == expected.dtype
        assert np.array_equal(written, expected)
        made = read_provenance(target)
        assert made is not None
        assert (made.value_range, made.sample) == ("0 120", sample)


def test_only_tiff_holds_values_in_their_units(upscaler, tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", HEIGHTS)
    with pytest.raises(ArgumentError, match=r"end its name in \.tif"):
        upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.png", value_range=(0, 1))
    for values in (HEIGHTS, HEIGHTS.astype(np.int16)):
        tifffile.imwrite(tmp_path / "in.tif", values)
        with pytest.raises(ImageError, match="--range 1% 99%"):
            upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.tif")
    tifffile.imwrite(
        tmp_path / "planar.tif", np.zeros((5, 9, 9), np.uint16), planarconfig="separate"
    )
    tifffile.imwrite(
        tmp_path / "negative.tif", np.zeros((9, 9), np.uint16), photometric="miniswhite"
    )
    for name, why in {"planar": "planar", "negative": "zero is white in it"}.items():
        with pytest.raises(ImageError, match=why):
            upscaler.upscale_file(
                tmp_path / f"{name}.tif", tmp_path / "out.tif", value_range=(0, 1)
            )


# GeoTIFF's tags travel, and corners stay where they were, as is computed here from OGC's GeoTIFF
# 1.1.


AREA = (1025, 0, 1, 1)
POINT = (1025, 0, 1, 2)
PLACED = [
    (33550, "d", 3, (10.0, 20.0, 0.0), True),
    (33922, "d", 6, (3.0, 2.0, 0.0, 500_000.0, 4_600_000.0, 0.0), True),
]
TURNED = [(34264, "d", 16, (8.0, 6.0, 0, 5e5, 6.0, -8.0, 0, 4.6e6, 0, 0, 0, 0, 0, 0, 0, 1.0), True)]


def write_geotiff(path, values, raster_type, placed=PLACED):
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, *raster_type, 3072, 0, 1, 32633)
    tags = [*placed, (34735, "H", len(keys), keys, True), (42113, "s", 0, "-99", True)]
    planar = "contig" if values.ndim == 3 else None
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig=planar, extratags=tags)


def corners(path):
    """Where the corners of the picture lie, by the tags alone."""
    with tifffile.TiffFile(path) as file:
        tags = {tag.code: tag.value for tag in file.pages.first.tags.values()}
    keys = tags[34735]
    shift = 0.5 if keys[keys.index(1025) + 3] == 2 else 0.0
    found = []
    for column, row in ((0, 0), (tags[256], 0), (0, tags[257]), (tags[256], tags[257])):
        i = column - shift
        j = row - shift
        if 34264 in tags:
            a, b, _, d, e, f, _, h = tags[34264][:8]
            found.append((a * i + b * j + d, e * i + f * j + h))
        else:
            x = tags[33922][3] + (i - tags[33922][0]) * tags[33550][0]
            y = tags[33922][4]
            found.append((x, y - (j - tags[33922][1]) * tags[33550][1]))
    return found


@pytest.mark.parametrize(
    ("raster_type", "placed", "options"),
    [
        (AREA, PLACED, {}),
        (POINT, PLACED, {"scale": 1.5}),
        (AREA, TURNED, {"scale": OutputSize(width=31)}),
        (POINT, TURNED, {"value_range": (-100, 900)}),
    ],
)
def test_the_corners_stay_where_they_were(upscaler, tmp_path, raster_type, placed, options):
    values = np.indices((13, 17)).sum(axis=0).astype(np.uint16) * 20
    write_geotiff(tmp_path / "in.tif", values, raster_type, placed)
    upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.tif", **options)
    np.testing.assert_allclose(
        corners(tmp_path / "out.tif"), corners(tmp_path / "in.tif"), rtol=0, atol=1e-6
    )
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages.first.tags[42113].value == "-99"


def test_nodata_is_kept_and_values_do_not_become_it(upscaler, tmp_path):
    """As where nothing is 0, and dark pixels are drawn darker than they were."""
    values = np.random.default_rng(0).choice([-98, 300], (13, 17, 3)).astype(np.int16)
    values[:3, :5, 0] = values[9:, :5, 1] = -99  # each band has its own
    write_geotiff(tmp_path / "in.tif", values, AREA)
    upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.tif", value_range=(-99, 300))
    written = tifffile.imread(tmp_path / "out.tif")
    assert np.array_equal(written == -99, (values == -99).repeat(4, axis=0).repeat(4, axis=1))
    assert (written[20:] == -98).any()


def test_malformed_tags_do_not_stop_it(upscaler, tmp_path):
    malformed = (33550, "H", 3, (1, 1, 0), True)
    write_geotiff(tmp_path / "in.tif", np.zeros((9, 9), np.uint8), AREA, [malformed])
    upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.tif")
    assert tifffile.imread(tmp_path / "out.tif").shape == (36, 36)
