"""Reliability diagram: a model's confidence in the side it favours, against how often that side won."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from gpmjax.reports.plots import style


def calibration_curve(tables: Mapping[str, Sequence[Mapping]], *, title: str = "") -> Figure:
    """Curves of one or several calibration tables, with the number of comparisons per bin below.

    Args:
      tables: name → lines {"low", "high", "count", "confidence", "frequency"}, as an evaluation's summary holds them.
      title: written above the figure.
    """
    if not any(tables.values()):
        raise ValueError(f"tables: {sorted(tables)} hold no lines")
    figure, (curve, histogram) = style.new_figure(5.2, 5.6, 2, 1, height_ratios=(4, 1))
    curve.plot([0.5, 1], [0.5, 1], color=style.FAINT, linestyle=":", linewidth=1.4, label="calibrated")
    for t, (name, table) in enumerate(tables.items()):
        colour = style.colour(t)
        points = [(line["confidence"], line["frequency"]) for line in table]
        curve.plot(*zip(*points, strict=True), color=colour, marker=style.marker(t), linewidth=1.6, label=name)
        for line in table:
            width = (line["high"] - line["low"]) / len(tables)
            left = line["low"] + t * width
            histogram.bar(left, line["count"], width=0.9 * width, align="edge", color=colour)
    lowest = min(line["frequency"] for table in tables.values() for line in table)
    curve.set(xlim=(0.49, 1.01), ylim=(min(0.48, lowest - 0.03), 1.02))
    curve.set_ylabel("how often the favoured side won", fontsize=9)
    histogram.set(xlim=(0.49, 1.01))
    histogram.set_ylabel("comparisons", fontsize=9)
    histogram.set_xlabel("confidence σ(|s|/τ)", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    if title:
        curve.set_title(title, fontsize=11, loc="left")
    return figure
