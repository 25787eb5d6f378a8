"""Which options go together, and what each of srflow-export's tasks says of a wrong one."""

import signal
import subprocess
import sys
import time

import pytest

from srflow_export.cli import main
from srflow_sdk import Bundle
from srflow_sdk.errors import ExportError
from tests.export.running import run, save_tiny
from tests.sdk.tiny_bundle import write_tiny_bundle

TRT = ("--trt", "fp16")
RTX = ("--rtx", "fp16", "--sm", "89")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a checkpoint, or use"),
        (["--sm", "89"], "name a checkpoint, or use"),
        (["m.pth", "--ckpt", "m.pth"], "name the checkpoint once"),
        (["m.pth", "--engines-for", "m.srflow"], "leave --ckpt out"),
        (["--ckpt", "m.pth", "--shapes", "16,64,128"], "--shapes only applies to engines"),
        (["--checkpoint-of", "m.srflow"], "name it with -o"),
        (["--engines-for", "m.srflow"], "say which with --trt or --rtx"),
        pytest.param(
            *(
                ["m.pth", "-o", "s3://b/m.srflow"],
                "s3://b/m.srflow is a URL; name a file or folder on this machine",
            ),
            marks=pytest.mark.not_on_windows("all URLs are refused there, in other words"),
        ),
        (["--bundle", "m.srflow"], "say what for with --triton REPO or --also int8"),
        (
            ["--bundle", "m.srflow", "--triton", "r", "-o", "n.srflow"],
            "-o only applies to a bundle that is written",
        ),
        (["--engines-for", "m.srflow", "--rtx", "fp16", "--fused"], "leave --fused out"),
        (
            ["m.pth", "--precision", "https://u:s3cr3t@h/a?sig=s1gned"],
            "'https://h/a' is not one of",
        ),  # without secrets
        (["--ckpt", "m.pth", "--tau", "nan"], "'nan' is not a number"),
        (
            ["--bundle", "m.srflow", "--plain", "--also", "int8"],
            "--also takes one bundle and writes one -o",
        ),
        (["--bundle", "a", "--bundle", "b", "--plain"], "--plain takes one bundle"),
        (["--bundle", "m.srflow", "--triton", "r", "--tau", "0.5"], "--tau only applies"),
        (
            ["--bundle", "m.srflow", "--triton", "r", "--seed", "1"],
            "--seed only applies to a plain file: add --plain",
        ),
        (["--engines-for", "m.srflow", "--rtx", "fp16", "--plain"], "leave --plain out"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(arguments, says):
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_bundle_is_not_named_like_a_file_and_that_is_said_first(tmp_path):
    name = "m.safetensors"
    (tmp_path / "checkpoint.pth").write_bytes(b"not read yet")
    result = run(tmp_path / "checkpoint.pth", "-o", tmp_path / name)
    assert result.exit_code == 1
    assert result.output.startswith(f"error: {tmp_path / name}: a bundle is a directory")
    assert "name it m.srflow" in result.output
    assert not (tmp_path / name).exists()


def test_a_bundle_is_no_checkpoint_and_both_ways_on_are_named(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    result = run(bundle)
    assert result.exit_code == 1
    assert f"--engines-for {bundle}" in result.output
    assert f"--checkpoint-of {bundle}" in result.output
    assert "is a folder" in run(tmp_path).output


def test_auto_tau_makes_the_pictures_texture_the_bundles_default(tmp_path):
    result = run(
        save_tiny(tmp_path / "tiny.safetensors"),
        "--no-inverter",
        "--halo",
        8,
        "--tau",
        0.7,
        "--auto-tau",
    )
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(tmp_path / "tiny.srflow").manifest
    assert (manifest.default_tau, manifest.auto_tau) == (0.7, True)


@pytest.mark.slow
@pytest.mark.not_on_windows("Windows has no SIGTERM to send")
def test_a_terminated_export_leaves_nothing_behind(tmp_path):
    save_tiny(tmp_path / "m.safetensors")
    command = [sys.executable, "-c", "from srflow_export.cli import main; main()", "m.safetensors"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as export:
        while not any(path.name.startswith(".m.srflow") for path in tmp_path.iterdir()):
            assert export.poll() is None, "it finished before it could be stopped"
            time.sleep(0.005)
        export.send_signal(signal.SIGTERM)
        _, said = export.communicate(timeout=60)
    assert export.returncode == 128 + signal.SIGTERM
    assert said == "stopped; nothing was left half written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rtx", "fp16"], "add --sm with their compute capabilities"),
        (["--trt", "fp16", "--sm", "89"], "leave --sm out"),
        (["--rtx", "fp16", "--sm", "89", "--shapes", "16,64"], "expected three sizes, not 2"),
        (["--rtx", "fp16", "--sm", "89", "--precision", "fp32"], "leave --precision out"),
        (
            ["--rtx", "fp16", "--sm", "89", "--trt", "fp32", "--precision", "bf16"],
            "engines in fp16 are built from",
        ),
    ],
)
def test_engines_that_cannot_be_are_refused_before_anything_is_exported(tmp_path, arguments, says):
    checkpoint = tmp_path / "m.pth"
    checkpoint.touch()
    result = run("--ckpt", checkpoint, *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert says in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--sm", "89", "120", "-o", "x"], (89, 120)),
        (["--sm", "89", "--sm", "120"], (89, 120)),
        (["--sm", "89", "120", "m.pth"], (89, 120)),
        (["--halo", "8", "9"], ()),
    ],
)
def test_sm_takes_several_numbers(arguments, numbers):
    with main.make_context("srflow-export", arguments) as context:
        assert context.params["sm"] == numbers


