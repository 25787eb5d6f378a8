"""Plots of a protocol's summary, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srflow_sdk.system.local_files import write_atomically

Means = Mapping[str, float]
_STYLES = ("--", ":", "-.")


def write_lines(
    path: Path,
    title: str,
    x_label: str,
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    references: Mapping[str, Means],
    headings: Mapping[str, str],
) -> None:
    """Write a panel for each figure: each model's curve over x, and a horizontal line for each reference that has it.

    curves: by the figure's name and the model's, x and y. headings: the panels' titles by the figure's name.
    """
    columns = min(3, len(curves))
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
        for caption, x, y in _apart(points):
            axes.annotate(caption, (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
    for number, (name, (x, y)) in enumerate(references.items()):
        axes.plot([x], [y], marker="s", linestyle="", color=_colour(number, curves), label=name)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path, title)


def _colour(number: int, models: Mapping[str, object]) -> str:
    """That of a reference, after the models'."""
    return f"C{(number + len(models)) % 10}"


def _apart(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The points whose captions do not lie over that of an earlier one."""
    wide = 0.05 * (max(x for _, x, _ in points) - min(x for _, x, _ in points))
    high = 0.05 * (max(y for _, _, y in points) - min(y for _, _, y in points))
    kept: list[tuple[str, float, float]] = []
    for caption, x, y in points:
        if all(abs(x - other[1]) > wide or abs(y - other[2]) > high for other in kept):
            kept.append((caption, x, y))
    return kept


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
