"""Accuracy of several models on several sets as bars, beside the highest accuracy of any scalar reward.

The rows are a summary's ``table``: {"model", "set", "accuracy", "ceiling", "seed"}, the last two optional. The ceiling
is a property of the set. A Bradley–Terry model cannot pass it; a general preference model can.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpmjax.reports.plots import style

# Names of models in the picture. Others keep their own.
NAMES = {"bt": "Bradley–Terry", "gpm": "GPM"}
CEILING = "best any scalar reward can do"


def accuracy_bars(table: Sequence[Mapping], *, title: str = "") -> Figure:
    """Horizontal bars of mean accuracies, a band per set and a bar per model; seeds are dots, ceilings black ticks."""
    if not table:
        raise ValueError("table: empty, needs at least one row")
    for number, row in enumerate(table):
        missing = {"model", "set", "accuracy"} - row.keys()
        if missing:
            raise ValueError(f"table: row {number} has no {sorted(missing)[0]!r}")
    sets = list(dict.fromkeys(row["set"] for row in table))
    models = list(dict.fromkeys(row["model"] for row in table))
    figure, (axes,) = style.new_figure(7.6, 1.5 + 0.3 * len(sets) * (len(models) + 0.8))
    thickness = 0.8 / len(models)
    for m, model in enumerate(models):
        for band, name in enumerate(sets):
            rows = [row for row in table if row["set"] == name and row["model"] == model]
            if rows:
                y = band + (m - (len(models) - 1) / 2) * thickness
                _draw_bar(axes, y, thickness, rows, style.colour(m), NAMES.get(model, model))
    axes.axvline(0.5, color=style.FAINT, linestyle=":", linewidth=1.2, label="coin toss", zorder=1)
    axes.set_yticks(range(len(sets)), sets)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel("accuracy (ties count one half)", fontsize=9)
    axes.grid(False, axis="y")
    figure.legend(
        *_legend_entries(axes), loc="outside lower center", ncols=5, columnspacing=1.2, frameon=False, fontsize=9
    )
    if title:
        axes.set_title(title, fontsize=11, loc="left")
    return figure


def _draw_bar(axes: Axes, y: float, thickness: float, rows: Sequence[Mapping], colour: str, label: str) -> None:
    accuracies = np.array([row["accuracy"] for row in rows], float)
    mean = float(accuracies.mean())
    axes.barh(y, mean, height=0.9 * thickness, color=colour, label=label, zorder=2)
    if len(accuracies) > 1:
        heights = np.full(len(accuracies), y)
        axes.plot(accuracies, heights, ".", color="white", markeredgecolor=style.INK, label="one seed", zorder=4)
    ceilings = [row["ceiling"] for row in rows if row.get("ceiling") is not None]
    for ceiling in sorted(set(ceilings)):
        ends = [y - thickness / 2, y + thickness / 2]
        axes.plot([ceiling] * 2, ends, color="black", linewidth=2.5, label=CEILING, zorder=3)
    reach = max([mean, *accuracies, *ceilings])
    axes.text(reach + 0.012, y, f"{100 * mean:.1f} %", va="center", fontsize=9, color=style.INK)


def _legend_entries(axes: Axes) -> tuple[list, list]:
    """Handles and labels, each label once: first the models, then the marks."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = sorted(handles, key=lambda label: label in (CEILING, "one seed", "coin toss"))
    return [handles[label] for label in labels], labels
