from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.serving_config import described


def test_description_has_all_that_drawing_needs(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    told, whole = Manifest.from_description(described(bundle)), bundle.manifest
    flags = ("auto_tau", "removes_damage")
    for name in ("name", "scale", "size_multiple", "halo", "latent_levels", "default_tau", "reduction", *flags):
        assert getattr(told, name) == getattr(whole, name)
    assert told.digest == bundle.model_sha256
    assert not told.files


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scale": "4"}, "scale has the wrong type"),
        ({"latent_scheme": 2}, "pip install -U srflow-sdk"),
        ({"name": "a/b"}, "could be the path of a file"),
        ({"name": "\x1b[2J"}, "no plain text"),
        ({"model_sha256": "xyz"}, "model_sha256 is malformed"),
        ({"schema": 99}, "written by a newer SDK"),
    ],
)
def test_description_that_cannot_be_is_refused(change: dict[str, Any], reason: str, tiny_bundle: Path) -> None:
    content = json.loads(described(Bundle.open(tiny_bundle))) | change
    with pytest.raises(BundleError, match=reason):
        Manifest.from_description(json.dumps(content))
