"""Histograms of cyclic energy: the share of a group's squared scores that no reward explains.

Reads ``energy`` and ``triads`` of diagnoses (launch/diagnose.py).
"""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpmjax.reports.plots import style


def cyclic_energy(diagnoses: Mapping[str, Mapping], *, title: str = "") -> Figure:
    """Histograms over groups, one row per diagnosis. A Bradley–Terry model has all of its groups at 0.

    Args:
      diagnoses: name → diagnosis; those without a complete group of three responses are left out.
      title: written above the figure.
    """
    drawn = {name: found for name, found in diagnoses.items() if found["energy"]["groups"]}
    if not drawn:
        raise ValueError(f"diagnoses: {sorted(diagnoses)} hold no complete group of three responses")
    figure, panels = style.new_figure(6.4, 0.8 + 2.1 * len(drawn), len(drawn), 1)
    for n, (axes, (name, found)) in enumerate(zip(panels, drawn.items(), strict=True)):
        energy, triads = found["energy"], found["triads"]
        edges, counts = energy["histogram"]["edges"], energy["histogram"]["counts"]
        axes.stairs(counts, edges, fill=True, color=style.colour(n), alpha=0.75)
        pooled = energy["cyclic"]["value"]
        axes.axvline(pooled, color=style.INK, linewidth=1.6, label=f"all groups pooled: {100 * pooled:.1f} %")
        chance = energy["by_chance"]
        axes.axvline(chance, color=style.FAINT, linestyle=":", linewidth=1.6, label=f"noise: {100 * chance:.1f} %")
        axes.set_title(
            f"{style.short(name, 60)}: {triads['cyclic']} of {triads['triads']} triads cyclic", fontsize=9, loc="left"
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.12 * max(counts)))
        axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.set_ylabel("groups", fontsize=9)
        axes.legend(frameon=False, fontsize=8, loc="upper right" if pooled < 0.6 else "upper left")
    panels[-1].set_xlabel("cyclic share of a group's energy Σ s²", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure
