from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srflow_export.triton import write_repository
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.model.bundle import Bundle
from tests.export.running import run
from tests.networks import golden_checkpoint
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny.srflow")


def test_the_command_writes_a_whole_model(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    done = run("--bundle", bundle, "--triton", repository)
    assert (done.exit_code, done.output) == (
        0,
        f"wrote {repository / 'srflow_upscale'}, version 1\n",
    )
    model = repository / "srflow_upscale"
    assert (
        Bundle.open(model / "1" / "model.srflow").model_sha256 == Bundle.open(bundle).model_sha256
    )
    compile((model / "1" / "model.py").read_text(), "model.py", "exec")
    assert "KIND_CPU" in (model / "configs" / "cpu.pbtxt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "tiny.srflow"]


@pytest.mark.slow
def test_an_export_is_followed_by_its_models(tmp_path: Path) -> None:
    checkpoint = golden_checkpoint(tmp_path / "m.pth")
    done = run(checkpoint, "--halo", 8, "--no-inverter", "--triton", tmp_path / "models")
    assert done.exit_code == 0, done.output
    exported = Bundle.open(tmp_path / "m.srflow")
    served = Bundle.open(tmp_path / "models" / "srflow_upscale" / "1" / "model.srflow")
    assert served.model_sha256 == exported.model_sha256


def test_a_bad_repository_is_refused_before_the_export(tmp_path: Path) -> None:
    checkpoint = golden_checkpoint(tmp_path / "m.pth")
    (tmp_path / "models").write_text("text")
    done = run(checkpoint, "--triton", tmp_path / "models")
    assert done.exit_code == 1
    assert done.output == (
        f"error: {tmp_path / 'models'} is a file; a model repository is a folder: choose another "
        "name\n"
    )
    assert not (tmp_path / "m.srflow").exists()


def test_a_second_export_adds_a_version_and_keeps_the_old_one(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    model = tmp_path / "models" / "srflow_upscale"
    (model / "configs" / "mine.pbtxt").write_text("mine")
    other = write_tiny_bundle(tmp_path / "other.srflow", default_tau=0.3)
    write_repository(other, tmp_path / "models")
    taus = [
        Bundle.open(model / version / "model.srflow").manifest.default_tau for version in ("1", "2")
    ]
    assert taus == [0.8, 0.3]
    assert '\\"default_tau\\":0.3' in (model / "config.pbtxt").read_text()
    assert (model / "configs" / "mine.pbtxt").read_text() == "mine"


def test_a_second_export_keeps_the_limits_that_somebody_set(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    config = tmp_path / "models" / "srflow_upscale" / "config.pbtxt"
    edited = config.read_text().replace(
        '"max_samples" value: { string_value: "16"', '"max_samples" value: {string_value:"3"'
    )
    config.write_text(edited)
    lines: list[str] = []
    write_repository(bundle, tmp_path / "models", say=lines.append)
    assert f"kept from {config}: max_samples 3" in lines
    written = config.read_text()
    assert 'key: "max_samples" value: { string_value: "3" }' in written
    config.write_text(written.replace('string_value: "3"', 'string_value: "0"'))
    with pytest.raises(ArgumentError, match=r"config\.pbtxt: max_samples is 0; .* correct it"):
        write_repository(bundle, tmp_path / "models")


def test_a_config_that_was_edited_stays_beside_the_new_one(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_repository(bundle, repository)
    mine = {
        repository / name: (repository / name).read_text().replace("count: 1", "count: 2")
        for name in ("srflow_upscale/config.pbtxt", "srflow_upscale/configs/cpu.pbtxt")
    }
    for path, text in mine.items():
        path.write_text(text)
    lines: list[str] = []
    write_repository(bundle, repository, say=lines.append)
    for path, text in mine.items():
        old = path.with_name(f"{path.name}.1.old")
        assert old.read_text() == text
        assert "count: 1" in path.read_text()
        assert (
            f"{path} had been edited: it is {old} now; repeat in the new one what you need" in lines
        )
    write_repository(bundle, repository, say=lines.append)
    assert len([line for line in lines if "had been edited" in line]) == len(mine)
    assert len(list(repository.rglob("*.old"))) == len(mine)


def test_importing_model_py_changes_nothing_in_its_folder(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    folder = tmp_path / "models" / "srflow_upscale" / "1"
    before = folder.stat().st_mtime_ns
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); sys.dont_write_bytecode = False; "
        "import model"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert folder.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "is a file; a model repository is a folder"),
        ("tiny.srflow", "is a bundle, or lies in one"),
        ("tiny.srflow/models", "is a bundle, or lies in one"),
        ("models/srflow_upscale", "is one model of a repository; name the folder above it"),
        ("/", "is the root of a file system.*; name a folder inside it"),
        ("https://host/models", "https://host/models is a URL.*aws s3 sync"),
        ("folders", r"folders.notes has no config\.pbtxt, and a server does not start"),
    ],
)
def test_a_folder_that_cannot_be_a_repository_is_refused_and_unchanged(
    bundle: Path, tmp_path: Path, place: str, message: str
) -> None:
    write_repository(bundle, tmp_path / "models")
    (tmp_path / "file").write_text("text")
    (tmp_path / "folders" / "notes").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArgumentError, match=message):
        write_repository(bundle, place if ":" in place else tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repository_that_cannot_be_written_is_one_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_repository(bundle, tmp_path / "models")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(
        ExportError, match="models cannot be written there: No space left on device"
    ):
        write_repository(bundle, tmp_path / "models")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.not_on_windows("signals")
def test_an_export_that_is_killed_leaves_whole_models_and_the_next_one_cleans_up(
    bundle: Path, tmp_path: Path
) -> None:
    write_repository(bundle, tmp_path / "models")
    code = f"""
import os, signal
from srflow_export import triton
triton.swap_in = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
triton.write_repository({str(bundle)!r}, {str(tmp_path / "models")!r})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert not list((tmp_path / "models").glob("*/2"))
    assert (
        len([path for path in tmp_path.iterdir() if path.name.startswith(".models.staging")]) == 1
    )
    write_repository(bundle, tmp_path / "models")
    assert (tmp_path / "models" / "srflow_upscale" / "2").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".models.staging")]


def test_several_bundles_have_a_model_each(tmp_path: Path) -> None:
    for name in ("x4-small", "x4-photo"):
        write_tiny_bundle(tmp_path / f"{name}.srflow", name=name)
    bundles = [
        part
        for name in ("x4-small", "x4-photo")
        for part in ("--bundle", tmp_path / f"{name}.srflow")
    ]
    repository = tmp_path / "models"
    for version in (1, 2):
        done = run(*bundles, "--triton", repository)
        assert done.exit_code == 0, done.output
        expected = ["srflow_upscale-x4-photo", "srflow_upscale-x4-small"]
        assert sorted(path.name for path in repository.iterdir()) == expected
        for name in ("x4-small", "x4-photo"):
            model = repository / f"srflow_upscale-{name}"
            served = Bundle.open(model / str(version) / "model.srflow")
            assert served.manifest.name == name
            for config in ("config.pbtxt", "configs/cpu.pbtxt"):
                text = (model / config).read_text()
                assert f'name: "srflow_upscale-{name}"' in text
                assert served.model_sha256 in text


def test_several_bundles_need_names_that_tell_them(bundle: Path, tmp_path: Path) -> None:
    twin = write_tiny_bundle(tmp_path / "twin.srflow")
    odd = write_tiny_bundle(tmp_path / "odd.srflow", name="a b")
    for other in (twin, odd):
        with pytest.raises(ArgumentError, match="several bundles need names of their own"):
            write_repository([bundle, other], tmp_path / "models")
        assert not (tmp_path / "models").exists()
    done = run("--bundle", bundle, "--bundle", odd, "--also", "int8")
    assert (done.exit_code, "--also takes one bundle" in done.output) == (2, True)
