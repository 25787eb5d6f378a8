"""Refuses bundles that cannot invert pictures, and warns of networks that come back badly from latents."""

from __future__ import annotations

import logging

from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INVERTER, Manifest

_log = logging.getLogger(__name__)

_NOT_FINITE_DB = -200.0  # in a manifest's round_trip_db


def check_inverts(bundle: Bundle) -> None:
    """Raises: BundleError if the bundle has no inverter."""
    if INVERTER in bundle.manifest.files:
        return
    left_out = bundle.manifest.provenance.get("left_out")
    fix = "export its checkpoint again with a newer srflow-export, without --no-inverter"
    if isinstance(left_out, dict) and INVERTER in left_out:
        fix = f"its export left it out ({left_out[INVERTER]}); use another model"
    raise BundleError(f"{bundle.path} has no {INVERTER}, which this needs: {fix}")


def arithmetic_of(manifest: Manifest) -> str:
    """The arithmetic of a bundle's graphs: "fp32", "fp16", or "fp32 with weights in half"."""
    return f"{manifest.precision} with weights in half" if manifest.weights == "fp16" else manifest.precision


def warn_of_round_trip(manifest: Manifest) -> None:
    """Warn if the network itself comes back badly from latents, so that what is decoded is not what was inverted."""
    db = manifest.round_trip_db
    if db is not None:
        how = "not at all (values are not finite)" if db == _NOT_FINITE_DB else f"to {db:.1f} dB only"
        arithmetic = arithmetic_of(manifest)
        finer = "" if arithmetic == "fp32" else "; export its checkpoint in fp32 for a better one"
        _log.warning(
            "the network of %s comes back from the latents of a picture %s in %s: its own rounding, not the export's%s",
            manifest.name,
            how,
            arithmetic,
            finer,
        )
