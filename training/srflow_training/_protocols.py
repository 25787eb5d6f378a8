"""The protocols on whole pictures: the name of each, the options it takes, and the function that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srflow_training.evaluation.bench import Options
    from srflow_training.evaluation.tables import Table

COMMON = frozenset(
    {"model", "lr", "output", "reference", "other", "convention", "crop", "pictures"} | {"vgg16", "lpips-backbone"}
)
"""Options of all protocols on pictures; `--hr` is everyone's."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol.

    function: module:function in `evaluation`, Options → the table to print. takes: its options besides the common ones.
    lacks: the common ones that mean nothing to it.
    """

    function: str
    about: str
    takes: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()

    @property
    def options(self) -> frozenset[str]:
        """All that it takes besides `--hr`."""
        return (COMMON | self.takes) - self.lacks

    def run(self, options: Options) -> Table:
        """Measure, write the results into a folder, and return their table. Raises: SRFlowError."""
        module, name = self.function.split(":")
        found: Callable[[Options], Table] = getattr(
            importlib.import_module(f"srflow_training.evaluation.{module}"), name
        )
        return found(options)


PROTOCOLS = {
    "tau-sweep": Protocol(
        function="tau_sweep:tau_sweep",
        about="every metric and the diversity of samples over the temperature (figures 2 to 5)",
        takes=frozenset({"tau", "samples"}),
    ),
    "perception-distortion": Protocol(
        function="tau_sweep:perception_distortion",
        about="the same points in one plane (figure 6)",
        takes=frozenset({"tau", "samples"}),
    ),
    "best-of-n": Protocol(
        function="best_of_n:best_of_n",
        about="how good the best of the first n samples is, by each metric (figures 7 and 8)",
        takes=frozenset({"tau", "samples"}),
    ),
    "ntire21": Protocol(
        function="ntire21:ntire21",
        about="the challenge “learning the super-resolution space”: LR-PSNR and diversity score of 10 samples",
        takes=frozenset({"tau", "samples"}),
    ),
    "diagnose": Protocol(
        function="diagnose:diagnose",
        about="what to know before trusting a flow: normality of latents, calibration, round trip, likelihood",
        takes=frozenset({"tau", "samples"}),
        lacks=frozenset({"reference", "other", "convention", "vgg16", "lpips-backbone"}),
    ),
}
