"""Models side by side, and the field's test sets."""

import importlib
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.cli import evaluate
from srflow_evaluation.models import open_subject, pad
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.sampling import compare, encoder_init, standard, tau_sweep
from srflow_sdk.errors import ArgumentError
from srflow_training import figures, save_checkpoint
from srflow_training.data import read_photo, to_image
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit
from tests.evaluation.outputs import lines_of, rows_of, summary_of
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

TAU = LevelTaus((0.8,))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two networks called one and two, and a third that was trained on bilinear reductions."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two", "third"), start=1):
        notes = {"reduction": "bilinear"} if name == "third" else {}
        save_checkpoint(
            folder / f"{name}.safetensors", random_srflow(tiny_config(), seed=seed), notes=notes
        )
    return folder


def samples_of(path, photo, reduction, count):
    """Samples at τ 0.8 of a photograph that was cut to 8 pixels, with its HR and LR image."""
    image = to_image(read_photo(photo))
    hr = image[..., : image.shape[2] // 8 * 8, : image.shape[3] // 8 * 8]
    lr = round_to_8_bit(REDUCTIONS[reduction](hr, 4))
    sample = open_subject(str(path)).sampler(lr)
    with torch.no_grad():
        return hr, lr, [sample(TAU, seed) for seed in range(count)]


def noted_model(folder, name, encoder, seed):
    """A checkpoint that notes which encoder it started from; None: it does not."""
    path = folder / f"{name}.safetensors"
    notes = {} if encoder is None else {"encoder": encoder}
    save_checkpoint(path, random_srflow(tiny_config(), seed=seed), notes=notes)
    return str(path)


@pytest.mark.parametrize("noted", [{}, {"one": ""}, {"one": "rrdb.pth"}])
def test_a_model_without_the_note_has_no_label_and_there_is_no_difference(options, noted, tmp_path):
    paths = [
        noted_model(tmp_path, name, noted.get(name), seed)
        for seed, name in enumerate(("one", "two"))
    ]
    table = encoder_init(options(models=paths, samples=2, most=1))
    labels = {"": ", from scratch", "rrdb.pth": ", from a trained encoder"}
    expected = [f"one{labels.get(noted.get('one'), '')}, τ 0.8", "two, τ 0.8"]
    assert sorted(row[0] for row in table.rows[1:]) == expected
    unknown = "two" if noted else "one and two"
    assert f"No file notes where the encoder of {unknown} came from" in table.notes[-1]
    assert "difference" not in summary_of(tmp_path / "out")


def test_each_method_is_measured_on_the_reduction_that_it_enlarges(
    options,
    models,
    photos,
    tmp_path,
    monkeypatch,
):
    sheets = []
    module = importlib.import_module("srflow_evaluation.sampling")
    monkeypatch.setattr(
        module,
        "write_sheet",
        lambda path, title, cells, places: sheets.append(cells),
    )
    shutil.copytree(photos, tmp_path / "progfsr")
    Image.open(photos / "b.png").effect_spread(2).save(tmp_path / "progfsr" / "b.png")
    paths = {"bicubic": models / "one.safetensors", "bilinear": models / "third.safetensors"}
    given = {"models": [str(path) for path in paths.values()], "samples": 2}
    of_others = {"others": {"ProgFSR": tmp_path / "progfsr"}, "bilinear": ["ProgFSR"]}
    table = str(compare(options(**given, **of_others)))
    rows = rows_of(tmp_path / "out")
    for reduction, path in paths.items():
        hr, lr, samples = samples_of(path, photos / "b.png", reduction, 2)
        row = rows["b", path.stem]
        psnr = np.mean([figures.psnr(sample, hr, border=4) for sample in samples])
        lr_psnr = np.mean([figures.lr_psnr(sample, lr, reduction=reduction) for sample in samples])
        assert float(row["psnr"]) == pytest.approx(psnr, abs=1e-4)
        assert float(row["lr_psnr"]) == pytest.approx(lr_psnr, abs=1e-4)
    theirs = to_image(read_photo(tmp_path / "progfsr" / "b.png"))[..., : hr.shape[2], : hr.shape[3]]
    expected = figures.lr_psnr(theirs, lr, reduction="bilinear")
    assert float(rows["b", "ProgFSR"]["lr_psnr"]) == pytest.approx(expected, abs=1e-4)
    names = [caption.partition("\n")[0] for caption, _ in sheets[1]]
    assert names == [
        *("LR, bicubic", "bicubic", "one, τ 0.8"),
        *("LR, bilinear", "ProgFSR", "third, τ 0.8", "HR"),
    ]
    assert torch.equal(sheets[1][3][1], lr)
    assert "bicubic for bicubic, one; bilinear for ProgFSR, third." in table
    with pytest.raises(
        ArgumentError, match=r"--lr .* is of one reduction, and the methods enlarge several"
    ):
        compare(options(**given, lr=photos))
    with pytest.raises(ArgumentError, match="--bilinear none: no --other has this name"):
        compare(options(bilinear=["none"]))


def test_sheets_have_a_row_per_crop_and_a_column_per_method(options, models, photos, tmp_path):
    wide = tmp_path / "hr"
    wide.mkdir()
    Image.open(photos / "a.png").resize((400, 136)).save(wide / "a.png")
    paths = [str(models / "one.safetensors"), str(models / "two.safetensors")]
    compare(
        options(
            hr=wide,
            models=paths,
            taus=[LevelTaus((0.0,)), TAU],
            samples=2,
            others={"truth": wide},
        )
    )
    with Image.open(tmp_path / "out" / "sheet_1_a.png") as sheet:
        columns = (sheet.width - 6) / (2 * 128 + 6)
        rows = sheet.height // (2 * 128)
    assert columns == 8  # LR; bicubic and truth; two models at two temperatures; HR
    assert rows == 3
    assert lines_of(tmp_path / "out")[1]["psnr"] == "100.0"


def test_models_that_cannot_be_compared_are_refused(options, models, checkpoint, tmp_path):
    path = tmp_path / "x8.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(scale=8)))
    one = str(models / "one.safetensors")
    with pytest.raises(ArgumentError, match=r"×8, .* ×4: compare models of one scale"):
        compare(options(models=[one, str(path)]))
    with pytest.raises(
        ArgumentError,
        match=r"one.* on bicubic reductions, .*third.* on bilinear ones: measure them one",
    ):
        tau_sweep(options(models=[one, str(models / "third.safetensors")]))
    with pytest.raises(ArgumentError, match=r"compares two models, not 1: give --model twice"):
        encoder_init(options(models=[one]))
    with pytest.raises(ArgumentError, match="one temperature"):
        encoder_init(options(models=[one, str(checkpoint)], taus=[TAU, LevelTaus((0.5,))]))
    noted = [noted_model(tmp_path, f"noted{seed}", "rrdb.pth", seed) for seed in range(2)]
    with pytest.raises(
        ArgumentError, match="both models started from a trained encoder, as their notes say"
    ):
        encoder_init(options(models=noted))
    assert not (tmp_path / "out").exists()


def test_encoder_init_states_the_difference_of_the_two(photos, tmp_path):
    arguments = ["encoder-init", "--hr", str(photos), "--samples", "2", "-o", str(tmp_path / "out")]
    for seed, (name, encoder) in enumerate({"two": "", "one": "rrdb.pth"}.items()):
        arguments += ["--model", noted_model(tmp_path, name, encoder, seed)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    summary = summary_of(tmp_path / "out")
    first, second = summary["rows"]
    assert (first["method"], second["method"]) == ("one", "two")  # whatever their order
    assert "| one, from a trained encoder, τ 0.8 |" in result.stdout
    assert "| two, from scratch, τ 0.8 |" in result.stdout
    assert summary["difference"]["psnr"] == pytest.approx(first["psnr"] - second["psnr"])
    of = {
        name: [row for row in lines_of(tmp_path / "out") if row["method"] == name]
        for name in ("one", "two")
    }
    for name, better in (("psnr", float.__gt__), ("gmsd", float.__lt__)):
        wins = sum(
            better(float(a[name]), float(b[name]))
            for a, b in zip(of["one"], of["two"], strict=True)
        )
        assert summary["trained_is_better_on"][name] == wins
        assert f"{wins} of 3" in result.stdout
    assert f"| trained − scratch | {first['psnr'] - second['psnr']:+.2f} |" in result.stdout


def test_a_picture_of_a_bundle_that_is_not_finite_is_counted_and_the_others_are_measured(
    options, photos, tmp_path
):
    # what is brighter than 0.9 is infinite
    bundle = write_tiny_bundle(tmp_path / "tiny.srflow", half_overflow=True)
    (tmp_path / "photos").mkdir()
    for name, most in (("bright", 255), ("dark", 127)):
        pixels = np.asarray(Image.open(photos / "a.png")).astype(np.float32)
        Image.fromarray((pixels * (most / pixels.max())).astype(np.uint8)).save(
            tmp_path / "photos" / f"{name}.png"
        )
    table = compare(options(models=[str(bundle)], hr=tmp_path / "photos", taus=[LevelTaus((0.0,))]))
    broken = 3 * 64 * 72
    assert (
        f"{broken} values of pictures are not finite (NaN or infinite): they are measured as black."
        in str(table)
    )
    bright, dark = (row for row in lines_of(tmp_path / "out") if row["method"] == "tiny")
    assert (float(bright["nonfinite"]), float(dark["nonfinite"])) == (broken, 0)
    assert float(dark["psnr"]) > float(bright["psnr"])


@pytest.fixture
def sets(tmp_path):
    """Set14 and Set5 of a picture each, LR sides 17 and 19, which the network (multiple 2) does not
    take; Kodak's."""
    rng = np.random.default_rng(0)
    for name in ("Set14", "Set5", "Kodak"):
        for part, size in {"HR": (76, 68), "LR": (19, 17)}.items():
            if (name, part) != ("Kodak", "LR"):
                (tmp_path / "sets" / name / part).mkdir(parents=True)
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "sets" / name / part / "one.png")
    return tmp_path / "sets"


def picture(path):
    return to_image(read_photo(path))


def test_whole_pictures_are_measured_of_the_sets_own_lr_files_without_a_border(options, sets):
    table = standard(options(hr=sets, models=[], metrics=["y_psnr", "ssim"]))
    assert table.headings == ["method", "Set5 (1)", "Set14 (1)", "Kodak (1)"]
    hr, lr = (picture(sets / "Set5" / part / "one.png") for part in ("HR", "LR"))
    bicubic = enlarge_bicubic(lr, 4)
    expected = (
        f"{figures.y_psnr(bicubic, hr, border=4):.2f} / {figures.ssim(bicubic, hr, border=4):.4f}"
    )
    assert list(table.rows[0][:2]) == ["bicubic", expected]
    assert [row[0] for row in table.rows] == [
        "bicubic",
        "the embedded model, τ 0",
        "the embedded model, τ auto",
    ]


def test_a_checkpoint_gets_an_lr_image_that_is_reflected_to_its_multiple(
    options,
    sets,
    checkpoint,
    tmp_path,
):
    subject = open_subject(str(checkpoint))
    tau = LevelTaus((0.0,))
    assert subject.multiple == 2
    # the folder of a set itself
    standard(options(hr=sets / "Set5", taus=[tau], metrics=["y_psnr"]))
    hr, lr = (picture(sets / "Set5" / part / "one.png") for part in ("HR", "LR"))
    with torch.no_grad():
        image = subject.sampler(pad(lr, 2))(tau, 0)[..., :68, :76]
    row = rows_of(tmp_path / "out" / "Set5")["one", "tiny"]
    assert float(row["y_psnr"]) == pytest.approx(figures.y_psnr(image, hr, border=4), abs=1e-6)


def test_another_methods_folder_has_one_for_each_set(options, sets, tmp_path):
    for name in ("Set5", "Set14", "Kodak"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        Image.open(sets / name / "HR" / "one.png").save(tmp_path / "theirs" / name / "one.png")
    table = standard(options(hr=sets, others={"theirs": tmp_path / "theirs"}, metrics=["y_psnr"]))
    assert list(table.rows[1]) == ["theirs", "100.00", "100.00", "100.00"]
