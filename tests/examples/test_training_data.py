"""The examples that collect and draw what is trained on, without a network."""

from __future__ import annotations

import importlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFont

EXAMPLES = Path(__file__).parents[2] / "examples"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><circle cx="8" cy="8" r="7" '
    'fill="#c00"/></svg>'
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def saved(picture: Image.Image, path: Path, **options: int) -> Path:
    picture.save(path, **options)
    return path


def test_what_looks_like_a_picture_that_models_are_judged_by_is_left_out(
    example, tmp_path, monkeypatch, capsys
):
    script = example("training_photos")
    monkeypatch.setattr(script, "PHOTOS", {})
    rng = np.random.default_rng(0)
    judged, other = (
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        for _ in range(2)
    )
    (tmp_path / "judged").mkdir()
    saved(judged, tmp_path / "judged" / "boats.png")
    monkeypatch.setattr(script, "EVALUATED", tmp_path / "table.tsv")
    script.write_table({"harbour": tmp_path / "judged"})
    more = tmp_path / "more"
    more.mkdir()
    near = [
        saved(judged.resize((200, 150)), more / "small.jpg", quality=30),
        saved(judged.transpose(Image.Transpose.FLIP_LEFT_RIGHT), more / "mirrored.png"),
        saved(judged.crop((8, 8, 632, 472)).convert("L"), more / "cut.png"),
    ]
    saved(other, more / "other.jpg")
    (more / "broken.png").write_bytes(b"not a picture")
    (more / "LICENCES.tsv").write_text("file\tlicence\n")
    script.main(tmp_path / "train", more)
    assert {path.name for path in (tmp_path / "train").iterdir()} == {"other.jpg", "LICENCES.tsv"}
    told = capsys.readouterr().out
    assert all(
        f"{path} looks like boats of harbour, by which models are judged" in told for path in near
    )
    assert f"{more / 'broken.png'}: cannot be read as an image" in told


def test_the_table_knows_the_pictures_of_packages_and_test_sets(example):
    script = example("training_photos")
    known = script.evaluated()
    counts = Counter(name.split(" of ")[1] for name in known.values())
    packages = {"budgie-backgrounds": 18, "scikit-image": 6, "scikit-learn": 2}
    # a picture of Set5 is in Set14, too
    sets = {"Set5": 4, "Set14": 14, "BSD100": 100, "Urban100": 100, "Kodak": 24}
    assert counts == {**packages, **sets}
    assert script.judged_by(EXAMPLES / "photos" / "cat.png", known) == "chelsea of scikit-image"


@pytest.fixture
def drawn_with(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """A font file and an icon."""
    font = ImageFont.load_default(12).path
    assert isinstance(font, io.BytesIO)
    (tmp_path / "font.ttf").write_bytes(font.getvalue())
    (tmp_path / "icon.svg").write_text(SVG)
    return [tmp_path / "font.ttf"], [tmp_path / "icon.svg"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_pages_repeat_by_number_and_seed(example, drawn_with, number):
    script = example("rendered_graphics")
    page = np.asarray(script.page_of(number, 0, *drawn_with))
    assert page.shape == (900, 1200, 3)
    assert page.std() > 5
    assert np.array_equal(page, script.page_of(number, 0, *drawn_with))
    assert not np.array_equal(page, script.page_of(number, 1, *drawn_with))
