"""Blocks of a general preference model: the gate's λ over prompts, the pairs that each block decides, and its accuracy.

Reads ``gate`` and ``blocks`` of a diagnosis (launch/diagnose.py); either may be absent.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpmjax.reports.plots import style

# Inches of a panel per block, and a panel's least width.
BLOCK = 0.34
PANEL = 3.2
# With more blocks than this, panels stand one below the other.
MAX_BESIDE = 8
# Upper end of the axis, which leaves room for the legend above 1, and the ticks.
TOP, SHARES = 1.28, (0, 0.2, 0.4, 0.6, 0.8, 1)


def spectrum(diagnosis: Mapping, *, title: str = "") -> Figure:
    """A panel each for the gate's spectrum, for the pairs that blocks decide and, with labels, for their accuracies."""
    gate, blocks = diagnosis.get("gate"), diagnosis.get("blocks")
    drawn = []
    if gate:
        drawn.append(lambda axes: _draw_gate(axes, gate))
    if blocks:
        drawn.append(lambda axes: _draw_decisions(axes, blocks))
    if blocks and blocks["labelled"]:
        drawn.append(lambda axes: _draw_accuracies(axes, blocks))
    if not drawn:
        raise ValueError("diagnosis has neither 'gate' nor 'blocks'")
    count = len((gate or blocks or {})["blocks"])
    width = max(PANEL, BLOCK * count + 0.9)
    rows, columns = (1, len(drawn)) if count <= MAX_BESIDE else (len(drawn), 1)
    figure, panels = style.new_figure(width * columns, 3.5 * rows, rows, columns)
    for axes, draw in zip(panels, drawn, strict=True):
        draw(axes)
        axes.set_xlim(0.4, count + 0.6)
        axes.set_xticks(range(1, count + 1) if count <= 12 else range(1, count + 1, -(-count // 12)))
        axes.grid(False, axis="x")
        axes.set_xlabel("block", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _draw_gate(axes: Axes, gate: Mapping) -> None:
    boxes = [
        {"whislo": low, "q1": q1, "med": median, "q3": q3, "whishi": high, "mean": block["mean"], "fliers": []}
        for block in gate["blocks"]
        for low, q1, median, q3, high in [block["quantiles"]]
    ]
    colour = style.colour(0)
    line = {"color": colour, "linewidth": 1.3}
    axes.bxp(
        boxes, positions=range(1, len(boxes) + 1), widths=0.55, showmeans=True, manage_ticks=False, patch_artist=True,
        boxprops={"facecolor": "#D6E6F2", "edgecolor": colour}, medianprops=line, whiskerprops=line, capprops=line,
        meanprops={"marker": "D", "markersize": 4, "markerfacecolor": style.INK, "markeredgecolor": style.INK},
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    each = gate["effective_blocks"]["mean"]
    axes.set_title(
        f"gate λ over {gate['prompts']} prompts\n{each:.2f} effective blocks a prompt", fontsize=9, loc="left"
    )
    axes.set_ylabel("λ (5, 25, 50, 75, 95 %; mean ◆)", fontsize=9)


def _draw_decisions(axes: Axes, blocks: Mapping) -> None:
    numbers = np.array([block["block"] for block in blocks["blocks"]])
    for n, (name, label) in enumerate((("largest", "has the largest say"), ("flips", "turns the verdict"))):
        shares = [block[name] or 0.0 for block in blocks["blocks"]]
        axes.bar(numbers + 0.4 * n - 0.2, shares, width=0.36, color=style.colour(n), label=label)
    axes.set_ylim(0, TOP)
    axes.set_yticks(SHARES)
    axes.set_title(f"which block decides {blocks['pairs']} pairs\n", fontsize=9, loc="left")
    axes.set_ylabel("share of pairs", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_accuracies(axes: Axes, blocks: Mapping) -> None:
    for block in blocks["blocks"]:
        low, high = block["accuracy_interval"]
        axes.plot([block["block"]] * 2, [low, high], color=style.colour(0), linewidth=1.6)
        axes.plot(block["block"], block["accuracy"], color=style.colour(0), marker="o", markersize=5)
    axes.axhline(blocks["accuracy"], color=style.colour(1), linewidth=1.5, label="all blocks together")
    axes.axhline(0.5, color=style.FAINT, linestyle=":", linewidth=1.2, label="coin toss")
    axes.set_ylim(0, TOP)
    axes.set_yticks(SHARES)
    axes.set_title(f"each block alone on {blocks['labelled']} labels\n", fontsize=9, loc="left")
    axes.set_ylabel("accuracy (95 % interval)", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
