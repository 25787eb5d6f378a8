"""What training sees: reproducible crops of photographs, each with the LR image that the photograph would have."""

import errno
import itertools
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_training.data import Crops, Photos, choose_cache, halved, image_files, loader, read_photo
from srflow_training.data._images import size_of
from srflow_training.resampling import reduce_bicubic, reduce_bilinear, round_to_8_bit
from srflow_training.settings import DataSettings

SCALE = 4


def texture(height, width, seed=0):
    """A photograph with detail of all sizes, and no two places alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return (smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for index, (height, width) in enumerate([(90, 120), (101, 83), (64, 64)]):
        save(tmp_path / "photos" / str(index) / f"{index}.png", texture(height, width, index))
    return tmp_path / "photos"


def crops_of(folder, *, scale=SCALE, seed=0, iterations=100, rank=0, ranks=1, reports=None, cache="off", **data):
    settings = DataSettings(**{"crop": 16, "batch": 4, **data})
    report = [].append if reports is None else reports.append
    photos = Photos(folder, settings, scale, report)
    kept = choose_cache(photos, cache).folder
    return Crops(photos, settings, scale=scale, seed=seed, iterations=iterations, rank=rank, ranks=ranks, cache=kept)


def damage_pixels(path):
    """Keep the header, lose most of the pixels."""
    path.write_bytes(path.read_bytes()[:200])


def as_image(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def places(pixels, crop):
    """(top, left) of every place of a photograph where it equals a crop."""
    wanted = (crop.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    height, width, _ = wanted.shape
    starts = np.argwhere((pixels == wanted[0, 0]).all(axis=-1)).tolist()
    return [
        (top, left) for top, left in starts if np.array_equal(pixels[top : top + height, left : left + width], wanted)
    ]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))


# LR images


@pytest.mark.parametrize(("reduction", "reduce"), [("bicubic", reduce_bicubic), ("bilinear", reduce_bilinear)])
@pytest.mark.parametrize("shift", [0, 2])
def test_the_lr_of_a_crop_is_its_part_of_the_photographs_reduction(tmp_path, reduction, reduce, shift):
    """Inside and at the photograph's borders; with a shift, HR alone moves, by every offset up to it."""
    pixels = texture(28, 60)
    save(tmp_path / "a.png", pixels)
    crops = crops_of(tmp_path, batch=400, hr_shift=shift, reduction=reduction, flips=False, transposes=False)
    whole = round_to_8_bit(reduce(as_image(pixels), SCALE))[0]
    offsets, tops = set(), set()
    for hr, lr in zip(*crops[0][:2], strict=True):
        [(top, left)] = places(pixels, hr)
        for down, right in itertools.product(range(-shift, shift + 1), repeat=2):
            row, column = (top - down) // SCALE, (left - right) // SCALE
            on_grid = (row * SCALE, column * SCALE) == (top - down, left - right)
            expected = whole[:, row : row + 4, column : column + 4]
            if on_grid and expected.shape == lr.shape and torch.allclose(expected, lr, atol=1e-6):
                offsets.add((down, right))
                tops.add(row)
    assert len(offsets) > 5 if shift else offsets == {(0, 0)}
    assert tops == ({1, 2} if shift else {0, 1, 2, 3})  # shifted crops keep away from the border


def test_a_crop_as_large_as_the_photograph_has_the_photographs_reduction(tmp_path):
    pixels = texture(32, 32)
    save(tmp_path / "face.png", pixels)
    batch = crops_of(tmp_path, crop=32, scale=16, flips=False, transposes=False)[0]
    assert torch.equal(batch.hr[0], as_image(pixels)[0])
    assert torch.equal(batch.lr[0], round_to_8_bit(reduce_bicubic(as_image(pixels), 16))[0])


def test_a_crop_beside_the_border_sees_the_mirrored_photograph(tmp_path):
    """Also where it lies between the pixels of the photograph's own LR image."""
    pixels = texture(19, 16)
    save(tmp_path / "a.png", pixels)
    hr, lr, *_ = crops_of(tmp_path, batch=40, flips=False, transposes=False)[0]
    tops = [places(pixels, crop)[0][0] for crop in hr]
    assert set(tops) == {0, 1, 2, 3}
    mirrored = np.pad(pixels, [(32, 32), (32, 32), (0, 0)], mode="symmetric")
    for top, image in zip(tops, lr, strict=True):
        around = mirrored[top : top + 80, :80]
        expected = round_to_8_bit(reduce_bicubic(as_image(around), SCALE))[0, :, 8:12, 8:12]
        assert torch.allclose(expected, image, atol=1e-6)


