"""Whether a bundle can invert pictures, and how well its network comes back from their latents."""

from __future__ import annotations

import logging

from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import BundleError
from srflow_sdk.manifest import INVERTER, Manifest

_log = logging.getLogger(__name__)

_NOT_FINITE_DB = -200.0  # in a manifest's round_trip_db


def check_inverts(bundle: Bundle) -> None:
    """Raises: BundleError if the bundle has no inverter."""
    if INVERTER in bundle.manifest.files:
        return
    left_out = bundle.manifest.provenance.get("left_out")
    if isinstance(left_out, dict) and INVERTER in left_out:
        raise BundleError(
            f"{bundle.path} has no {INVERTER}, which this needs: its export left it out ({left_out[INVERTER]}); use "
            "another model"
        )
    raise BundleError(
        f"{bundle.path} has no {INVERTER}, which this needs: export its checkpoint again with a newer "
        "srflow-export, without --no-inverter"
    )


def warn_of_round_trip(manifest: Manifest) -> None:
    """Warn if the network itself comes back badly from latents, so that what is decoded is not what was inverted."""
    db = manifest.round_trip_db
    if db is not None:
        how = "not at all: values are not finite" if db == _NOT_FINITE_DB else f"to {db:.1f} dB only"
        _log.warning(
            "the network of %s comes back from the latents of a picture %s; that is the checkpoint's own rounding, not "
            "the export's",
            manifest.name,
            how,
        )
