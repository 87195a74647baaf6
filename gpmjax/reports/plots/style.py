"""One look for every picture: colours, figures without global state, PNG output."""

import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any of the common colour-vision deficiencies. Yellow is left out, too faint.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#222222"
FAINT = "#8A8A8A"


def colour(index: int) -> str:
    """The palette's colour number ``index``; after seven they repeat."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """The marker that goes with `colour`, so that lines differ in print without colour too."""
    return MARKERS[index % len(MARKERS)]


def short(text: str, limit: int) -> str:
    """``text`` on one line, cut to ``limit`` characters.

    >>> short("A rather\\nlong reply", 12)
    'A rather lo…'
    """
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **ratios) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` × ``height`` inches and its axes, row by row.

    It does not go through pyplot: no window system, no global list of figures to close.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios or None).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="#E6E6E6", linewidth=0.8)
        each.set_axisbelow(True)
        each.tick_params(colors=INK, labelsize=9)
    return figure, axes


def save(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` as PNG, making the folder; a reader never sees half a picture."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        figure.savefig(partial, format="png", dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.12)
        partial.replace(path)
    except OSError as error:
        raise OSError(f"{path}: the picture could not be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
