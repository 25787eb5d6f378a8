"""What a manifest may say of its engines, and the command that builds them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from srflow_sdk.model.engine_records import (
    RTX_SMS,
    EngineRecord,
    LrProfile,
    engines_command,
)
from srflow_sdk.model.manifest import _read_record

RECORD = EngineRecord(
    runtime="tensorrt_rtx",
    version="1.7.1.116",
    precision="fp16",
    compute_capabilities=("8.9", "12.0"),
    gpu="",
    profile=LrProfile(min=(16, 16), opt=(88, 120), max=(256, 256)),
    encoder="engines/encoder.engine",
    sampler="engines/sampler.engine",
    graphs={"encoder.onnx": "0" * 64, "sampler.onnx": "1" * 64},
)


def raw(**changes: Any) -> Any:
    return json.loads(json.dumps({**dataclasses.asdict(RECORD), **changes}))


def test_a_record_is_read_as_it_was_written() -> None:
    assert _read_record(EngineRecord, raw()) == RECORD
    older = raw()  # from before inverters
    del older["inverter"]
    assert _read_record(EngineRecord, older) == RECORD
    assert RECORD.files == ("engines/encoder.engine", "engines/sampler.engine")
    inverter = raw(inverter="engines/inverter.engine", graphs={**RECORD.graphs, "inverter.onnx": "2" * 64})
    assert _read_record(EngineRecord, inverter).files == (*RECORD.files, "engines/inverter.engine")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inverter": None}, "inverter has the wrong type"),
        ({"graphs": {"encoder.onnx": "0", "sampler.onnx": 1}}, "wrong type"),
        ({"precision": "bf16"}, "precision is 'bf16'"),
        ({"runtime": "onnx"}, "runtime is 'onnx'"),
        ({"checked": "maybe"}, "checked is 'maybe'"),
    ],
)
def test_a_record_that_would_pass_a_check_unseen_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _read_record(EngineRecord, raw(**changes))


def test_a_command_says_all_that_was_asked_for_and_survives_the_shell() -> None:
    command = engines_command(
        Path("my models/x4.srflow"),
        runtime="tensorrt_rtx",
        precision="fp16",
        sms=(120, 89, 89),
        profile=RECORD.profile,
    )
    assert shlex.split(command) == [
        *("srflow-export", "--engines-for", "my models/x4.srflow", "--rtx", "fp16", "--sm", "89", "120"),
        *("--shapes", "16x16,88x120,256x256"),
    ]
    assert engines_command("B", runtime="tensorrt", precision="fp32") == "srflow-export --engines-for B --trt fp32"


def test_the_gpus_of_tensorrt_rtx_are_those_that_it_names() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13")
    names = set(trt.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert {f"SM{sm}" for sm in RTX_SMS} <= names
