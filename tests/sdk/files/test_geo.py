"""GeoTIFF's tags travel, and the corners stay where they were, as this file computes them from OGC's GeoTIFF 1.1."""

import logging

import numpy as np
import pytest
import tifffile

from srflow_sdk import OutputSize

AREA, POINT = (1025, 0, 1, 1), (1025, 0, 1, 2)
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
        i, j = column - shift, row - shift
        if 34264 in tags:
            a, b, _, d, e, f, _, h = tags[34264][:8]
            found.append((a * i + b * j + d, e * i + f * j + h))
        else:
            x, y = tags[33922][3] + (i - tags[33922][0]) * tags[33550][0], tags[33922][4]
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
    np.testing.assert_allclose(corners(tmp_path / "out.tif"), corners(tmp_path / "in.tif"), rtol=0, atol=1e-6)
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


def test_other_formats_say_that_they_cannot_hold_it(upscaler, tmp_path, caplog):
    write_geotiff(tmp_path / "in.tif", np.zeros((9, 9), np.uint16), AREA)
    with caplog.at_level(logging.WARNING):
        upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.png")
    assert "GeoTIFF's tags left out: only TIFF holds them" in caplog.text


@pytest.mark.parametrize("tag", [(33550, "H", 3, (1, 1, 0), True), (34264, "d", 3, (1.0, 2.0, 3.0), True)])
def test_malformed_tags_do_not_stop_it(upscaler, tmp_path, tag):
    write_geotiff(tmp_path / "in.tif", np.zeros((9, 9), np.uint8), AREA, [tag])
    upscaler.upscale_file(tmp_path / "in.tif", tmp_path / "out.tif")
    assert tifffile.imread(tmp_path / "out.tif").shape == (36, 36)
