"""A policy over the iterations of a run: win rates, response length, KL from the first policy, entropy.

Reads ``iterations`` of a run's summary.json (gpmjax.improve.improve). The judge's figures are of the policy that an
iteration made. All others are of the samples that the policy was made from.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpmjax.reports.plots import style


def improvement(iterations: Sequence[Mapping], *, title: str = "") -> Figure:
    """A panel each for lengths, KL from the first policy and entropy, and for win rates where there is a judge."""
    judged = [line for line in iterations if "judge" in line]
    figure, axes = style.new_figure(11 if judged else 8, 3.4, 1, 4 if judged else 3)
    if judged:
        _win_rates(axes[0], judged)
    panels = {
        "tokens a response": lambda line: line["length"]["mean"],
        "KL from the first policy (nats)": lambda line: line["kl_base_k1"],
        "entropy (nats a token)": lambda line: line.get("entropy"),
    }
    for panel, (name, value) in zip(axes[-3:], panels.items(), strict=True):
        points = [(line["iteration"], value(line)) for line in iterations if value(line) is not None]
        panel.plot(*zip(*points, strict=True), color=style.colour(0), marker=style.marker(0))
        _label(panel, name)
    figure.suptitle(title)
    return figure


def _win_rates(panel: Axes, judged: Sequence[Mapping]) -> None:
    steps = [line["iteration"] for line in judged]
    for index, (name, label) in enumerate((("judge", "judge"), ("trainer", "its own scorer"))):
        found = [line["judge"][name] for line in judged]
        panel.errorbar(
            steps,
            [rates["win_rate"] for rates in found],
            [rates["standard_error"] or 0.0 for rates in found],
            color=style.colour(index),
            marker=style.marker(index),
            capsize=3,
            label=label,
        )
    panel.axhline(0.5, color=style.FAINT, linewidth=1)
    panel.legend(frameon=False, fontsize=8)
    _label(panel, "win rate against the first policy")


def _label(panel: Axes, name: str) -> None:
    panel.set_title(name, fontsize=9, color=style.INK)
    panel.set_xlabel("iteration", fontsize=9)
    panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
