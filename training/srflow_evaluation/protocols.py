"""The protocols on whole pictures: the name of each, the options it takes, and the function that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srflow_evaluation.options import Options
    from srflow_evaluation.tables import Table

COMMON = frozenset(
    {"model", "lr", "output", "reference", "other", "convention", "crop", "pictures", "sheets"}
    | {"vgg16", "metrics", "device", "shard"}
)
"""Options of all protocols on pictures; `--hr` is everyone's."""

_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "lr": {"lr": None},
    "reference": {"references": ()},
    "other": {"others": {}, "tools": ()},
    "convention": {"convention": "default"},
    "vgg16": {"vgg16": None},
    "metrics": {"metrics": ()},
    "sheets": {"sheets": None},
}
"""Common options that a protocol may lack: the fields of Options, and their values if the option is left out."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol.

    function: module:function in `evaluation`, Options → the table to print. takes: its options besides the common ones.
    lacks: common options that it does not take.
    about: its line in the command's help. several_models: it measures each --model.
    in_report: whether `report` runs it, with nothing but the common options. folder: the one in the report's folder, if
    not its name: protocols that draw the same measurements share it. reading: what to look for in its results.
    inverts: whether it needs a model that inverts. pairs: whether it takes something from the next photograph.
    """

    function: str
    about: str
    takes: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    several_models: bool = False

    @property
    def options(self) -> frozenset[str]:
        """All that it takes."""
        return (COMMON | self.takes) - self.lacks

    in_report: bool = True
    folder: str = ""
    reading: str = ""
    inverts: bool = False
    pairs: bool = False

    def without_others(self, options: Options) -> Options:
        """Leave out the common options that this protocol does not take."""
        default = {field: value for name in self.lacks for field, value in _LEFT_OUT[name].items()}
        return replace(options, **default)

    def run(self, options: Options) -> Table:
        """Measure, write the results into a folder, and return their table. Raises: SRFlowError."""
        module, name = self.function.split(":")
        found: Callable[[Options], Table] = getattr(importlib.import_module(f"srflow_evaluation.{module}"), name)
        return found(options)


PROTOCOLS = {
    "tau-sweep": Protocol(
        function="tau_sweep:tau_sweep",
        about="all metrics and diversity over tau (figures 2 to 5)",
        several_models=True,
        takes=frozenset({"tau", "samples", "published", "bilinear", "figure"}),
        reading="Look for PSNR and SSIM that fall slowly while diversity rises. LPIPS, where it was measured, is best "
        "at the temperature to use; GMSD judges nearly as PSNR does.",
    ),
    "perception-distortion": Protocol(
        function="tau_sweep:perception_distortion",
        about="the same points in one plane (figure 6)",
        several_models=True,
        takes=frozenset({"tau", "samples", "published", "bilinear", "figure"}),
        folder="tau-sweep",
        reading="Each point is a temperature: faithful pictures lie to the right, natural ones below. A model is "
        "better than a method whose point lies above its curve.",
    ),
    "best-of-n": Protocol(
        function="best_of_n:best_of_n",
        about="the best of the first n samples (figures 7 and 8)",
        takes=frozenset({"tau", "samples", "published", "figure"}),
        reading="Look at how much the best of n gains over the first sample: little means that samples hardly differ, "
        "much that choosing among them pays.",
    ),
    "restore": Protocol(
        function="restore:restore",
        about="degraded pictures restored (table 2, figures 9, 10)",
        takes=frozenset({"tau", "sample-tau", "degradation", "degraded", "normalise", "published"}),
        lacks=frozenset({"lr"}),
        inverts=True,
        reading="Look for a restored PSNR above the degraded picture's and the super-resolved one's. SSIM likes smooth "
        "pictures, and may disagree.",
    ),
    "damaged": Protocol(
        function="damaged:damaged",
        about="models and other methods on damaged LR images",
        several_models=True,
        takes=frozenset({"tau", "degradation"}),
        lacks=frozenset({"lr", "convention"}),
        in_report=False,
    ),
    "transfer": Protocol(
        function="transfer:transfer",
        about="part of one picture put into another (figure 18)",
        takes=frozenset({"tau", "source", "mask", "normalise"}),
        inverts=True,
        pairs=True,
        lacks=frozenset({"reference", "other", "convention", "vgg16", "metrics"}),
        reading="Look for a seam error that falls and a likeness near 1: a seam also vanishes with the content.",
    ),
    "samples": Protocol(
        function="random_samples:random_samples",
        about="samples and their deviation (figures 14 to 17)",
        takes=frozenset({"tau", "samples", "published"}),
        reading="Bright places of the deviation map are where the model is unsure: texture and edges, not flat areas.",
    ),
    "compare": Protocol(
        function="comparing:compare",
        about="models and other methods on crops (figures 11 to 13)",
        several_models=True,
        takes=frozenset({"tau", "samples", "published", "bilinear"}),
        in_report=False,
    ),
    "standard": Protocol(
        function="standard:standard",
        about="the field's test sets, by the field's convention",
        several_models=True,
        takes=frozenset({"tau", "samples"}),
        lacks=frozenset({"lr", "convention", "crop", "sheets", "vgg16", "shard"}),
        in_report=False,
        reading="DIR holds the sets as benchmarks/standard_sets.py lays them out: SET/HR and SET/LR; or is one of "
        "them. A folder of --other has a folder for each set, whose pictures are named as the set's.",
    ),
    "encoder-init": Protocol(
        function="comparing:encoder_init",
        about="two models, one from a trained encoder (table 1)",
        several_models=True,
        takes=frozenset({"tau", "samples", "published", "bilinear"}),
        in_report=False,
    ),
    "ntire21": Protocol(
        function="ntire21:ntire21",
        about="NTIRE 2021's LR-PSNR and diversity of 10 samples",
        takes=frozenset({"tau", "samples", "published"}),
        reading="Look for a worst LR-PSNR above 45 dB, which the challenge demanded, and a diversity well above 0.",
    ),
    "clips": Protocol(
        function="clips:clips",
        about="the frames of a clip, and how they flicker",
        takes=frozenset({"tau"}),
        lacks=frozenset({"lr", "reference", "other", "convention", "pictures", "sheets", "vgg16", "shard"}),
        in_report=False,
        reading="DIR is one clip: its frames in the order of their names, and perhaps motion.npz, their true motion. "
        "Look for a flicker of motion near that of τ 0, with the LPIPS of the others.",
    ),
    "diagnose": Protocol(
        function="diagnose:diagnose",
        about="latents, calibration, round trip and likelihood",
        takes=frozenset({"tau", "samples"}),
        inverts=True,
        lacks=frozenset({"reference", "other", "convention", "vgg16", "metrics", "sheets"}),
        reading="Look for Q-Q points on the diagonal and coverage near its nominal value; the notes say what it means "
        "if they are not.",
    ),
}
