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
    """

    function: str
    about: str
    takes: frozenset[str] = frozenset()

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
        takes=frozenset({"tau", "samples", "published"}),
    ),
    "perception-distortion": Protocol(
        function="tau_sweep:perception_distortion",
        about="the same points in one plane (figure 6)",
        takes=frozenset({"tau", "samples", "published"}),
    ),
    "best-of-n": Protocol(
        function="best_of_n:best_of_n",
        about="how good the best of the first n samples is, by each metric (figures 7 and 8)",
        takes=frozenset({"tau", "samples", "published"}),
    ),
    "samples": Protocol(
        function="random_samples:random_samples",
        about="random samples of each picture, with the map of their deviation (figures 14 to 17)",
        takes=frozenset({"tau", "samples", "published"}),
    ),
    "compare": Protocol(
        function="comparing:compare",
        about="models and other methods side by side on crops (figures 11 to 13); several --model",
        takes=frozenset({"tau", "samples", "published"}),
    ),
    "encoder-init": Protocol(
        function="comparing:encoder_init",
        about="two models, one that started from a trained encoder and one from scratch (table 1); --model twice",
        takes=frozenset({"tau", "samples", "published"}),
    ),
}
