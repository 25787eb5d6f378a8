"""The plots of `diagnose`."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from srflow_evaluation.diagnosis import Diagnosis
from srflow_evaluation.latent_statistics import NORMAL_QUANTILES
from srflow_evaluation.plots import save

_MARKERS = "osD^v<>*P"


def write_quantiles(path: Path, title: str, found: Diagnosis) -> None:
    """Write a Q–Q plot of each level: a line for each photograph, and the diagonal of standard normal latents."""
    if not found.levels:
        path.unlink(missing_ok=True)
        return
    count = len(found.levels)
    figure = Figure(figsize=(4.2 * count, 4.8), layout="constrained")
    for axes, level in zip(figure.subplots(1, count, squeeze=False)[0], found.levels, strict=True):
        axes.plot(NORMAL_QUANTILES, NORMAL_QUANTILES, linestyle="--", color="black", label="standard normal")
        for number, (name, values) in enumerate(level.quantiles.items()):
            label = name if len(level.quantiles) <= 12 else None
            axes.plot(NORMAL_QUANTILES, values, color=f"C{number % 10}", linewidth=1, label=label)
        axes.set_title(f"level {level.level}: deviation {level.moments['deviation']:.2f}", fontsize=10)
        axes.set_xlabel("quantiles of the standard normal distribution")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("quantiles of the photograph's latents")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9)
    save(figure, path, f"latents of photographs: {title}")


def write_calibration(path: Path, title: str, found: Diagnosis) -> None:
    """Write error over deviation, coverage of central intervals, and the photograph's ranks among the samples."""
    figure = Figure(figsize=(13.5, 4.8), layout="constrained")
    by_deviation, by_probability, by_rank = figure.subplots(1, 3)
    ends = [bin_[name] for tau in found.calibration for bin_ in tau.bins for name in ("deviation", "error")]
    ends = [min((end for end in ends if end > 0), default=0.1), max(ends)]
    by_deviation.plot(ends, ends, linestyle="--", color="black", label="calibrated")
    by_probability.plot([0, 1], [0, 1], linestyle="--", color="black")
    ranks = len(found.calibration[0].ranks)
    by_rank.axhline(1 / ranks, linestyle="--", color="black")
    for number, tau in enumerate(found.calibration):
        style = {"marker": _MARKERS[number % len(_MARKERS)], "color": f"C{number % 10}", "label": f"τ {tau.tau}"}
        points = [bin_ for bin_ in tau.bins if bin_["deviation"] > 0 and bin_["error"] > 0]
        by_deviation.plot([bin_["deviation"] for bin_ in points], [bin_["error"] for bin_ in points], **style)
        by_probability.plot(*zip(*tau.coverage, strict=True), **style)
        by_rank.plot(range(ranks), tau.ranks, **style)
    by_deviation.set(
        xscale="log", yscale="log", xlabel="deviation of samples, /255", ylabel="error of their mean, /255"
    )
    for axis in (by_deviation.xaxis, by_deviation.yaxis):
        _label_steps(axis)
    by_deviation.set_title("error by predicted deviation", fontsize=10)
    by_probability.set(xlabel="probability of the interval", ylabel="values inside", xlim=(0, 1), ylim=(0, 1))
    by_probability.set_title("coverage of central intervals", fontsize=10)
    by_rank.set(xlabel="samples below the photograph", ylabel="share of values")
    by_rank.set_ylim(bottom=0)
    by_rank.set_title("rank of the photograph", fontsize=10)
    for axes in (by_deviation, by_probability, by_rank):
        axes.grid(alpha=0.3)
    handles, labels = by_deviation.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    save(figure, path, f"calibration of samples: {title}")


def _label_steps(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
