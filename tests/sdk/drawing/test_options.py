import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from srflow_sdk import OutputSize
from srflow_sdk.drawing.file_upscaling import record_provenance
from srflow_sdk.drawing.options import DrawKeywords, DrawOptions
from srflow_sdk.errors import ArgumentError, ImageError

from ..tiny_bundle import tiny_manifest

MANIFEST = tiny_manifest()


def output(scale, *, width, height):
    """Scale, width and height of the output of an image."""
    factor, height, width = DrawOptions(scale=scale).output_of(MANIFEST, height=height, width=width)
    return factor, width, height


def test_the_keywords_for_type_checkers_are_the_options():
    hints = {field.name: field.type for field in dataclasses.fields(DrawOptions)}
    typed = {name: hint.__forward_arg__ for name, hint in DrawKeywords.__annotations__.items()}
    assert typed == hints


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        (1.5, (92, 68)),  # 91.5 and 67.5: halves go up
        (1.1, (67, 50)),
        (np.float32(0.5), (31, 23)),
        (0.001, (1, 1)),
        (OutputSize(width=200), (200, 148)),
        (OutputSize(height=100), (136, 100)),
        (OutputSize(width=200, height=100), (136, 100)),
        (OutputSize(max_side=99), (99, 73)),
    ],
)
def test_sizes_keep_the_proportions_and_are_rounded(scale, size):
    factor, *got = output(scale, width=61, height=45)
    assert factor is not None
    assert tuple(got) == size


@pytest.mark.parametrize("side", [1, 3, 49, 997, 3000, 65535])
def test_a_width_or_height_is_met_exactly(side):
    for wanted in {1, side, side * 4 - 1, (side * 7 + 1) // 3}:
        assert output(OutputSize(width=wanted), width=side, height=31)[1] == wanted
        assert output(OutputSize(height=wanted), width=31, height=side)[2] == wanted


@pytest.mark.parametrize("scale", [None, 4, OutputSize(width=244), OutputSize(max_side=9000)])
def test_the_model_s_own_size_is_not_reduced(scale):
    assert output(scale, width=61, height=45) == (None, 244, 180)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(
            ({"scale": scale}, r"scale is .*; it must be a number above 0")
            for scale in (0, float("nan"), True, "2")
        ),
        ({"reduction": "nearest"}, "reduction is .*; it must be"),
        ({"linear_light": 1}, "linear_light is .*; it must be"),
    ],
)
def test_odd_options_are_refused_before_any_image_is_seen(options, says):
    with pytest.raises(ArgumentError, match=says):
        DrawOptions(**options)


@pytest.mark.parametrize(
    "sides", [{}, {"width": 0}, {"height": 1.5}, {"max_side": True}, {"width": 9, "max_side": 9}]
)
def test_what_is_no_size_is_refused(sides):
    with pytest.raises(ArgumentError):
        OutputSize(**sides)


def test_more_than_the_model_s_scale_is_refused_with_the_reason():
    with pytest.raises(ArgumentError, match=r"scale is 4.5, but the model tiny enlarges 4 times"):
        output(4.5, width=61, height=45)
    with pytest.raises(
        ImageError,
        match=r"a width of 3840 pixels would be 62.95 times the image's 61×45.* to 244×180",
    ):
        output(OutputSize(width=3840), width=61, height=45)
    with pytest.raises(ImageError, match=r"1000×181 pixels would be"):
        output(OutputSize(width=1000, height=181), width=61, height=45)


def test_a_scale_s_name_is_a_number_if_all_images_have_the_same():
    assert [repr(DrawOptions(scale=scale).named_scale(MANIFEST)) for scale in (None, 2.0, 1.5)] == [
        "4",
        "2",
        "1.5",
    ]
    assert DrawOptions(scale=OutputSize(width=8)).named_scale(MANIFEST) is None


@pytest.mark.parametrize(
    "options",
    [
        DrawOptions(tau=0.3, seed=5, sample=2, consistent=True),
        DrawOptions(tau="auto", scale=1.5, reduction="lanczos", linear_light=True),
        DrawOptions(tau=1, value_range=("1%", "99%")),
    ],
)
def test_the_options_come_back_from_what_a_picture_records(options):
    fields = options.provenance_fields(MANIFEST, sample=options.sample, scale=options.scale)
    painter = SimpleNamespace(
        manifest=MANIFEST, cleaner=None, backend=SimpleNamespace(precision="bundle")
    )
    made = record_provenance(painter, source=Path("a.png"), source_sha256="", tile=None, **fields)
    assert DrawOptions.from_provenance(made) == options
