"""Which pixels of which files are measured."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_sdk.errors import ImageError
from srflow_training.data import read_photo, to_image
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

CUT = Cut(scale=4, multiple=8)


def read(path):
    return to_image(read_photo(path))


def save(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ).save(path)


def test_a_picture_loses_what_exceeds_the_networks_multiple_below_and_on_the_right(photos):
    files = {files.name: files for files in picture_files(photos, cut=CUT)}
    picture = read_picture(files["b"], CUT, "bicubic")
    expected = read(photos / "b.png")[..., :64, :64]
    assert torch.equal(picture.hr, expected)
    assert torch.equal(picture.lr, round_to_8_bit(reduce_bicubic(expected, 4)))


def test_files_of_lr_and_other_methods_are_found_and_cut_likewise(tmp_path):
    save(tmp_path / "hr" / "0801.png", 134, 130)
    save(tmp_path / "lr" / "0801x4.png", 33, 32, seed=1)
    save(tmp_path / "out" / "0801.png", 132, 128, seed=2)
    cut = Cut(scale=4, multiple=4, centre=64)  # a margin of 34 rows, which is no whole LR row
    (files,) = picture_files(
        tmp_path / "hr",
        lr=tmp_path / "lr",
        others={"GAN": tmp_path / "out"},
        cut=cut,
    )
    picture = read_picture(files, cut, "bicubic")
    rows, columns = slice(32, 96), slice(32, 96)
    assert torch.equal(picture.hr, read(tmp_path / "hr" / "0801.png")[..., rows, columns])
    assert torch.equal(picture.lr, read(tmp_path / "lr" / "0801x4.png")[..., 8:24, 8:24])
    assert torch.equal(
        picture.others["GAN"],
        read(tmp_path / "out" / "0801.png")[..., rows, columns],
    )


def test_missing_files_and_wrong_sizes_are_named_before_anything_is_measured(tmp_path):
    hr = tmp_path / "hr"
    save(hr / "a.png", 80, 80)
    save(tmp_path / "other" / "b.png", 80, 80)
    with pytest.raises(ImageError, match=r"--other GAN .* no picture named a or ax4"):
        picture_files(hr, lr=None, others={"GAN": tmp_path / "other"}, cut=CUT)
    save(tmp_path / "other" / "a.png", 40, 40)
    with pytest.raises(ImageError, match="40×40 pixels; 80×80 are needed"):
        picture_files(hr, lr=None, others={"GAN": tmp_path / "other"}, cut=CUT)
    save(tmp_path / "lr" / "a.png", 19, 20)
    with pytest.raises(ImageError, match="20×19 pixels; 20×20 are needed"):
        picture_files(hr, lr=tmp_path / "lr", others={}, cut=CUT)
    save(hr / "icon.png", 32, 80)
    with pytest.raises(ImageError, match=r"icon\.png: 80×32 pixels; at least 64"):
        picture_files(hr, cut=CUT)
    (hr / "icon.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="cannot be read"):
        picture_files(hr, cut=CUT)


def test_two_files_of_one_name_are_refused(tmp_path):
    save(tmp_path / "a.png", 64, 64)
    save(tmp_path / "a.bmp", 64, 64)
    with pytest.raises(ImageError, match="the same name"):
        picture_files(tmp_path, cut=CUT)


def test_some_photographs_are_spread_over_the_folder(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}.png", 64, 64)
    found = picture_files(tmp_path, cut=CUT, most=3)
    assert [files.name for files in found] == ["0", "2", "4"]


def test_further_inputs_are_cut_likewise_and_count_for_what_has_changed(tmp_path):
    save(tmp_path / "hr" / "a.png", 72, 80)
    save(tmp_path / "noisy" / "a.png", 72, 80, seed=1)
    save(tmp_path / "next.png", 70, 90, seed=2)
    cut = Cut(scale=4, multiple=8, centre=64)
    inputs = {"degraded": tmp_path / "noisy"}
    (files,) = picture_files(tmp_path / "hr", cut=cut, inputs=inputs)
    expected = read(tmp_path / "noisy" / "a.png")[..., 4:68, 8:72]
    assert torch.equal(read_picture(files, cut, "bicubic").inputs["degraded"], expected)
    before = files.sha256
    save(tmp_path / "noisy" / "a.png", 72, 80, seed=3)
    assert files.sha256 != before
    assert dataclasses.replace(files, beside=tmp_path / "next.png").sha256 != files.sha256