def test_flips_and_transposes_turn_hr_and_lr_alike(tmp_path):
    pixels = texture(16, 16)
    save(tmp_path / "a.png", pixels)
    hr, lr, *_ = crops_of(tmp_path, batch=64)[0]
    ways = {}
    for image, small in zip(hr, lr, strict=True):
        assert torch.allclose(round_to_8_bit(reduce_bicubic(image[None], SCALE))[0], small, atol=1.01 / 255)
        ways[image.numpy().tobytes()] = True
    assert len(ways) == 8
    plain = crops_of(tmp_path, batch=64, flips=False, transposes=False)[0].hr
    assert torch.equal(plain, as_image(pixels).expand(64, -1, -1, -1))


def test_values_are_8_bit_levels_and_noise_is_standard_normal(folder):
    hr, lr, noise, _, _ = crops_of(folder, batch=32)[0]
    assert hr.shape == noise.shape == (32, 3, 16, 16)
    assert lr.shape == (32, 3, 4, 4)
    assert hr.dtype == lr.dtype == noise.dtype == torch.float32
    for image in (hr, lr):
        assert torch.allclose((image * 255).round(), image * 255, atol=1e-4)
        assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)


def test_bilinear_reduction_is_a_triangle_of_twice_the_scale():
    """By hand: at ×2 the weights are 1/8, 3/8, 3/8, 1/8; the border repeats its pixel."""
    row = torch.tensor([0.0, 0.8, 0.4, 0.0, 1.0, 0.2])
    image = row.expand(1, 1, 6, 6)
    expected = [0.0 / 8 + 3 * 0.0 / 8 + 3 * 0.8 / 8 + 0.4 / 8, 0.8 / 8 + 3 * 0.4 / 8 + 1 / 8, 3 * 1.2 / 8 + 0.2 / 8]
    assert torch.allclose(reduce_bilinear(image, 2)[0, 0], torch.tensor(expected).expand(3, 3), atol=1e-6)


# LR files


@pytest.mark.parametrize("name", ["{}.png", "{}x4.bmp"])
def test_lr_files_are_found_by_name_and_cut_on_their_grid(tmp_path, name):
    hr_pixels, lr_pixels = texture(50, 47), texture(12, 11, seed=1)
    save(tmp_path / "hr" / "sub" / "0001.png", hr_pixels)
    save(tmp_path / "lr" / "sub" / name.format("0001"), lr_pixels)
    crops = crops_of(tmp_path / "hr", lr=str(tmp_path / "lr"), hr_shift=3, batch=60, flips=False, transposes=False)
    offsets = set()
    for hr, lr in zip(*crops[0][:2], strict=True):
        [(top, left)], [(small_top, small_left)] = places(hr_pixels, hr), places(lr_pixels, lr)
        offsets.add((top - 4 * small_top, left - 4 * small_left))
    assert len(offsets) > 20
    assert {abs(offset) for pair in offsets for offset in pair} == {0, 1, 2, 3}


def test_lr_files_that_are_missing_or_of_another_size_are_reported_and_their_photographs_skipped(tmp_path):
    for name in ("good", "alone", "wrong"):
        save(tmp_path / "hr" / f"{name}.png", texture(32, 32))
    save(tmp_path / "lr" / "goodx4.png", texture(8, 8))
    save(tmp_path / "lr" / "wrongx4.png", texture(8, 9))
    reports = []
    assert len(crops_of(tmp_path / "hr", lr=str(tmp_path / "lr"), reports=reports).photos) == 1
    assert len(reports) == 2
    assert "no LR image alone or alonex4" in reports[0]
    assert "is 9×8 px; 1/4 of the photograph is 8×8 px" in reports[1]
    (tmp_path / "hr" / "good.png").unlink()
    with pytest.raises(ImageError, match=r"no photograph can be used.*alone"):
        crops_of(tmp_path / "hr", lr=str(tmp_path / "lr"))


# Determinism


def test_crops_follow_from_seed_and_iteration_alone(folder):
    first, again, other = crops_of(folder), crops_of(folder), crops_of(folder, seed=1)
    again[3]  # having drawn before must not matter
    assert equal(first[7], again[7])
    for index in range(3):
        assert not torch.equal(first[7][index], first[8][index])
        assert not torch.equal(first[7][index], other[7][index])
        assert len(first[7][index].flatten(1).unique(dim=0)) == 4  # no two elements alike


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_that_one_would_have(folder, ranks):
    whole = crops_of(folder, choose_of=2, hr_shift=1)[5]
    for rank in range(ranks):
        share = crops_of(folder, choose_of=2, hr_shift=1, rank=rank, ranks=ranks)[5]
        for mine, everything in zip(share[:3], whole[:3], strict=True):
            assert torch.equal(mine, everything[rank::ranks])


