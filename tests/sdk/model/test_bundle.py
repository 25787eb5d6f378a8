from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from srflow_export._bundle_writer import staged_bundle
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import manifest_digest
from tests.irregular import KINDS, make_irregular

from ..tiny_bundle import STUB_FILES, hidden_files, tiny_manifest, write_stub_bundle


def edit(target: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = True) -> None:
    """Change manifest.json, by default with a digest that fits, as somebody who knows the format would."""
    path = target / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    if sign:
        raw["digest"] = manifest_digest(raw)
    path.write_text(json.dumps(raw))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.srflow"


def test_a_written_bundle_opens_with_everything_that_was_said(target: Path) -> None:
    provenance = {"checkpoint": {"name": "m.pth", "sha256": "ab"}, "versions": {"torch": "2.13"}, "π": 3.5}
    bundle = write_stub_bundle(
        target, provenance=provenance, model={"steps": 16}, parity=[{"tau": 0.8, "psnr_db": 91.5}]
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.scale, manifest.default_tau) == ("tiny", 4, 0.8)
    assert [(entry.level, entry.channels) for entry in manifest.latent_levels] == [(1, 6), (2, 12), (3, 48)]
    assert manifest.provenance == provenance
    assert manifest.parity == [{"tau": 0.8, "psnr_db": 91.5}]
    assert manifest.files["encoder.onnx"]["bytes"] == len(b"encoderone")
    assert bundle.file("encoder.onnx").read_bytes() == b"encoderone"
    assert bundle.model_sha256 == manifest.digest
    assert len(manifest.digest) == 64
    assert hidden_files(target.parent) == []


def test_the_digest_covers_every_file(tmp_path: Path) -> None:
    one, two = write_stub_bundle(tmp_path / "one", b"one"), write_stub_bundle(tmp_path / "two", b"two")
    assert one.model_sha256 != two.model_sha256
    assert write_stub_bundle(tmp_path / "again", b"one").model_sha256 == one.model_sha256


def test_only_listed_files_are_handed_out(target: Path) -> None:
    bundle = write_stub_bundle(target)
    (target / "notes.txt").write_text("not ours")
    with pytest.raises(ArgumentError, match=r"notes\.txt"):
        Bundle.open(target).file("notes.txt")
    with pytest.raises(ArgumentError):
        bundle.file("../secret")


def test_files_may_lie_in_one_folder(target: Path) -> None:
    with staged_bundle(target) as stage:
        for name, data in STUB_FILES.items():
            (stage.path / name).write_bytes(data)
        (stage.path / "engines").mkdir()
        (stage.path / "engines" / "encoder.sm89.engine").write_bytes(b"plan")
        stage.commit(tiny_manifest())
    assert Bundle.open(target).file("engines/encoder.sm89.engine").read_bytes() == b"plan"


def test_a_changed_file_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    (target / "sampler.onnx").write_bytes(b"samplertwo")
    with pytest.raises(BundleError, match=r"sampler\.onnx differs .*again"):
        Bundle.open(target)


def test_a_truncated_file_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    (target / "encoder.onnx").write_bytes(b"enc")
    with pytest.raises(BundleError, match=r"encoder\.onnx has 3 bytes, not the manifest's 10"):
        Bundle.open(target)


def test_a_missing_file_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    (target / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx is missing"):
        Bundle.open(target)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs in folders")
@pytest.mark.parametrize("name", ["sampler.onnx", "manifest.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_read(target: Path, name: str, kind: str) -> None:
    write_stub_bundle(target)
    path = target / name
    path.unlink()
    make_irregular(path, kind)
    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.open(target)


def test_links_to_regular_files_are_read(target: Path) -> None:
    write_stub_bundle(target)
    (target / "sampler.onnx").rename(target.parent / "blob")
    (target / "sampler.onnx").symlink_to("../blob")
    assert Bundle.open(target).file("sampler.onnx").read_bytes() == b"samplerone"


def test_a_file_of_another_size_is_not_hashed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stub_bundle(target)
    os.truncate(target / "sampler.onnx", 100 << 30)  # sparse
    (target / "encoder.onnx").write_bytes(b"")
    hashed = []
    monkeypatch.setattr("srflow_sdk.model.bundle.content_sha256", hashed.append)
    with pytest.raises(BundleError, match="bytes, not the manifest's"):
        Bundle.open(target)
    assert hashed == []


def test_an_edited_manifest_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(default_tau=1.5), sign=False)
    with pytest.raises(BundleError, match="changed after the export"):
        Bundle.open(target)


def test_a_newer_schema_names_what_can_be_read_and_the_fix(target: Path) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(schema=2, scale="a newer SDK may mean anything"))
    with pytest.raises(BundleError, match=r"schema 2.*reads schemas 1 to 1.*pip install -U srflow-sdk"):
        Bundle.open(target)


def test_another_latent_scheme_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(latent_scheme=2))
    with pytest.raises(BundleError, match="scheme 2"):
        Bundle.open(target)


