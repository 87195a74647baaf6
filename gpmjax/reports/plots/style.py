"""The style of every picture: colours, figures without global state, PNG output."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpmjax.files import replacing

# Okabe and Ito's palette, which is readable with any of the common colour-vision deficiencies. Yellow is too faint
# here.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#222222"
FAINT = "#8A8A8A"


def colour(index: int) -> str:
    """The palette's colour number ``index``; colours repeat after seven."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """The marker that goes with `colour`, so that lines differ in print without colour."""
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

    It does not use pyplot, hence needs no window system and leaves no global list of figures to close.
    """
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", h_pad=0.1)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios or None).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="#E6E6E6", linewidth=0.8)
        each.set_axisbelow(True)
        each.tick_params(colors=INK, labelsize=9)
    return figure, axes


def save(figure: Figure, path: str | Path) -> Path:
    """Writes ``figure`` as PNG; parent folders are made, and the file appears whole or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.12)
    return Path(path)
