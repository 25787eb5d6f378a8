"""Upscaler.transfer."""

import threading

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.drawing.inverting import reduced_image
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError
from srflow_sdk.flow.transferring import mask_of
from srflow_sdk.pixels.colour import conversion_for
from srflow_sdk.upscaler import Upscaler

from ..pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile

CANCELLED = threading.Event()
CANCELLED.set()
ADOBE = matrix_profile(ADOBE_RGB, gamma_curve(563 / 256))


def near(mask, reach=6):
    """Pixels within `reach` steps of the mask."""
    y, x = np.nonzero(mask)
    rows, columns = np.indices(mask.shape)
    steps = np.abs(rows[..., None] - y) + np.abs(columns[..., None] - x)
    return steps.min(axis=-1) <= reach


@pytest.mark.parametrize("blend", ["gradient", "none"])
def test_only_the_mask_and_its_edge_change(flow, pictures, blend):
    result = flow.transfer(pictures.target, pictures.source, pictures.mask, blend=blend)
    far = ~near(pictures.mask)
    assert np.array_equal(result[far], pictures.target[far])
    assert np.abs(result.astype(int) - pictures.target)[pictures.mask].mean() > 5


def test_without_normalising_the_content_arrives_as_it_was_blended(flow, pictures):
    # the blend takes the 30 off again
    lighter = np.clip(pictures.target.astype(int) + 30, 0, 255).astype(np.uint8)
    for source, blend in ((lighter, "gradient"), (pictures.target, "none")):
        result = flow.transfer(pictures.target, source, pictures.mask, blend=blend, tau={})
        assert np.abs(result.astype(int) - pictures.target).max() <= 1


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_content_is_what_the_public_methods_make_of_a_paste(flow, pictures, everywhere):
    mask = pictures.mask | everywhere
    target, source = (
        picture.astype(np.float32) / 255 for picture in (pictures.target, pictures.source)
    )
    encoding = flow.encode(reduced_image(target, flow.bundle.manifest))
    latents = encoding.invert(np.where(mask[..., None], source, target))
    expected = encoding.decode(latents.normalised(0.9, over="local", where=mask, seed=3))
    result = flow.transfer(target, source, mask, blend="none", tau=0.9, seed=3)
    np.testing.assert_allclose(result[mask], expected[mask], atol=1e-5)


def test_the_default_temperatures_are_those_of_the_docstring(flow, pictures):
    for blend, tau in (("gradient", {1: 0.8}), ("none", 0.9)):
        arguments = (pictures.target, pictures.source, pictures.mask)
        default = flow.transfer(*arguments, blend=blend)
        assert np.array_equal(default, flow.transfer(*arguments, blend=blend, tau=tau))
        assert not np.array_equal(default, flow.transfer(*arguments, blend=blend, tau=0.3))
    assert not np.array_equal(default, flow.transfer(*arguments, blend=blend, seed=1))


def test_a_true_lr_image_decides_what_the_plain_way_shows(flow, pictures):
    arguments = (pictures.target, pictures.source, pictures.mask)
    lr = reduced_image(pictures.target, flow.bundle.manifest)
    reduced = flow.transfer(*arguments, blend="none")
    assert np.abs(flow.transfer(*arguments, lr, blend="none").astype(int) - reduced).max() <= 1
    everywhere = np.ones_like(pictures.mask)
    encoding = flow.encode(lr // 2 / np.float32(255))
    latents = encoding.invert(pictures.source).normalised(0.5, over="local")
    other = flow.transfer(
        pictures.target,
        pictures.source,
        everywhere,
        lr // 2,
        blend="none",
        tau=0.5,
    )
    np.testing.assert_allclose(other, encoding.decode(latents) * 255, atol=1)


def test_tiles_change_nothing(flow, flow_bundle, pictures):
    arguments = (pictures.target, pictures.source, pictures.mask)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as tiled:
        assert np.abs(tiled.transfer(*arguments).astype(int) - flow.transfer(*arguments)).max() <= 1


def test_only_the_surroundings_of_the_mask_are_computed(flow_bundle):
    target = np.full((800, 800, 3), 120, np.uint8)
    mask = np.zeros((800, 800), bool)
    mask[500:510, 400:410] = True
    told = []
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=64) as tiled:
        result = tiled.transfer(
            target,
            target + 50,
            mask,
            progress=lambda *counts: told.append(counts),
        )
    # encoded, inverted, decoded; the whole picture has 16 tiles
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(result[:400], target[:400])


