from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from srflow_export.cli import main
from srflow_export.triton import write_repository
from srflow_export.triton.config_text import parameters_in
from srflow_sdk.errors import ArgumentError, BundleError, ExportError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import ServingOptions, described
from tests.networks import golden_checkpoint
from tests.sdk.tiny_bundle import write_stub_bundle, write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny.srflow")


MODE = '{ key: "mode" value: { string_value: "bls" } }'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_writes_whole_models_and_a_readme_beside_them(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    done = run("--bundle", bundle, "--triton", repository)
    names = ["srflow_encoder", "srflow_sampler", "srflow_upscale"]
    wrote = [f"wrote {repository}/{name}, version 1" for name in names]
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [*wrote, f"how to start a server and ask it: {repository}.README.md"]
    assert sorted(path.name for path in repository.iterdir()) == names
    for name in names:
        assert "KIND_CPU" in (repository / name / "configs" / "cpu.pbtxt").read_text()
    model = repository / "srflow_upscale"
    assert Bundle.open(model / "1" / "model.srflow").model_sha256 == Bundle.open(bundle).model_sha256
    compile((model / "1" / "model.py").read_text(), "model.py", "exec")
    assert "Python makes no folder" in (model / "1" / "__pycache__").read_text()
    graph = repository / "srflow_sampler" / "1" / "model.onnx"
    assert graph.read_bytes() == (bundle / "sampler.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "models.README.md", "tiny.srflow"]


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
    assert done.output == f"error: {tmp_path}/models is a file; a model repository is a folder: choose another name\n"
    assert not (tmp_path / "m.srflow").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--bundle", "m.srflow"), "say what for with --triton REPO"),
        (("--bundle", "m.srflow", "--triton", "models", "--fused"), "leave --fused out"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in done.output


def test_the_readme_has_the_servers_command(bundle: Path, tmp_path: Path) -> None:
    assert run("--bundle", bundle, "--triton", tmp_path / "models").exit_code == 0
    text = " ".join((tmp_path / "models.README.md").read_text().replace("\\\n", " ").split())
    flags = "--model-control-mode=explicit --load-model=srflow_upscale --exit-timeout-secs"
    assert f"tritonserver --model-repository={tmp_path}/models {flags}" in text


def test_a_second_export_adds_a_version_and_keeps_the_old_one(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    model = tmp_path / "models" / "srflow_upscale"
    (model / "configs" / "mine.pbtxt").write_text("mine")
    other = write_tiny_bundle(tmp_path / "other.srflow", default_tau=0.3)
    write_repository(other, tmp_path / "models")
    taus = [Bundle.open(model / version / "model.srflow").manifest.default_tau for version in ("1", "2")]
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


def test_a_repository_of_the_former_mode_is_written_anew_and_says_so(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    config = tmp_path / "models" / "srflow_upscale" / "config.pbtxt"
    config.write_text(config.read_text().replace("parameters [\n", f"parameters [\n  {MODE},\n"))
    assert parameters_in(config.read_text())["mode"] == "bls"
    lines: list[str] = []
    write_repository(bundle, tmp_path / "models", say=lines.append)
    assert "srflow_upscale had the mode bls, which is gone: the SDK runs the graphs now" in lines
    assert "mode" not in parameters_in(config.read_text())


def test_a_config_that_was_edited_stays_beside_the_new_one(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_repository(bundle, repository)
    mine = {
        repository / name: (repository / name).read_text().replace("count: 1", "count: 2")
        for name in ("srflow_encoder/config.pbtxt", "srflow_upscale/configs/cpu.pbtxt")
    }
    for path, text in mine.items():
        path.write_text(text)
    lines: list[str] = []
    write_repository(bundle, repository, say=lines.append)
    for path, text in mine.items():
        old = path.with_name(f"{path.name}.1.old")
        assert old.read_text() == text
        assert "count: 1" in path.read_text()
        assert f"{path} had been edited: it is {old} now; repeat in the new one what you need" in lines
    write_repository(bundle, repository, say=lines.append)
    assert len([line for line in lines if "had been edited" in line]) == len(mine)
    assert len(list(repository.rglob("*.old"))) == len(mine)


def test_importing_model_py_changes_nothing_in_its_folder(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    folder = tmp_path / "models" / "srflow_upscale" / "1"
    before = folder.stat().st_mtime_ns
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.dont_write_bytecode = False; import model"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert folder.stat().st_mtime_ns == before


def test_a_model_that_the_new_bundle_does_not_have_is_named(bundle: Path, tmp_path: Path) -> None:
    write_repository(Bundle.embedded().path, tmp_path / "models")
    lines: list[str] = []
    write_repository(bundle, tmp_path / "models", say=lines.append)
    older = tmp_path / "models" / "srflow_inverter"
    assert f"{older} is still an older bundle's: remove it if no client needs it" in lines
    assert (older / "1" / "model.onnx").is_file()


def test_an_older_version_can_be_added_again(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    write_repository(write_tiny_bundle(tmp_path / "other.srflow", default_tau=0.3), tmp_path / "models")
    model = tmp_path / "models" / "srflow_upscale"
    write_repository(model / "1" / "model.srflow", tmp_path / "models")
    assert Bundle.open(model / "3" / "model.srflow").manifest.default_tau == 0.8
    assert '\\"default_tau\\":0.8' in (model / "config.pbtxt").read_text()


def test_a_bundle_that_cannot_be_served_leaves_no_repository(tmp_path: Path) -> None:
    write_stub_bundle(tmp_path / "stub.srflow")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        write_repository(tmp_path / "stub.srflow", tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["stub.srflow"]


def test_a_version_deleted_by_hand_is_not_numbered_again_below_the_newest(bundle: Path, tmp_path: Path) -> None:
    for _ in range(3):
        write_repository(bundle, tmp_path / "models")
    model = tmp_path / "models" / "srflow_upscale"
    for path in sorted((model / "1").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (model / "1").rmdir()
    lines: list[str] = []
    write_repository(bundle, tmp_path / "models", say=lines.append)
    assert f"wrote {model}, version 4" in lines


def test_the_root_of_a_file_system_is_refused_as_that(bundle: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^/ is the root of a file system.*; name a folder inside it"):
        write_repository(bundle, "/")


@pytest.mark.parametrize("url", ["s3://bucket/models", "gs://bucket", "https://host/models"])
def test_a_url_is_refused_and_nothing_is_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("--bundle", bundle, "--triton", url)
    assert done.exit_code == 1
    assert f"error: {url} is a URL" in done.output
    assert "aws s3 sync" in done.output
    with pytest.raises(ArgumentError, match="is a URL"):
        write_repository(bundle, url)
    assert sorted(tmp_path.iterdir()) == [bundle]


def test_the_readmes_container_takes_a_path_with_a_colon_and_a_comma(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / 'm:1, "a" b')
    (line,) = [line for line in (tmp_path / 'm:1, "a" b.README.md').read_text().splitlines() if "--mount" in line]
    _, mount, image, _ = shlex.split(line.replace("\\", "end"))
    (fields,) = csv.reader([mount])  # as docker reads it
    assert fields == ["type=bind", f'source={tmp_path}/m:1, "a" b', "target=/models"]
    assert image == "srflow-triton"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "is a file; a model repository is a folder"),
        ("tiny.srflow", "is a bundle, or lies in one"),
        ("tiny.srflow/models", "is a bundle, or lies in one"),
        ("models/srflow_upscale", "is one model of a repository; name the folder above it"),
        ("folders", r"folders/notes has no config\.pbtxt, and a server does not start"),
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
        write_repository(bundle, tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repository_that_cannot_be_written_is_one_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_repository(bundle, tmp_path / "models")
    before = sorted(tmp_path.rglob("*"))
    assert not (tmp_path / "models" / "srflow_encoder" / "2").exists()
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(ExportError, match="models cannot be written there: No space left on device"):
        write_repository(bundle, tmp_path / "models")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_that_is_killed_leaves_whole_models_and_the_next_one_cleans_up(bundle: Path, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "models")
    code = f"""
import os, signal
from srflow_export.triton import repository
repository._swap_in = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
repository.write_repository({str(bundle)!r}, {str(tmp_path / "models")!r})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list((tmp_path / "models").iterdir())) == 3
    assert not list((tmp_path / "models").glob("*/2"))
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".models.staging")]) == 1
    write_repository(bundle, tmp_path / "models")
    assert (tmp_path / "models" / "srflow_upscale" / "2").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".models.staging")]


def test_options_come_back_from_the_configs_parameters() -> None:
    options = ServingOptions(device="cpu", tile=None, sessions=3, threads=2, in_flight=5, max_pixels=7, max_samples=9)
    assert ServingOptions.of_parameters({**options.parameters(), "model": "{}"}) == options


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("device", "gpu", "device is 'gpu'; it must be one of"),
        ("tile", "8", "tile is 8; it must be"),
        ("tile", "big", "tile is 'big'; it must be a whole number"),
        ("max_samples", "0", "max_samples is 0; it must be a whole number, at least 1"),
        ("in_flight", "-1", "in_flight is -1; it must be a whole number"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(name: str, text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ServingOptions.of_parameters({name: text})


def test_the_description_says_what_a_client_needs(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    content = json.loads(described(opened))
    manifest = opened.manifest
    assert {name: content[name] for name in ("scale", "size_multiple", "halo", "latent_scheme", "default_tau")} == {
        name: getattr(manifest, name) for name in ("scale", "size_multiple", "halo", "latent_scheme", "default_tau")
    }
    assert (content["auto_tau"], content["reduction"], content["model_sha256"]) == (
        manifest.auto_tau,
        manifest.reduction,
        opened.model_sha256,
    )


def test_several_bundles_have_a_model_each(tmp_path: Path) -> None:
    for name in ("x4-small", "x4-photo"):
        write_tiny_bundle(tmp_path / f"{name}.srflow", name=name)
    bundles = [part for name in ("x4-small", "x4-photo") for part in ("--bundle", tmp_path / f"{name}.srflow")]
    repository = tmp_path / "models"
    for version in (1, 2):
        done = run(*bundles, "--triton", repository)
        assert done.exit_code == 0, done.output
        expected = [
            f"srflow_{role}-{name}" for role in ("encoder", "sampler", "upscale") for name in ("x4-photo", "x4-small")
        ]
        assert sorted(path.name for path in repository.iterdir()) == sorted(expected)
        for name in ("x4-small", "x4-photo"):
            model = repository / f"srflow_upscale-{name}"
            served = Bundle.open(model / str(version) / "model.srflow")
            assert served.manifest.name == name
            for config in ("config.pbtxt", "configs/cpu.pbtxt"):
                text = (model / config).read_text()
                assert f'name: "srflow_upscale-{name}"' in text
                assert served.model_sha256 in text
            graph = (repository / f"srflow_sampler-{name}" / "config.pbtxt").read_text()
            assert f'name: "srflow_sampler-{name}"' in graph
    text = (tmp_path / "models.README.md").read_text()
    assert "from `x4-small` (×4, fp32), `x4-photo` (×4, fp32)" in text
    assert all((f"--load-model={name} " in text) == ("upscale" in name) for name in expected)
    assert "as suits it" in text


def test_several_bundles_need_names_that_tell_them(bundle: Path, tmp_path: Path) -> None:
    twin, odd = write_tiny_bundle(tmp_path / "twin.srflow"), write_tiny_bundle(tmp_path / "odd.srflow", name="a b")
    for other in (twin, odd):
        with pytest.raises(ArgumentError, match="several bundles need names of their own"):
            write_repository([bundle, other], tmp_path / "models")
        assert not (tmp_path / "models").exists()
    done = run("--bundle", bundle, "--bundle", odd, "--also", "int8")
    assert (done.exit_code, "--also takes one bundle" in done.output) == (2, True)
