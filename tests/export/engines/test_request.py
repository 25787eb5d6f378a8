"""Requests for engines: what they may ask for, what is refused, and the command that asks for the same."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from srflow_export.engines._builder import BuilderOptions
from srflow_export.engines._profiles import parse_shapes
from srflow_export.engines._request import EngineRequest, check_request, command_of
from srflow_sdk.errors import ArgumentError
from tests.export.engines.conftest import REQUEST


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sms": ()}, "add --sm"),
        ({"runtime": "tensorrt"}, "--sm goes with --rtx"),
        ({"builder": BuilderOptions(level=6)}, "builder level is 6; it must be from 0 to 5"),
        ({"builder": BuilderOptions(workspace=1000)}, "at least 1 MiB"),
    ],
)
def test_requests_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ArgumentError, match=words):
        check_request(dataclasses.replace(REQUEST, **changes))


def test_a_timing_cache_is_for_tensorrt_and_lies_in_a_folder(tmp_path):
    with pytest.raises(ArgumentError, match="leave the timing cache out"):
        check_request(dataclasses.replace(REQUEST, builder=BuilderOptions(timing_cache=tmp_path / "t")))
    request = EngineRequest(runtime="tensorrt", precision="fp16", builder=BuilderOptions(timing_cache=tmp_path / "t"))
    check_request(request)
    with pytest.raises(ArgumentError, match="its folder does not exist"):
        check_request(dataclasses.replace(request, builder=BuilderOptions(timing_cache=tmp_path / "absent" / "t")))


def test_a_timing_cache_that_cannot_be_one_is_refused_before_anything_is_built(tmp_path):
    request = EngineRequest(runtime="tensorrt", precision="fp16", builder=BuilderOptions(timing_cache=tmp_path))
    with pytest.raises(ArgumentError, match=r"is not a file, .* name another file with --timing-cache"):
        check_request(request)


def test_a_timing_cache_that_cannot_be_read_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    def deny(_path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "timing").touch()
    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(ArgumentError, match=r"timing: the timing cache cannot be read \(Permission denied\)"):
        check_request(
            EngineRequest(
                runtime="tensorrt", precision="fp16", builder=BuilderOptions(timing_cache=tmp_path / "timing")
            )
        )


def test_the_command_says_all_that_was_asked_for_and_survives_the_shell():
    request = EngineRequest(
        runtime="tensorrt_rtx",
        precision="fp16",
        sms=(120, 89, 89),
        profile=parse_shapes("16,88x120,256"),
        builder=BuilderOptions(level=0, workspace=3 << 30),
    )
    assert shlex.split(command_of(request, bundle=Path("my models/x4.srflow"))) == [
        *("srflow-export", "--engines-for", "my models/x4.srflow", "--rtx", "fp16", "--sm", "89", "120"),
        *("--shapes", "16x16,88x120,256x256", "--builder-level", "0", "--workspace", "3"),
    ]
    plain = EngineRequest(runtime="tensorrt", precision="fp32")
    assert command_of(plain, bundle="B") == "srflow-export --engines-for B --trt fp32"


@pytest.mark.parametrize("size", [1 << 20, 3 << 29, 322122547, (1 << 40) - 1, 16 << 30, (1 << 20) + 1])
def test_a_workspace_is_written_so_that_the_same_bytes_are_read(size):
    request = EngineRequest(runtime="tensorrt", precision="fp32", builder=BuilderOptions(workspace=size))
    command = command_of(request, bundle="B")
    assert int(float(command.rpartition(" ")[2]) * 2**30) == size
