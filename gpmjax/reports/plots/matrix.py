"""Heat map of a group's K×K scores: row i against column j, positive where i beats j."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gpmjax.reports.plots import style

# With more rows than this, numbers inside the cells would be unreadable.
MAX_ANNOTATED = 12
MAX_LABEL = 20


def score_matrix(
    labels: Sequence[str], scores: np.ndarray, *, title: str = "", quantity: str = "score s(i ≻ j)"
) -> Figure:
    """Heat map of ``scores`` [K, K]; purple where the row wins, orange where it loses."""
    scores, labels = np.asarray(scores, float), [style.short(label, MAX_LABEL) for label in labels]
    count = len(labels)
    if scores.shape != (count, count):
        raise ValueError(f"scores: shape {scores.shape}, must be {(count, count)} for {count} labels")
    size = max(3.6, 0.55 * min(count, 20) + 1.8)
    figure, (axes,) = style.new_figure(size + 1.0, size)
    axes.grid(False)
    limit = max(float(np.abs(scores).max()), 1e-12)
    image = axes.imshow(scores, cmap="PuOr", vmin=-limit, vmax=limit)
    rotate = max(map(len, labels), default=0) > 3
    axes.set_xticks(range(count), labels, rotation=45 if rotate else 0, ha="right" if rotate else "center")
    axes.set_yticks(range(count), labels)
    axes.set_xlabel("response j", fontsize=9)
    axes.set_ylabel("response i", fontsize=9)
    if count <= MAX_ANNOTATED:
        for i, j in np.ndindex(scores.shape):
            dark = abs(scores[i, j]) > 0.6 * limit
            # Adding 0 turns −0, which would print as "-0.00", into 0.
            text = f"{round(scores[i, j], 2) + 0:.2f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else style.INK)
    figure.colorbar(image, ax=axes, label=quantity, shrink=0.85)
    if title:
        axes.set_title(style.short(title, 60), fontsize=11)
    return figure
