import json
import shutil

import onnx
import pytest

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import manifest_digest
from tests.sdk.files.pictures import IRREGULAR, make_irregular

from ..tiny_bundle import STUB_FILES, hidden_files, tiny_manifest, write_stub_bundle


def edit(target, change, *, sign=True):
    """Change manifest.json, by default with a digest that fits, as somebody who knows the format
    would."""
    path = target / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    if sign:
        raw["digest"] = manifest_digest(raw)
    path.write_text(json.dumps(raw))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.srflow"


def test_a_written_bundle_opens_with_everything_that_was_said(target):
    provenance = {
        "checkpoint": {"name": "m.pth", "sha256": "ab"},
        "versions": {"torch": "2.13"},
        "π": 3.5,
    }
    bundle = write_stub_bundle(
        target, provenance=provenance, model={"steps": 16}, parity=[{"tau": 0.8, "psnr_db": 91.5}]
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.scale, manifest.default_tau) == ("tiny", 4, 0.8)
    assert [(entry.level, entry.channels) for entry in manifest.latent_levels] == [
        (1, 6),
        (2, 12),
        (3, 48),
    ]
    assert manifest.provenance == provenance
    assert manifest.parity == [{"tau": 0.8, "psnr_db": 91.5}]
    assert manifest.files["encoder.onnx"]["bytes"] == len(b"encoderone")
    assert bundle.file("encoder.onnx").read_bytes() == b"encoderone"
    assert bundle.model_sha256 == manifest.digest
    assert len(manifest.digest) == 64
    assert hidden_files(target.parent) == []
    assert write_stub_bundle(
        target.parent / "again", provenance=provenance, model={"steps": 16}
    ).model_sha256 != (
        write_stub_bundle(
            target.parent / "other", b"two", provenance=provenance, model={"steps": 16}
        ).model_sha256
    )


@pytest.mark.not_on_windows("links and FIFOs")
def test_only_listed_files_are_handed_out_which_may_lie_in_one_folder_and_be_links(target):
    with staged_bundle(target) as stage:
        for name, data in {**STUB_FILES, "engines/encoder.engine": b"plan"}.items():
            (stage.path / name).parent.mkdir(exist_ok=True)
            (stage.path / name).write_bytes(data)
        stage.commit(tiny_manifest())
    (target / "notes.txt").write_text("not ours")
    (target / "sampler.onnx").rename(target.parent / "blob")
    (target / "sampler.onnx").symlink_to("../blob")
    bundle = Bundle.open(target)
    assert bundle.file("engines/encoder.engine").read_bytes() == b"plan"
    assert bundle.file("sampler.onnx").read_bytes() == b"sampler"
    for name in ("notes.txt", "../secret"):
        with pytest.raises(ArgumentError, match=name):
            bundle.file(name)


@pytest.mark.not_on_windows("links and FIFOs")
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda folder: (folder / "sampler.onnx").write_bytes(b"samplertwo"),
            r"sampler\.onnx differs .*again",
        ),
        (
            lambda folder: (folder / "encoder.onnx").write_bytes(b"enc"),
            r"encoder\.onnx has 3 bytes, not the manifest's 10",
        ),
        (lambda folder: (folder / "encoder.onnx").unlink(), r"encoder\.onnx is missing"),
        *(
            (
                lambda folder, name=name, kind=kind: irregular(folder / name, kind),
                "not a regular file",
            )
            for name in ("sampler.onnx", "manifest.json")
            for kind in IRREGULAR
        ),
    ],
)
def test_a_damaged_file_is_refused(target, damage, says):
    write_stub_bundle(target)
    damage(target)
    with pytest.raises(BundleError, match=says):
        Bundle.open(target)


def irregular(path, kind):
    path.unlink()
    make_irregular(path, kind)


def test_bundles_that_do_not_name_a_reduction_were_trained_on_bicubic_ones(target):
    write_stub_bundle(target, reduction="bilinear")
    assert Bundle.open(target).manifest.reduction == "bilinear"
    edit(target, lambda raw: raw.pop("reduction"))
    assert Bundle.open(target).manifest.reduction == "bicubic"


