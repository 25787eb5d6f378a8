"""transfer: the seam that is left of a paste, its measures, and what is refused."""

import importlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from srflow_evaluation.models import CheckpointFlow
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.transfer import METHODS, detail, likeness, seam, seam_error, transfer
from srflow_export.unfolding import trainable_network
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import BundleError, ImageError, NonFiniteError
from srflow_training import save_checkpoint
from srflow_training.data import read_photo, to_pixels
from srflow_training.resampling import reduce_bicubic
from tests.evaluation.outputs import drawn_in, means_of, rows_of, summary_of
from tests.sdk.flow_bundle import write_flow_bundle


@pytest.fixture
def mask():
    inside = np.zeros((40, 50), bool)
    inside[10:30, 15:35] = True
    return inside


def textured(seed, low=60, high=90):
    return np.random.default_rng(seed).integers(low, high, (40, 50, 3), dtype=np.uint8)


def test_seam_error_is_the_mean_over_the_pairs_across_the_edge(mask):
    target = textured(0)
    source = textured(1, 120, 160)
    pasted = np.where(mask[..., None], source, target)
    errors = []
    for row, column in zip(*np.nonzero(mask), strict=True):
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if mask[near]:
                continue
            steps = [
                image[row, column].astype(int) - image[near] for image in (pasted, target, source)
            ]
            for found, one, other in zip(*steps, strict=True):
                errors.append(max(min(one, other) - found, found - max(one, other), 0))
    assert seam_error(pasted, target, source, mask) == pytest.approx(np.mean(errors))
    assert seam_error(target, target, source, mask) == seam_error(source, target, source, mask) == 0


def test_seam_is_one_without_a_step_and_grows_with_it(mask):
    whole = textured(2)
    stepped = whole.copy()
    stepped[mask] += 100
    assert seam(whole, mask) == pytest.approx(1, abs=0.15)
    assert seam(stepped, mask) > 5


