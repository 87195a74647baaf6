"""How blocks relate to aspects: correlations with human ratings, and accuracies on edges of rated cycles.

Reads ``aspects`` and ``edges`` of a diagnosis (launch/diagnose.py); either may be absent.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpmjax.reports.plots import style

# A correlation is marked when its family-wise p is below this.
LEVEL = 0.05
# The colour scale reaches at least this far from the middle, so that chance differences stay pale.
PALE = 0.3


def subspaces(diagnosis: Mapping, *, title: str = "") -> Figure:
    """Heat maps with a row per aspect and a column per block: ρ with rating differences, and accuracy of a block
    alone."""
    drawn = [part for part in (_correlations(diagnosis), _edges(diagnosis)) if part]
    if not drawn:
        raise ValueError("diagnosis has neither 'aspects' nor 'edges'")
    rows, columns = (max(np.shape(part["values"])[axis] for part in drawn) for axis in (0, 1))
    figure, panels = style.new_figure(len(drawn) * (2.6 + 0.62 * columns), 1.6 + 0.42 * rows, 1, len(drawn))
    for axes, part in zip(panels, drawn, strict=True):
        _draw(axes, **part)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _correlations(diagnosis: Mapping) -> dict | None:
    found = diagnosis.get("aspects")
    if not found:
        return None
    lines = {(line["aspect"], line["block"]): line for line in found["table"]}
    blocks = sorted({block for _, block in lines})
    return {
        "values": [[_spearman(lines[aspect, block]) for block in blocks] for aspect in found["aspects"]],
        "texts": [[_correlation_text(lines[aspect, block]) for block in blocks] for aspect in found["aspects"]],
        "aspects": found["aspects"],
        "middle": 0.0,
        "title": f"ρ with ratings over {found['pairs']} pairs\n* p < {LEVEL} over all {found['tests']} tests",
    }


def _spearman(line: Mapping) -> float:
    return np.nan if line["spearman"] is None else line["spearman"]


def _correlation_text(line: Mapping) -> str:
    mark = "*" if line["p_family"] is not None and line["p_family"] < LEVEL else ""
    # Adding 0 turns −0, which would print as "-0.00", into 0.
    return f"{round(_spearman(line), 2) + 0:.2f}{mark}"


def _edges(diagnosis: Mapping) -> dict | None:
    found = diagnosis.get("edges")
    if not found:
        return None
    values = [line["blocks"] for line in found.values()]
    return {
        "values": values,
        "texts": [[f"{100 * value:.0f} %" for value in row] for row in values],
        "aspects": [f"{aspect} (all: {100 * line['accuracy']:.0f} %)" for aspect, line in found.items()],
        "middle": 0.5,
        "title": "accuracy of each block alone\non the edges of an aspect",
    }


def _draw(axes: Axes, *, values, texts, aspects, middle: float, title: str) -> None:
    values = np.array(values, float)
    axes.grid(False)
    span = max(float(np.nanmax(np.abs(values - middle), initial=0.0)), PALE)
    axes.imshow(values, cmap="PuOr", vmin=middle - span, vmax=middle + span, aspect="auto")
    axes.set_xticks(range(values.shape[1]), [str(n + 1) for n in range(values.shape[1])])
    axes.set_yticks(range(len(aspects)), [style.short(aspect, 36) for aspect in aspects])
    axes.set_xlabel("block", fontsize=9)
    axes.set_title(title, fontsize=9, loc="left")
    for i, j in np.ndindex(values.shape):
        dark = abs(values[i, j] - middle) > 0.6 * span
        axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=8, color="white" if dark else style.INK)