def test_an_edited_manifest_is_refused_and_unknown_fields_are_ignored(target):
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(remark="hello"))
    assert Bundle.open(target).manifest.name == "tiny"
    edit(target, lambda raw: raw.update(remark="changed"), sign=False)
    with pytest.raises(BundleError, match="changed after the export"):
        Bundle.open(target)


HASH = {"sha256": "0" * 64, "bytes": 1}
GRAPHS = dict.fromkeys(("encoder.onnx", "sampler.onnx"), HASH)
MISSING = object()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("schema", 2, r"schema 2.*reads schemas 1 to 1.*pip install -U srflow-sdk"),
        ("latent_scheme", 2, "scheme 2"),
        ("scale", "4", "scale has the wrong type"),
        ("default_tau", 10**400, "digest|too large"),
        ("halo", 2.5, "halo has the wrong type"),
        ("precision", "fp12", "precision is 'fp12'"),
        ("latent_levels", [{"level": 1}], "channels is missing"),
        ("files", {}, "does not list encoder.onnx"),
        ("files", {"encoder.onnx": "x", "sampler.onnx": "y"}, "files"),
        (
            "files",
            {**GRAPHS, "sampler.onnx": {"sha256": "zz", "bytes": 1}},
            "size or sha256 of sampler.onnx is malformed",
        ),
        *(
            ("files", {**GRAPHS, name: HASH}, "plain file name")
            for name in ("../out", "/etc/x", ".hid", "C:x")
        ),
        *(
            ("name", name, "no plain text")
            for name in ("\x1b[31mred", "two\nlines", "half \ud83d", "a\u202etxt.exe")
        ),
        *(("name", name, "could be the path of a file") for name in ("../../x", "a\\b", "..", "")),
        *((field, MISSING, field) for field in ("schema", "digest", "files")),
    ],
)
def test_values_that_cannot_be_are_refused(target, field, value, says):
    write_stub_bundle(target)
    edit(
        target,
        lambda raw: raw.pop(field) if value is MISSING else raw.update({field: value}),
        sign=field != "digest",
    )
    with pytest.raises(BundleError, match=says) as caught:
        Bundle.open(target)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": NaN}',
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "\udcff\x80",
    ],
)
def test_hostile_json_is_refused(target, text):
    write_stub_bundle(target)
    whole = (target / "manifest.json").read_text()
    for content in (text, whole.replace('"model": {}', f'"model": {text}')):
        (target / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(BundleError):
            Bundle.open(target)


def test_other_scripts_and_signs_are_plain_text(target):
    name = "Модель 4× “π” 👩‍🔬 نمونه"
    assert write_stub_bundle(target, name=name).manifest.name == name


@pytest.mark.parametrize("kind", ["absent", "file", "empty folder"])
def test_what_is_no_bundle_is_refused_with_the_way_to_one(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"checkpoint")
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(BundleError, match="srflow-export"):
        Bundle.open(path)


@pytest.mark.not_on_windows("links and FIFOs")
def test_a_bundle_can_be_moved_and_reached_through_links(tmp_path):
    write_stub_bundle(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    (tmp_path / "link").symlink_to("there")
    assert Bundle.open(tmp_path / "link").manifest.name == "tiny"
    write_stub_bundle(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "encoder.onnx").read_bytes() == b"encodertwo"


@pytest.mark.parametrize("name", Bundle.embedded_names())
def test_an_embedded_model_names_its_licence_and_its_training_data(name):
    bundle = Bundle.embedded(name)
    assert bundle.manifest.provenance["licence"] == "Apache-2.0"
    assert "examples/training_photos.py" in bundle.manifest.provenance["training_data"]
    for path in bundle.path.glob("*.onnx"):
        metadata = {
            entry.key: entry.value
            for entry in onnx.load(path, load_external_data=False).metadata_props
        }
        assert metadata["srflow.licence"] == "Apache-2.0"


def test_without_an_embedded_model_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)
    with pytest.raises(BundleError, match=r"no model 'x4-small' \(it has: none\).*name a bundle"):
        Bundle.embedded()
    write_stub_bundle(tmp_path / "x4-small.srflow")
    assert Bundle.embedded().path.name == "x4-small.srflow"