@pytest.fixture
def built(monkeypatch):
    """Requests that were tried; TensorRT's fail, as without its GPU."""
    tried = []

    def add(bundle, request, *, say):
        tried.append(request)
        if request.runtime == "tensorrt":
            raise ExportError("no engines: TensorRT is not installed")

    monkeypatch.setattr("srflow_export.engines.bundles.add_engines", add)
    return tried


def test_what_cannot_be_built_does_not_stop_the_rest(built):
    result = run("--engines-for", "m.srflow", *TRT, *RTX)
    assert result.exit_code == 1
    assert [(request.runtime, request.sms) for request in built] == [
        ("tensorrt", ()),
        ("tensorrt_rtx", (89,)),
    ]
    assert result.output == "wrote m.srflow\nerror: no engines: TensorRT is not installed\n"
    result = run("--engines-for", "m.srflow", *TRT)
    assert (result.exit_code, result.output) == (
        1,
        "error: no engines: TensorRT is not installed\n",
    )
    assert run("--engines-for", "m.srflow", *RTX).exit_code == 0


def test_builder_options_reach_each_library(built):
    run("--engines-for", "m.srflow", *TRT, *RTX, "--builder-level", "5")
    assert [request.level for request in built] == [5, 5]


def test_a_gpu_that_rtx_does_not_build_for_is_refused_before_the_export(tmp_path, monkeypatch):
    pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13"
    )
    (tmp_path / "m.pth").touch()
    monkeypatch.setattr(
        "srflow_export.exporter.export_checkpoint", lambda *_, **__: pytest.fail("it was exported")
    )
    result = run("--ckpt", tmp_path / "m.pth", "--rtx", "fp16", "--sm", "90")
    assert result.exit_code == 1
    assert result.output.startswith("error: --sm 90: tensorrt_rtx")
    assert "does not build for this GPU, only for 75, 80, 86, 89, 120" in result.output


def test_without_the_library_the_bundle_is_exported_first(tmp_path, monkeypatch, built):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    (tmp_path / "m.pth").touch()
    exported = []
    monkeypatch.setattr(
        "srflow_export.exporter.export_checkpoint", lambda *args, **_: exported.append(args[1])
    )
    assert run("--ckpt", tmp_path / "m.pth", "--rtx", "fp16", "--sm", "90").exit_code == 0
    assert exported == [tmp_path / "m.srflow"]
    assert [request.sms for request in built] == [(90,)]


def test_names_of_embedded_models_resolve(tmp_path, monkeypatch):
    target = tmp_path / "start.safetensors"
    result = run("--checkpoint-of", "x4-small", "-o", target)
    assert result.exit_code == 0, result.output
    assert target.exists()
    monkeypatch.chdir(tmp_path)
    for option in ("--bundle", "--engines-for"):
        more = ["--also", "int8"] if option == "--bundle" else ["--trt", "fp32"]
        result = run(option, "./x4-small", *more)
        assert result.exit_code != 0
        assert "x4-small: there is no such bundle" in result.output, "that is a path"
