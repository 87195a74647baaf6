"""Held-out loss and accuracy by the price of a cycle, from which ``loss.curl="auto"`` chose.

Reads WORKDIR/regularisation.json.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gpmjax.reports.plots import style


def curl_path(documents: Mapping[str, Mapping[str, Any]], *, title: str = "") -> Figure:
    """Two panels, NLL and accuracy, with a line per document.

    The band is one standard error of the NLL's distance from the least.

    Args:
      documents: name → what a run wrote: ``path``, rows with curl ("inf" is Bradley–Terry), nll, standard_error,
        accuracy, chosen. Of the rows of one price, which differ in the gate's penalty or in γ, the best is drawn.
    """
    figure, (loss, accuracy) = style.new_figure(9, 3.8, 1, 2)
    drawn = {name: best_by_price(document["path"]) for name, document in documents.items() if document.get("path")}
    prices = sorted({row["curl"] for rows in drawn.values() for row in rows}, key=float)
    place = {price: n for n, price in enumerate(prices)}
    for index, (name, rows) in enumerate(drawn.items()):
        x = [place[row["curl"]] for row in rows]
        look = dict(color=style.colour(index), marker=style.marker(index), markersize=5)
        nll, error = (np.array([row[key] for row in rows], float) for key in ("nll", "standard_error"))
        loss.plot(x, nll, label=style.short(name, 30), **look)
        loss.fill_between(x, nll - error, nll + error, color=style.colour(index), alpha=0.18, linewidth=0)
        accuracy.plot(x, [100 * row["accuracy"] for row in rows], **look)
        for row, where in zip(rows, x, strict=True):
            if row["chosen"]:
                loss.plot(where, row["nll"], "o", markersize=13, fillstyle="none", color=style.colour(index))
                accuracy.plot(
                    where, 100 * row["accuracy"], "o", markersize=13, fillstyle="none", color=style.colour(index)
                )
    for axes, label in (
        (loss, "held-out loss, nats (band: ± 1 s.e. from the least)"),
        (accuracy, "held-out accuracy, %"),
    ):
        axes.set_xticks(range(len(prices)), ["∞ (BT)" if price == "inf" else f"{price:g}" for price in prices])
        axes.set_xlabel("ρ, the price of a cycle (ring: chosen)", fontsize=9)
        axes.set_title(label, fontsize=9, color=style.INK)
    loss.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(style.short(title, 80), fontsize=11)
    return figure


def best_by_price(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row per price of a cycle, in order of price: the chosen row, or else the one with the least loss.

    >>> rows = [{"curl": 0.1, "nll": 2.0, "chosen": False}, {"curl": 0.1, "nll": 1.0, "chosen": False}]
    >>> best_by_price(rows)[0]["nll"]
    1.0
    """
    by_price: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_price.setdefault(row["curl"], []).append(row)
    best = [min(same, key=lambda row: (not row["chosen"], row["nll"])) for same in by_price.values()]
    return sorted(best, key=lambda row: float(row["curl"]))
