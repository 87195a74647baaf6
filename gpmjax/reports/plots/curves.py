"""Learning curves from `metrics.jsonl`, which holds one JSON object per line.

Training lines hold ``step`` and any of ``loss, accuracy, learning_rate, tokens_per_second, …``. Evaluation lines hold
``step`` and ``eval`` → name → figures. Panels without numbers are not drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gpmjax.files import read_json_lines
from gpmjax.reports.plots import style

# Panel title → (key on training lines, key inside an evaluation's figures). The training loss need not be the negative
# log-likelihood, so the two do not share an axis.
PANELS = {
    "training loss": ("loss", None),
    "negative log-likelihood (nats)": (None, "nll"),
    "accuracy": ("accuracy", "accuracy"),
    "gradient norm": ("gradient_norm", None),
    "learning rate": ("learning_rate", None),
    "tokens per second": ("tokens_per_second", None),
    "responses per second": ("responses_per_second", None),
}
# Quantities that are noisy from batch to batch. A curve of SMOOTH_FROM points or more is drawn smoothed as well.
NOISY = ("loss", "accuracy", "gradient_norm")
SMOOTH_FROM = 60


def read_curves(path: str | Path) -> list[dict]:
    """The records of a `metrics.jsonl`. Raises ValueError, naming the file, when it is damaged or a step is no
    integer."""
    records = read_json_lines(Path(path))
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not isinstance(record.get("step", 0), int):
            raise ValueError(f'{path}:{number}: must be an object with a whole number "step" ({str(record)[:40]!r})')
    return records


def series(records: Sequence[Mapping], key: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the training lines that hold a number under ``key``; empty for None.

    Of a step that was written twice (by a resumed run) the last line counts.

    >>> steps, values = series([{"step": 1, "loss": 3.0}, {"step": 2}, {"step": 1, "loss": 2.0}], "loss")
    >>> steps.tolist(), values.tolist()
    ([1], [2.0])
    """
    points = {line["step"]: line[key] for line in records if "step" in line and isinstance(line.get(key), int | float)}
    steps = sorted(points)
    return np.array(steps), np.array([points[step] for step in steps], float)


def evaluation_series(records: Sequence[Mapping], key: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Evaluation name → (steps, values) of the figure ``key``; evaluations without it are left out."""
    flat: dict[str, list[dict]] = {}
    for line in records:
        for name, figures in (line.get("eval") or {}).items():
            flat.setdefault(name, []).append({**figures, "step": line.get("step")})
    curves = {name: series(lines, key) for name, lines in flat.items()}
    return {name: curve for name, curve in curves.items() if len(curve[0])}


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over ``width`` points, or over fewer at the ends (no zero padding)."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def _draw_training(axes: Axes, key: str, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    if key not in NOISY or len(steps) < SMOOTH_FROM:
        axes.plot(steps, values, color=colour, linewidth=1.6, label=label)
        return
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
    axes.plot(steps, moving_average(values, len(steps) // 25 | 1), color=colour, linewidth=1.8, label=label)


def learning_curves(runs: Mapping[str, Sequence[Mapping]], *, title: str = "") -> Figure:
    """One panel for each quantity that some run has; a colour per run, a marker per evaluation.

    Args:
      runs: name of the run → its records (`read_curves`).
      title: written above the figure.
    """
    drawn = [
        (name, train, held_out)
        for name, (train, held_out) in PANELS.items()
        if any(len(series(records, train)[0]) or evaluation_series(records, held_out) for records in runs.values())
    ]
    if not drawn:
        raise ValueError(f"runs: none of {sorted(runs)} holds anything of {list(PANELS)}")
    # All panels share one scale of steps, so that they can be compared.
    last = max([1, *(line["step"] for records in runs.values() for line in records if "step" in line)])
    columns = 2 if len(drawn) == 4 else min(len(drawn), 3)
    rows = -(-len(drawn) // columns)
    figure, panels = style.new_figure(4.2 * columns, 3.0 * rows + 0.5, rows, columns)
    for axes, (name, train, held_out) in zip(panels, drawn, strict=False):
        _draw_panel(axes, runs, train, held_out)
        axes.set_xlim(0, 1.02 * last)
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xlabel("step", fontsize=9)
    for axes in panels[len(drawn) :]:
        axes.remove()
    # One legend for all panels stands outside them, so that it covers no curve.
    legends = [axes.get_legend_handles_labels() for axes in panels[: len(drawn)]]
    entries = {label: handle for pair in legends for handle, label in zip(*pair, strict=True)}
    if len(entries) > 1:
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(len(entries), 4)}
        figure.legend(entries.values(), entries.keys(), **place, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return figure


def _draw_panel(axes: Axes, runs: Mapping[str, Sequence[Mapping]], train: str | None, held_out: str | None) -> None:
    for r, (run, records) in enumerate(runs.items()):
        steps, values = series(records, train)
        if train is not None and len(steps):
            _draw_training(axes, train, steps, values, style.colour(r), f"{run}, training")
        for e, (name, (steps, values)) in enumerate(evaluation_series(records, held_out).items()):
            axes.plot(
                steps, values, color=style.colour(r), linestyle="--", linewidth=1.2, marker=style.marker(e),
                markersize=4.5, markerfacecolor="white", clip_on=False, label=f"{run}, {Path(name).name}",
            )  # fmt: skip
    if train == "accuracy":
        axes.set_ylim(-0.03, 1.03)
    elif train != "loss":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