def test_workers_change_nothing_and_a_resumed_run_goes_on(folder, tmp_path):
    torch_state = torch.get_rng_state()
    in_process = list(loader(crops_of(folder, iterations=6), start=0, workers=0))
    resumed = list(loader(crops_of(folder, iterations=6, cache=str(tmp_path / "cache")), start=2, workers=2))
    assert len(in_process) == 6
    assert len(resumed) == 4
    assert all(equal(a, b) for a, b in zip(in_process[2:], resumed, strict=True))
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_late_crops_are_larger_and_fewer(folder):
    crops = crops_of(folder, batch=8, late_crop=32, late_share=0.25, iterations=8)
    assert [tuple(crops[iteration].hr.shape) for iteration in (0, 5, 6, 7)] == [
        (8, 3, 16, 16),
        (8, 3, 16, 16),
        (2, 3, 32, 32),
        (2, 3, 32, 32),
    ]
    assert crops[7].lr.shape == (2, 3, 8, 8)
    assert len(list(crops)) == len(crops) == 8


# Which photographs


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"no images found \(looked for"):
        crops_of(tmp_path)


def test_unreadable_and_small_files_are_reported_and_skipped(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    reports = []
    with pytest.raises(ImageError, match=r"no photograph can be used.*broken\.png"):
        crops_of(tmp_path)
    save(tmp_path / "small.png", texture(30, 50))
    with pytest.raises(ImageError, match=r"^--data .*: no photograph is at least 36 px.*data\.crop"):
        crops_of(tmp_path, late_crop=32, hr_shift=2)
    save(tmp_path / "good.png", texture(36, 36))
    crops = crops_of(tmp_path, late_crop=32, hr_shift=2, reports=reports)
    assert len(crops.photos) == 1
    assert len(reports) == 2
    assert "broken.png" in reports[0]
    assert "small.png: 50×30 px is too small for crops of 36 px" in reports[1]


def test_many_skipped_files_are_summed_up(tmp_path):
    for index in range(25):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    save(tmp_path / "good.png", texture(16, 16))
    reports = []
    crops_of(tmp_path, reports=reports)
    assert len(reports) == 11
    assert "15 more files" in reports[-1]


def test_photographs_are_not_decoded_at_the_start(tmp_path):
    damage_pixels(save(tmp_path / "a.png", texture(32, 32)))
    assert len(crops_of(tmp_path).photos) == 1


@pytest.mark.parametrize(
    ("widest", "narrowest", "widths"),
    [(0, 0, [200]), (0, 40, [200, 100, 50]), (100, 0, [100]), (99, 25, [50, 25]), (0, 13, [200, 100, 50, 25])],
)
def test_photographs_are_used_at_the_sizes_asked_for(tmp_path, widest, narrowest, widths):
    pixels = texture(130, 200)
    save(tmp_path / "a.png", pixels)
    crops = crops_of(tmp_path, widest=widest, narrowest=narrowest, batch=40, flips=False, transposes=False)
    assert [photo.width for photo in crops.photos.sizes] == widths
    assert len(crops.photos) == 1
    sizes = [pixels]
    for _ in range(3):
        sizes.append(halved(sizes[-1]))
    found = {size.shape[1] for hr in crops[0].hr for size in sizes if places(size, hr)}
    assert found == set(widths)


def test_large_photographs_are_drawn_by_the_square_root_of_their_area(tmp_path):
    save(tmp_path / "large.png", texture(90, 90))
    save(tmp_path / "small.png", texture(30, 30))
    photos = crops_of(tmp_path).photos
    rng = np.random.default_rng(0)
    large = sum(photos.draw(rng).width == 90 for _ in range(2000))
    assert large / 2000 == pytest.approx(0.75, abs=0.03)


def test_the_most_detailed_of_several_places_is_chosen(tmp_path):
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:32, :32] = texture(32, 32)
    save(tmp_path / "a.png", pixels)

    def detail(choose_of):
        hr = crops_of(tmp_path, batch=32, choose_of=choose_of)[0].hr
        return float(hr.diff(dim=2).abs().mean() + hr.diff(dim=3).abs().mean())

    assert detail(6) > 1.5 * detail(1)


# Broken pixels