def test_detail_is_the_share_of_the_sources_steps_that_is_left(mask):
    source = np.repeat((np.indices((40, 50)).sum(axis=0) % 2 * 40)[..., None], 3, axis=2).astype(
        np.uint8
    )
    assert detail(source, source, mask) == 1
    assert detail(source // 4, source, mask) == 0.25
    assert detail(np.zeros_like(source), source, mask) == 0


def test_likeness_is_that_of_the_content_whatever_its_brightness_and_contrast(mask):
    source = textured(3)
    other = textured(4)
    assert likeness(source, source, mask) == pytest.approx(1)
    assert likeness(source // 2 + 90, source, mask) > 0.97
    assert likeness(255 - source, source, mask) == pytest.approx(-1)
    assert abs(likeness(other, source, mask)) < 0.1
    edge = source.copy()
    edge[~mask] = 0
    assert likeness(edge, source, mask) == pytest.approx(1)


transfer_module = importlib.import_module("srflow_evaluation.transfer")


@pytest.fixture
def masks(photos, tmp_path):
    """A white circle for each photograph."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in photos.iterdir():
        mask = Image.new("L", Image.open(path).size)
        ImageDraw.Draw(mask).ellipse((20, 14, 50, 46), fill=255)
        mask.save(folder / path.name)
    return folder


@pytest.fixture
def sources(photos, tmp_path):
    """Each photograph, negative."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for path in photos.iterdir():
        ImageOps.invert(Image.open(path)).save(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def unfolded(tmp_path_factory):
    path = tmp_path_factory.mktemp("unfolded") / "embedded.safetensors"
    save_checkpoint(path, trainable_network(Bundle.embedded()))
    return path


def test_the_seam_of_the_next_pictures_content_is_smaller_than_of_a_paste(options, tmp_path):
    table = transfer(options(models=[]))
    rows = rows_of(tmp_path / "out")
    summary = summary_of(tmp_path / "out")
    for name in "abc":
        errors = [float(rows[name, method]["seam_error"]) for method in METHODS]
        assert errors[0] == 0
        assert errors[2] < 0.7 * errors[1], name
    means = means_of(tmp_path / "out")
    assert list(means) == list(METHODS)
    pasted = means["pasted"]
    result = means["result"]
    assert pasted["seam_error"] > result["seam_error"]
    assert pasted["seam"] > result["seam"]
    assert pasted["detail"] == 1
    assert pasted["likeness"] == pytest.approx(1)
    assert result["likeness"] > 0.8
    errors = [float(rows[name, "result"]["seam_error"]) for name in "abc"]
    assert result["seam_error"] == pytest.approx(np.mean(errors))
    assert {name: metric["better"] for name, metric in summary["metrics"].items()} == {
        "seam_error": "lower",
        "seam": "closer to 1",
        "detail": "closer to 1",
        "likeness": "closer to 1",
    }
    assert "| pasted |" in str(table)
    assert "the next picture" in str(table)
    assert drawn_in(tmp_path / "out") == {"sheet_1_a.png", "sheet_2_b.png", "sheet_3_c.png"}
    with Image.open(tmp_path / "out" / "sheet_1_a.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 1


@pytest.mark.parametrize("lr", [False, True])
def test_a_sheet_has_whole_pictures_of_existing_and_of_super_resolved_targets(
    options,
    photos,
    sources,
    tmp_path,
    monkeypatch,
    lr,
):
    """One row alone where the LR images are given: then the targets may be super-resolved
    themselves."""
    drawn = []
    monkeypatch.setattr(
        transfer_module,
        "write_sheet",
        lambda path, *sheet, columns: drawn.append((*sheet, columns)),
    )
    small = tmp_path / "lr"
    small.mkdir()
    Image.open(photos / "a.png").reduce(4).save(small / "a.png")
    chosen = {"source": sources, "lr": small} if lr else {"source": sources}
    transfer(options(models=[], most=1, normalise="published", **chosen))
    title, cells, _, columns = drawn[0]
    assert title == "a, transferred at τ 0.9: the embedded model"
    names = [caption.partition("\n")[0] for caption, _ in cells]
    row = ["source, and the mask's edge", "pasted", "result"]
    assert names == ["target", *row] + ([] if lr else ["target, super-resolved, τ auto", *row])
    assert columns == 4
    assert {tuple(image.shape[2:]) for _, image in cells} == {(64, 72)}
    if not lr:
        hr = cells[0][1]
        bottom = cells[4][1]
        with Upscaler("x4-small", device="cpu") as upscaler:
            found = upscaler.upscale(to_pixels(reduce_bicubic(hr, 4)), seed=0)
        assert np.array_equal(to_pixels(bottom), found)
        assert not np.array_equal(to_pixels(cells[3][1]), to_pixels(cells[7][1]))


@pytest.mark.parametrize("normalise", [None, "published"])
def test_figures_are_those_of_the_sdk(options, photos, sources, masks, tmp_path, normalise):
    transfer(options(models=[], source=sources, mask=masks, normalise=normalise))
    rows = rows_of(tmp_path / "out")
    with Upscaler("x4-small", device="cpu") as upscaler:
        for name in "abc":
            target, source, mask = (
                read_photo(folder / f"{name}.png") for folder in (photos, sources, masks)
            )
            target, source, mask = (
                image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8]
                for image in (target, source, mask)
            )
            inside = mask[..., 0] > 127
            result = upscaler.transfer(
                target,
                source,
                inside,
                blend="none" if normalise else "gradient",
            )
            row = rows[name, "result"]
            assert float(row["seam_error"]) == seam_error(result, target, source, inside)
            assert float(row["seam"]) == seam(result, inside)
            assert float(row["detail"]) == detail(result, source, inside)
            assert float(row["likeness"]) == likeness(result, source, inside)
            pasted = np.where(inside[..., None], source, target)
            assert float(rows[name, "pasted"]["seam_error"]) == seam_error(
                pasted,
                target,
                source,
                inside,
            )


@pytest.mark.parametrize("changes", [{"normalise": "published"}, {"taus": [LevelTaus((0.5,))]}])
def test_a_checkpoint_transfers_as_its_bundle_does(options, unfolded, masks, tmp_path, changes):
    means = {}
    for name, models in (("bundle", []), ("checkpoint", [str(unfolded)])):
        transfer(options(out=tmp_path / name, models=models, mask=masks, most=2, **changes))
        means[name] = means_of(tmp_path / name)
    of_bundle = means["bundle"]["result"]
    of_checkpoint = means["checkpoint"]["result"]
    for figure in ("seam_error", "seam", "detail"):
        assert of_checkpoint[figure] == pytest.approx(of_bundle[figure], rel=0.01, abs=0.02), figure
    assert of_bundle["seam_error"] != means["bundle"]["pasted"]["seam_error"]


def test_true_lr_images_of_the_targets_are_used(
    options,
    unfolded,
    photos,
    masks,
    sources,
    tmp_path,
):
    """A gray LR image makes the result gray, so that it is no longer like one from the target's own
    reduction."""
    folder = tmp_path / "lr"
    folder.mkdir()
    for path in photos.iterdir():
        width, height = Image.open(path).size
        Image.new("RGB", (width // 4, height // 4), "gray").save(folder / path.name)
    details = {}
    for name, models, lr in (
        ("own", [], None),
        ("bundle", [], folder),
        ("checkpoint", [str(unfolded)], folder),
    ):
        chosen = {"mask": masks, "source": sources, "normalise": "published", "most": 1}
        transfer(options(out=tmp_path / name, models=models, lr=lr, **chosen))
        details[name] = means_of(tmp_path / name)["result"]["detail"]
    assert abs(details["own"] - details["bundle"]) > 0.05
    assert details["checkpoint"] == pytest.approx(details["bundle"], rel=0.05)


def test_masks_without_an_edge_are_refused(options, masks):
    Image.new("L", (72, 64), 127).save(masks / "a.png")
    with pytest.raises(
        ImageError, match=r"a\.png: nothing is at least half as bright as white: paint white"
    ):
        transfer(options(mask=masks))
    Image.new("L", (72, 64), 128).save(masks / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: all of the picture is inside"):
        transfer(options(mask=masks))


def test_files_and_models_are_checked_before_anything_is_written(options, masks, tmp_path):
    old = write_flow_bundle(tmp_path / "old.srflow", inverter=False)
    with pytest.raises(BundleError, match="has no inverter"):
        transfer(options(models=[str(old)]))
    (masks / "b.png").unlink()
    with pytest.raises(ImageError, match=r"--mask .*: no picture named b or bx4: add it"):
        transfer(options(mask=masks))
    assert not (tmp_path / "out").exists()


def test_a_result_that_is_not_finite_is_black_inside_the_mask_and_ends_nothing(
    options, monkeypatch, tmp_path
):
    calls = []

    def fails_at_first(self, hr):
        calls.append(hr)
        if len(calls) == 1:
            raise NonFiniteError("the network's latents are not finite")
        return invert(self, hr)

    invert = CheckpointFlow.invert
    monkeypatch.setattr(CheckpointFlow, "invert", fails_at_first)
    table = str(transfer(options()))
    assert len(calls) == 6  # both rows of each sheet
    assert "The result of a is not finite (NaN or infinite): it is black inside the mask." in table
    rows = rows_of(tmp_path / "out")
    assert [float(rows[name, "result"]["detail"]) > 0 for name in "abc"] == [False, True, True]
