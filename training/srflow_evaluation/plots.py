"""Plots of a protocol's summary, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from srflow_evaluation.diagnosis import Diagnosis
from srflow_evaluation.latent_statistics import NORMAL_QUANTILES
from srflow_sdk.system.local_files import write_atomically

Means = Mapping[str, float]
_STYLES = ("--", ":", "-.")
_MARKERS = "osD^v<>*P"


def write_lines(
    path: Path,
    title: str,
    x_label: str,
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    references: Mapping[str, Means],
    headings: Mapping[str, str],
    *,
    first_tick: float | None = None,
) -> None:
    """Write a panel for each figure: each model's curve over x, and a horizontal line for each reference that has it.

    curves: by the figure's name and the model's, x and y. headings: the panels' titles by the figure's name.
    first_tick: where x begins, if it is a whole number that has a tick whatever the others are.
    """
    columns = 2 if len(curves) == 4 else min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, of_models) in zip(panels, curves.items(), strict=False):
        for number, (model, (x, y)) in enumerate(of_models.items()):
            axes.plot(x, y, marker="o", color=f"C{number % 10}", label=model)
        for number, (reference, means) in enumerate(references.items()):
            if name in means:
                style = _STYLES[number % len(_STYLES)]
                axes.axhline(means[name], linestyle=style, color=_colour(number, of_models), label=reference)
        axes.set_title(headings[name], fontsize=10)
        axes.set_xlabel(x_label)
        if first_tick is not None:
            others = MaxNLocator(8, integer=True).tick_values(first_tick, axes.dataLim.x1)
            axes.set_xticks([first_tick, *(tick for tick in others if first_tick < tick <= axes.dataLim.x1)])
        axes.grid(alpha=0.3)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    handles, labels = _legend(list(panels[: len(curves)]))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    save(figure, path, title)


def write_plane(
    path: Path,
    title: str,
    labels: tuple[str, str],
    curves: Mapping[str, Sequence[tuple[str, float, float]]],
    references: Mapping[str, tuple[float, float]],
) -> None:
    """Write one plane: each model's points with captions, joined by a line, and a single point for each reference."""
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    for number, (model, points) in enumerate(curves.items()):
        x_of, y_of = [x for _, x, _ in points], [y for _, _, y in points]
        axes.plot(x_of, y_of, marker="o", color=f"C{number % 10}", label=model)
    for number, (name, (x, y)) in enumerate(references.items()):
        axes.plot([x], [y], marker="s", linestyle="", color=_colour(number, curves), label=name)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.margins(0.1)  # for captions
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    _write_captions(figure, axes, curves, references)
    save(figure, path, title)


def _colour(number: int, models: Mapping[str, object]) -> str:
    """That of a reference, after the models'."""
    return f"C{(number + len(models)) % 10}"


def _write_captions(
    figure: Figure,
    axes: Axes,
    curves: Mapping[str, Sequence[tuple[str, float, float]]],
    references: Mapping[str, tuple[float, float]],
) -> None:
    """Write captions in their curve's colour on a side of their point where nothing else is; otherwise none."""
    figure.draw_without_rendering()
    places = [(x, y) for points in curves.values() for _, x, y in points] + list(references.values())
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in axes.transData.transform(places)]
    for number, points in enumerate(curves.values()):
        for caption, x, y in points:
            for right, up in ((5, 5), (5, -12), (-5, 5), (-5, -12)):
                side: Literal["left", "right"] = "left" if right > 0 else "right"
                text = axes.annotate(caption, (x, y), (right, up), textcoords="offset points", fontsize=8, ha=side)
                text.set_color(f"C{number % 10}")
                box = text.get_window_extent()
                if not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    break
                text.remove()


def _legend(panels: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(str(label), handle)
    return list(found.values()), list(found)


def save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})  # the same bytes by any version
    write_atomically(path, content.getvalue())


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