KINDS = {
    "uint16": lambda rgb: rgb.astype(np.uint16) * 257,
    "float64": lambda rgb: rgb / 255.0,
    "gray and alpha": lambda rgb: np.dstack([rgb[..., 0], rgb[..., 1]]),
    "alpha": lambda rgb: np.dstack([rgb, rgb[..., 0]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_of_the_targets_kind(flow, pictures, kind):
    target = KINDS[kind](pictures.target)
    result = flow.transfer(target, pictures.source, pictures.mask)
    assert (result.shape, result.dtype) == (target.shape, target.dtype)
    far = ~near(pictures.mask)
    assert np.array_equal(
        result[far],
        target[far].astype(np.float32) if kind == "float64" else target[far],
    )
    assert not np.array_equal(result, target)
    if "alpha" in kind:
        assert np.array_equal(result[..., -1], target[..., -1])


def test_a_target_keeps_its_colour_profile_and_its_colours_beyond_srgb(flow, pictures):
    vivid = pictures.target.copy()
    vivid[..., 0] = 10  # greens and blues that sRGB does not have
    target = Image.fromarray(vivid)
    source = Image.fromarray(vivid)
    target.info["icc_profile"] = source.info["icc_profile"] = ADOBE
    result = flow.transfer(target, source, pictures.mask, tau={})  # the target's own content
    assert result.info["icc_profile"] == ADOBE
    assert np.abs(np.asarray(result).astype(int) - vivid).max() <= 1


def test_a_source_is_converted_to_the_targets_profile(flow):
    red = np.full((48, 48, 3), (180, 100, 100), np.uint8)
    target = Image.fromarray(red)
    target.info["icc_profile"] = ADOBE
    result = np.asarray(flow.transfer(target, red, np.ones((48, 48), bool), tau={}))
    assert result[24, 24, 0] < 170, "sRGB's red is a smaller number in a wider profile"
    adobe = conversion_for(ADOBE, channels=3)
    assert adobe is not None
    assert np.abs(adobe.to_srgb(result) * 255 - red).max() < 1.5


def test_masks_of_any_form_select_the_same(pictures, tmp_path):
    torch = pytest.importorskip("torch")
    inside = pictures.mask
    light = np.where(inside, 128, 127).astype(np.uint8)  # just inside and just outside
    opaque = np.where(inside, 255, 0).astype(np.uint8)
    Image.fromarray(light).save(tmp_path / "mask.png")
    forms = {
        "uint8": light,
        "uint8 H×W×1": light[..., None],
        "bool H×W×1": inside[..., None],
        "a tensor of bool": torch.from_numpy(inside),
        "L": Image.fromarray(light),
        "1": Image.fromarray(inside),
        "RGB": Image.fromarray(np.dstack([opaque] * 3)),
        "LA": Image.fromarray(np.dstack([np.full_like(light, 255), opaque])),
        "float": np.where(inside, 0.5, 0.49),
        "uint16": np.where(inside, 32768, 32767).astype(np.uint16),
        "path": tmp_path / "mask.png",
    }
    for form, mask in forms.items():
        assert np.array_equal(mask_of(mask), inside), form


def test_what_is_transparent_in_the_source_is_left_out(flow, pictures):
    cut_out = np.dstack([pictures.source, np.where(pictures.mask, 255, 0).astype(np.uint8)])
    expected = flow.transfer(pictures.target, pictures.source, pictures.mask)
    assert np.array_equal(
        flow.transfer(pictures.target, cut_out, np.ones_like(pictures.mask)),
        expected,
    )


def test_content_does_not_fit_the_invisible_colours_of_the_target(flow, pictures):
    alpha = np.full((64, 56, 1), 255, np.uint8)
    alpha[:, 24:] = 0  # through the mask
    target = np.dstack([pictures.target, alpha])
    target[:, 24:, :3] = 0
    lighter = np.clip(pictures.target.astype(int) + 30, 0, 255).astype(np.uint8)
    result = flow.transfer(target, lighter, pictures.mask, tau={})
    change = np.abs(result[..., :3].astype(int) - pictures.target)[
        pictures.mask & (alpha[..., 0] > 0)
    ]
    assert change.max() <= 1


def test_an_empty_mask_gives_the_target_and_a_warning(flow, pictures, caplog):
    result = flow.transfer(pictures.target, pictures.source, np.zeros_like(pictures.mask))
    assert np.array_equal(result, pictures.target)
    assert "the mask is empty" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            {"source": np.zeros((64, 50, 3), np.uint8)},
            ImageError,
            "source has 50×64 pixels; for a target of 56×64",
        ),
        (
            {"mask": np.ones((64, 56), np.uint16)},
            ImageError,
            r"multiply the mask by 255, .*mask\.astype\(bool\)",
        ),
        (
            {"lr": np.zeros((64, 56, 3), np.uint8)},
            ImageError,
            "has 56×64 pixels; .* must have 14×16",
        ),
        ({"blend": "poisson"}, ArgumentError, "it must be one of gradient, none"),
        ({"tau": {9: 0.5}}, ArgumentError, "tau names level 9"),
        ({"cancel": CANCELLED}, CancelledError, "cancelled by the caller"),
    ],
)
def test_what_does_not_fit_is_one_line(flow, pictures, change, error, says):
    arguments = {
        "target": pictures.target,
        "source": pictures.source,
        "mask": pictures.mask,
        **change,
    }
    with pytest.raises(error, match=says):
        flow.transfer(**arguments)