def test_bundles_that_do_not_name_a_reduction_were_trained_on_bicubic_ones(target: Path) -> None:
    write_stub_bundle(target, reduction="bilinear")
    assert Bundle.open(target).manifest.reduction == "bilinear"
    edit(target, lambda raw: raw.pop("reduction"))
    assert Bundle.open(target).manifest.reduction == "bicubic"


def test_unknown_fields_are_ignored_and_still_signed(target: Path) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(remark="hello"))
    assert Bundle.open(target).manifest.name == "tiny"
    edit(target, lambda raw: raw.update(remark="changed"), sign=False)
    with pytest.raises(BundleError):
        Bundle.open(target)


@pytest.mark.parametrize(
    "name",
    ["../outside.onnx", "/etc/passwd", "a/../../b", "a/b/c", ".hidden", "a\\..\\b", "C:x", "a\x00", "", "a/", "é"],
)
def test_file_names_that_lead_elsewhere_are_refused(target: Path, name: str) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BundleError, match="plain file name"):
        Bundle.open(target)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "4"},
        {"scale": True},
        {"default_tau": 10**400},
        {"default_tau": None},
        {"auto_tau": 1},
        {"auto_tau": None},
        {"halo": 2.5},
        {"precision": "fp12"},
        {"weights": []},
        {"reduction": "nearest"},
        {"latent_levels": {"level": 1}},
        {"latent_levels": [1]},
        {"latent_levels": [{"level": 1}]},
        {"files": {}},
        {"files": {"encoder.onnx": "x", "sampler.onnx": "y"}},
        {"files": {"encoder.onnx": {"sha256": "zz", "bytes": 1}, "sampler.onnx": {"sha256": "0" * 64, "bytes": 1}}},
        {"parity": [1]},
        {"model": []},
        {"schema": "1"},
    ],
)
def test_values_that_cannot_be_are_refused(target: Path, change: dict[str, Any]) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(change))
    with pytest.raises(BundleError):
        Bundle.open(target)


ODD_TEXTS = ["\x1b[31mred", "two\nlines", "a\rb", "\x00", "\x9b31m", "half \ud83d", "a\u202etxt.exe", "a\u2028b"]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_name_that_a_terminal_or_a_file_name_would_obey_is_refused(target: Path, text: str) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(name=text))
    with pytest.raises(BundleError, match="no plain text") as caught:
        Bundle.open(target)
    assert text not in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "..", ""])
def test_a_name_that_could_be_a_path_is_refused(target: Path, name: str) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.update(name=name))
    with pytest.raises(BundleError, match="could be the path of a file"):
        Bundle.open(target)


def test_other_scripts_and_signs_are_plain_text(target: Path) -> None:
    name = "Модель 4× “π” 👩‍🔬 نمونه"
    assert write_stub_bundle(target, name=name).manifest.name == name


@pytest.mark.parametrize("field", ["schema", "digest", "scale", "files", "latent_levels", "halo", "provenance"])
def test_every_field_is_needed(target: Path, field: str) -> None:
    write_stub_bundle(target)
    edit(target, lambda raw: raw.pop(field), sign=field != "digest")
    with pytest.raises(BundleError, match=field):
        Bundle.open(target)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", '{"schema": NaN}', "[" * 100_000, '{"a":' * 100_000, "\udcff\x80", '{"schema": 1e999}'],
)
def test_hostile_json_is_refused(target: Path, text: str) -> None:
    write_stub_bundle(target)
    (target / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError):
        Bundle.open(target)


def test_a_deeply_nested_field_is_refused(target: Path) -> None:
    write_stub_bundle(target)
    text = (target / "manifest.json").read_text()
    (target / "manifest.json").write_text(text.replace('"model": {}', '"model": ' + '{"a":' * 5000 + "1" + "}" * 5000))
    with pytest.raises(BundleError):
        Bundle.open(target)


@pytest.mark.parametrize("kind", ["absent", "file", "empty folder"])
def test_what_is_no_bundle_is_refused_with_the_way_to_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"checkpoint")
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(BundleError, match="srflow-export"):
        Bundle.open(path)


def test_a_bundle_can_be_moved_and_reached_through_links(tmp_path: Path) -> None:
    write_stub_bundle(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    (tmp_path / "link").symlink_to("there")
    assert Bundle.open(tmp_path / "link").manifest.name == "tiny"
    write_stub_bundle(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "encoder.onnx").read_bytes() == b"encodertwo"


@pytest.mark.parametrize("name", Bundle.embedded_names())
def test_an_embedded_model_names_its_licence_and_its_training_data(name: str) -> None:
    bundle = Bundle.embedded(name)
    assert bundle.manifest.provenance["licence"] == "Apache-2.0"
    assert "examples/training_photos.py" in bundle.manifest.provenance["training_data"]
    for path in bundle.path.glob("*.onnx"):
        metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
        assert metadata["srflow.licence"] == "Apache-2.0"


def test_without_an_embedded_model_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)
    with pytest.raises(BundleError, match=r"no model 'x4-small' \(it has: none\).*name a bundle"):
        Bundle.embedded()
    write_stub_bundle(tmp_path / "x4-small.srflow")
    assert Bundle.embedded().path.name == "x4-small.srflow"
