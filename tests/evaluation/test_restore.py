"""restore: what it measures of degraded photographs, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.damages import Damage, generator_of
from srflow_evaluation.models import CheckpointFlow
from srflow_evaluation.options import LevelTaus, Options
from srflow_evaluation.restore import METHODS, restore
from srflow_sdk import Upscaler
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError
from srflow_training import figures
from srflow_training.data import read_photo, to_image
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from tests.evaluation.outputs import drawn_in, means_of, rows_of, summary_of

B = (64, 64)  # height and width of the photograph b as the protocol cuts it; no other is as large


@pytest.fixture
def noisy(photos, tmp_path):
    """A folder of the photographs with noise of 20, as the protocol makes it of whole ones."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    for path in photos.iterdir():
        photo = read_photo(path)
        cut = photo[: photo.shape[0] // 8 * 8, : photo.shape[1] // 8 * 8]
        degraded = Damage.parse("noise:20").of(cut, generator_of(path.stem))
        Image.fromarray(degraded).save(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def whole(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs, measured with the defaults.

    Tests only read it, or copy it.
    """
    out = tmp_path_factory.mktemp("whole") / "out"
    restore(
        Options(
            models=[str(checkpoint)],
            hr=photos,
            output=out,
            metrics=("psnr", "ssim", "gmsd", "lr_psnr"),
        )
    )
    return out


def test_figures_are_those_of_the_sdk(options, photos, noisy, tmp_path):
    table = restore(options(models=[]))
    rows = rows_of(tmp_path / "out")
    summary = summary_of(tmp_path / "out")
    with Upscaler("x4-small", device="cpu") as upscaler:
        for name in "abc":
            hr, degraded = (read_photo(folder / f"{name}.png") for folder in (photos, noisy))
            hr = to_image(hr[: degraded.shape[0], : degraded.shape[1]])
            lr = round_to_8_bit(reduce_bicubic(to_image(degraded), 4))
            small = lr[0].permute(1, 2, 0).contiguous().numpy()
            images = {
                "degraded": degraded,
                "superresolved": upscaler.upscale(small, tau=0),
                "sampled": upscaler.upscale(small),
                "restored": upscaler.restore(degraded),
                "bicubic": enlarge_bicubic(lr, 4)[0].permute(1, 2, 0).numpy(),
            }
            clean = round_to_8_bit(reduce_bicubic(hr, 4))
            for method, pixels in images.items():
                scale = 255 if pixels.dtype == np.uint8 else 1
                image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / scale
                expected = figures.psnr(image, hr, border=4)
                assert float(rows[name, method]["psnr"]) == pytest.approx(expected, abs=0.01), (
                    name,
                    method,
                )
                lr_psnr = figures.lr_psnr(image, clean, reduction="bicubic", border=1)
                assert float(rows[name, method]["lr_psnr"]) == pytest.approx(lr_psnr, abs=0.05), (
                    name,
                    method,
                )
    means = means_of(tmp_path / "out")
    assert list(means) == list(METHODS)
    for metric in summary["metrics"]:
        for method in METHODS:
            mean = np.mean([float(rows[name, method][metric]) for name in "abc"])
            assert means[method][metric] == pytest.approx(mean), (metric, method)
    assert means["restored"]["psnr"] > means["degraded"]["psnr"] + 1
    assert (summary["degradation"], summary["normalise"], summary["sampled_tau"]) == (
        "noise:20",
        "default",
        "auto",
    )
    assert list(summary["references"]) == ["bicubic"]
    assert (
        str(table).index("| degraded |")
        < str(table).index("| bicubic |")
        < str(table).index("| restored |")
    )
    assert "Degraded: noise:20." in str(table)
    assert drawn_in(tmp_path / "out") == {"sheet_1_a.png"}
    with Image.open(tmp_path / "out" / "sheet_1_a.png") as sheet:
        assert sheet.width > 6 * 128
        assert np.asarray(sheet.convert("L")).std() > 1


def test_degraded_files_give_what_the_same_degradation_gives(options, whole, noisy, tmp_path):
    restore(options(degraded=noisy))
    own = summary_of(whole)
    files = summary_of(tmp_path / "out")
    assert files["degradation"] == "files"
    assert files["rows"] == own["rows"]
    assert files["references"] == own["references"]


@torch.no_grad()
def test_the_published_normalisation_is_spatial_then_local(options, noisy, tmp_path):
    restore(options(models=[], degraded=noisy, normalise="published", most=1))
    degraded = read_photo(noisy / "a.png")
    with Upscaler("x4-small", device="cpu") as upscaler:
        lr = round_to_8_bit(reduce_bicubic(to_image(degraded), 4))
        encoding = upscaler.encode(lr[0].permute(1, 2, 0).contiguous().numpy())
        latents = encoding.invert(degraded.astype(np.float32) / 255)
        by_hand = latents.normalised(0.9, over="spatial").normalised(0.9, over="local")
        image = torch.from_numpy(encoding.decode(by_hand)).permute(2, 0, 1)[None]
    expected = figures.psnr(image, to_image(read_photo(options().hr / "a.png")), border=4)
    assert means_of(tmp_path / "out")["restored"]["psnr"] == pytest.approx(expected, abs=0.01)


def test_degraded_files_are_checked_before_anything_is_written(options, photos, noisy, tmp_path):
    with pytest.raises(ArgumentError, match="leave out --degradation, or --degraded"):
        restore(options(degraded=noisy, degradations=["noise:20"]))
    with pytest.raises(ArgumentError, match="is called restored, which is a name of this protocol"):
        restore(options(others={"restored": noisy}))
    (noisy / "b.png").unlink()
    with pytest.raises(ImageError, match=r"--degraded .*: no picture named b or bx4: add it"):
        restore(options(degraded=noisy))
    Image.new("RGB", (64, 32)).save(noisy / "b.png")
    with pytest.raises(ImageError, match=r"--degraded: .*b\.png is 64×32 pixels; 67×70 are needed"):
        restore(options(degraded=noisy))
    assert not (tmp_path / "out").exists()


def test_the_samples_temperature_is_not_the_normalisations(options, tmp_path):
    restore(options(most=1, taus=[LevelTaus((0.5,))], sample_tau=LevelTaus((0.9,))))
    summary = summary_of(tmp_path / "out")
    assert (summary["tau"], summary["sampled_tau"]) == ("0.5", "0.9")
    restore(options(most=1, taus=[LevelTaus((0.5,))], out=tmp_path / "other"))
    means = means_of(tmp_path / "out")
    other = means_of(tmp_path / "other")
    assert other["restored"] == means["restored"]
    assert other["sampled"]["psnr"] != means["sampled"]["psnr"]
    with pytest.raises(ArgumentError, match=r"measured otherwise .*sample_tau"):
        restore(options(most=1, taus=[LevelTaus((0.5,))]))


def test_a_restored_picture_that_is_not_finite_is_measured_as_black_and_ends_nothing(
    options, monkeypatch, tmp_path
):
    invert = CheckpointFlow.invert

    def fails_on_b(self, hr):
        if hr.shape[2:] != B:
            return invert(self, hr)
        raise NonFiniteError("the network's latents are not finite")

    monkeypatch.setattr(CheckpointFlow, "invert", fails_on_b)
    table = str(restore(options()))
    rows = rows_of(tmp_path / "out")
    values = 3 * B[0] * B[1]
    assert (
        f"{values} values of pictures are not finite (NaN or infinite): they are measured as black."
        in table
    )
    assert [float(rows[name, "restored"]["nonfinite"]) for name in "abc"] == [0, values, 0]
    assert float(rows["b", "restored"]["psnr"]) < float(rows["b", "degraded"]["psnr"])
