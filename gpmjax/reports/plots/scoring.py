"""Cost of scoring K responses to one prompt, for models that embed responses and models that read pairs.

Reads the figures of ``launch/benchmark.py --suite=score``.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from gpmjax.reports.plots import style


def scoring_cost(report: Mapping[str, Any]) -> Figure:
    """Seconds (with the range over repetitions) and tokens through the backbone by K, on logarithmic axes."""
    figure, (time, tokens) = style.new_figure(8, 3.4, 1, 2)
    for index, (name, line) in enumerate(report["models"].items()):
        look = dict(color=style.colour(index), marker=style.marker(index), label=name)
        low, middle, high = ([times[key] for times in line["seconds"]] for key in ("min", "median", "max"))
        time.plot(line["K"], middle, **look)
        time.fill_between(line["K"], low, high, color=style.colour(index), alpha=0.2, linewidth=0)
        tokens.plot(line["K"], line["forward_tokens"], **look)
    for panel, title in ((time, "seconds"), (tokens, "tokens through the backbone")):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_title(title, fontsize=9, color=style.INK)
        panel.set_xlabel("responses K", fontsize=9)
    tokens.legend(frameon=False, fontsize=8)
    return figure
