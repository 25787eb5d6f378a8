"""A full-size checkpoint in the published layout exports as it is, with its inverter.

The gate, which every export passes, compares its pictures, latents and nats with the network's;
test_export.py and test_poor_networks.py show that it refuses what differs. In fp32 alone: with
--precision fp16, ×4 takes 131 s of an Intel Xeon's time and 2.2 GB, ×8 faces 248 s and 3.5 GB.
tests/training/model/test_golden.py holds the network to what the published implementation computed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from srflow_sdk import Bundle
from tests.export.running import run
from tests.published_checkpoints import write_published


@pytest.mark.slow
def test_a_full_size_checkpoint_exports_without_a_flag_about_it_and_is_the_network(
    tmp_path: Path,
) -> None:
    checkpoint = write_published(tmp_path / "m.pth")
    result = run(checkpoint, "--halo", 40)  # measuring takes a minute
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(tmp_path / "m.srflow").manifest
    assert min(row["psnr_db"] for row in manifest.parity if not row["diverged"]) > 90
    assert "inverter.onnx" in manifest.files