def test_a_photograph_that_cannot_be_decoded_is_passed_over_and_reported_once(folder):
    damage_pixels(folder / "0" / "0.png")
    reports = []
    batches = list(loader(crops_of(folder, iterations=8, reports=reports), start=0, workers=2))
    assert [batch.hr.shape[0] for batch in batches] == [4] * 8
    assert len(reports) == 1
    assert reports[0].startswith("skipped: ")
    assert "0.png: cannot be read" in reports[0]
    again = list(loader(crops_of(folder, iterations=8), start=3, workers=0))
    assert all(equal(a, b) for a, b in zip(batches[3:], again, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_only_broken_photographs_are_an_error_of_one_line(folder, workers):
    for path in image_files(folder):
        damage_pixels(path)
    with pytest.raises(ImageError, match="no photograph can be decoded") as error:
        next(loader(crops_of(folder), start=0, workers=workers))
    assert "\n" not in str(error.value)


def test_a_photograph_that_changes_its_size_meanwhile_is_passed_over(folder):
    crops = crops_of(folder)
    save(folder / "0" / "0.png", texture(120, 90))
    batches = [crops[iteration] for iteration in range(4)]
    assert "90×120 pixels, but 120×90 by its header" in batches[-1].problems[0]


def test_crops_travel_to_workers_without_the_report(folder):
    crops = crops_of(folder, reports=[])
    crops.photos.report = lambda line: None  # cannot be pickled
    assert equal(pickle.loads(pickle.dumps(crops))[2], crops[2])


# Cache


def test_a_cache_changes_nothing_and_spares_decoding(folder, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "cache"
    data = {"narrowest": 40, "batch": 16, "choose_of": 2}
    without = crops_of(folder, **data)
    crops_of(folder, cache=str(cache), **data)[0]
    assert list(cache.glob("*.npy"))
    assert all(path.suffix == ".npy" for path in cache.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("srflow_training.data._decoding.read_photo", lambda path: pytest.fail("decoded again"))
        warm = crops_of(folder, cache=str(cache), **data)[0]
    assert equal(warm, without[0])


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x02\x00{[", b"something else", None])
def test_a_damaged_cache_file_is_made_anew(folder, tmp_path, damage):
    cache = tmp_path / "cache"
    expected = crops_of(folder, cache=str(cache), batch=16)[0]
    files = sorted(cache.iterdir())
    sizes = [file.stat().st_size for file in files]
    for file in files:
        file.write_bytes(file.read_bytes()[:300] if damage is None else damage)
    assert equal(crops_of(folder, cache=str(cache), batch=16)[0], expected)
    assert [file.stat().st_size for file in sorted(cache.iterdir())] == sizes


def test_a_photograph_that_changes_is_cached_anew(tmp_path):
    photo = save(tmp_path / "photos" / "a.bmp", texture(32, 32))
    before = crops_of(photo.parent, cache=str(tmp_path / "cache"))[0]
    save(photo, texture(32, 32, seed=1))  # of the same size, in bytes too
    os.utime(photo, ns=(0, 12345))
    after = crops_of(photo.parent, cache=str(tmp_path / "cache"))[0]
    assert not torch.equal(before.hr, after.hr)
    assert equal(after, crops_of(photo.parent)[0])


def test_a_full_disk_is_reported_once_and_training_goes_on(folder, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("srflow_training.data._decoding.write_atomically", full)
    reports = []
    crops = crops_of(folder, cache=str(tmp_path / "cache"), iterations=6, reports=reports)
    batches = list(loader(crops, start=0, workers=2))
    assert len(reports) == 1
    assert "No space left" in reports[0]
    assert equal(batches[5], crops_of(folder, iterations=6)[5])


def test_a_cache_that_is_no_folder_is_refused(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"data\.cache"):
        crops_of(folder, cache=str(tmp_path / "file"))


# Formats


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(texture(20, 24)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, **({"quality": 100} if mode == "CMYK" else {}))
    photo = read_photo(path)
    assert photo.shape == (20, 24, 3)
    assert photo.dtype == np.uint8
    assert np.abs(photo.astype(int) - np.asarray(image.convert("RGB"))).mean() < 3
    assert crops_of(tmp_path)[0].hr.shape == (4, 3, 16, 16)


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_photo(tmp_path / "a.png"), np.repeat((grey >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_is_applied_and_known_from_the_header(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif, quality=100)
    turned = np.rot90(pixels, 2 if orientation == 3 else 3)
    assert size_of(path) == turned.shape[:2]
    assert np.abs(read_photo(path).astype(int) - turned).mean() < 3
    assert crops_of(tmp_path)[0].problems == ()


def test_halving_is_the_bicubic_reduction():
    pixels = texture(33, 22)
    expected = F.interpolate(as_image(pixels)[..., :32, :], scale_factor=0.5, mode="bicubic", antialias=True)
    difference = np.abs(halved(pixels).astype(float) - expected[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255)
    assert halved(pixels).shape == (16, 11, 3)
    assert difference[3:-3, 3:-3].max() < 0.51  # borders are mirrored, not cut


def test_photographs_behind_links_are_found_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    assert [path.name for path in image_files(tmp_path / "photos")] == ["a.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere: no such folder"):
        image_files(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "why"), [("nowhere", "no such folder"), ("file", "is a file, not a folder")])
def test_the_option_that_named_a_wrong_folder_is_told(folder, tmp_path, name, why):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=f"^--data .*{name}: {why}"):
        crops_of(tmp_path / name)
    with pytest.raises(ImageError, match=rf"^data\.lr .*{name}: {why}"):
        crops_of(folder, lr=str(tmp_path / name))
