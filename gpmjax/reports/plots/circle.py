"""The preference circle: a group's embeddings in each 2-d block, with an arrow from each winner to the loser.

In one block s(i ≻ j) = v_i[0] v_j[1] − v_i[1] v_j[0] = ‖v_i‖ ‖v_j‖ sin(θ_j − θ_i), so a response beats those up to half
a turn anticlockwise from it. A closed circle of arrows is a preference cycle, which no scalar reward can produce.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from gpmjax.reports.plots import style

# A pair whose score is below this share of the largest is even and gets no arrow.
EVEN = 0.02
# At most this many blocks are drawn, those that contribute most to the scores.
MAX_BLOCKS = 6
MAX_LABEL = 16
# Inches per radius of the circle, and the width of a bold letter in radii at this scale.
INCHES = 1.5
LETTER = 0.068


def block_scores(embedding: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Each block's contribution to the scores, [k, K, K], from an embedding [K, 2k] and a gate [k].

    >>> block_scores(np.array([[1.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    x, y = embedding[:, 0::2].T, embedding[:, 1::2].T
    shares = x[:, :, None] * y[:, None, :] - y[:, :, None] * x[:, None, :]
    return shares if scale is None else shares * np.asarray(scale, float)[:, None, None]


def preference_circle(
    labels: Sequence[str],
    embedding: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    reward: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Draws K responses in each of their k preference blocks, with an arrow i → j where i beats j.

    Arrows show the verdict of the whole score, darker for larger scores. An arrow is dashed in a block that votes
    against the verdict. A hybrid's first block is its reward, drawn as a vertical axis beside the circles.

    Args:
      labels: K short names.
      embedding: [K, 2k].
      scores: [K, K], s(i ≻ j) over all blocks; computed from the embedding when absent.
      scale: [k] gate of the group's prompt, shown in the panels' titles.
      reward: [K] rewards of a hybrid, whose embedding's first block is (reward, 1).
      title: written above the figure.
    """
    embedding = np.asarray(embedding, float)
    count, dim = embedding.shape
    if dim % 2 or not dim:
        raise ValueError(f"embedding: dimension {dim}, must be even and above 0")
    if len(labels) != count:
        raise ValueError(f"labels: {len(labels)} names for {count} embeddings")
    shares = block_scores(embedding, scale)
    scores = shares.sum(0) if scores is None else np.asarray(scores, float)
    if scores.shape != (count, count):
        raise ValueError(f"scores: shape {scores.shape}, must be {(count, count)}")
    blocks = np.sort(np.argsort(-np.abs(shares).sum((1, 2)), kind="stable")[:MAX_BLOCKS])
    first = 0 if reward is None else 1
    if first:  # the reward is always drawn, as the first panel
        blocks = np.concatenate([[0], blocks[blocks > 0][: MAX_BLOCKS - 1]])
    columns = min(len(blocks), 3)
    rows = -(-len(blocks) // columns)
    labels = [style.short(label, MAX_LABEL) for label in labels]
    # At least eight letters, since the short names of one spot are joined.
    half_width = 1.2 + LETTER * max(8, *map(len, labels))
    figure, panels = style.new_figure(2 * INCHES * half_width * columns, 2 * INCHES * 1.4 * rows + 0.7, rows, columns)
    for axes in panels[len(blocks) :]:
        axes.remove()
    for block, axes in zip(blocks, panels, strict=False):
        if block < first:
            _draw_reward(
                axes, labels, np.asarray(reward, float), np.abs(shares[0]).sum() / max(np.abs(shares).sum(), 1e-12)
            )
            continue
        _draw_block(axes, labels, embedding[:, 2 * block : 2 * block + 2], scores, shares[block])
        axes.set(xlim=(-half_width, half_width), ylim=(-1.4, 1.4), aspect="equal")
        if dim > 2:
            gate = "" if scale is None else f", λ = {scale[block]:.2g}"
            axes.set_title(f"block {block + 1 - first} of {dim // 2 - first}{gate}", fontsize=10)
    if title:
        figure.suptitle(style.short(title, 20 + 40 * columns), fontsize=12)
    _draw_legend(figure, dim // 2)
    return figure


def _draw_reward(axes: Axes, labels: Sequence[str], reward: np.ndarray, share: float) -> None:
    """Draws responses on a vertical axis at the height of their rewards. Names that would overlap are moved apart."""
    order = np.argsort(reward, kind="stable")
    span = max(float(np.ptp(reward)), 1e-9)
    heights = reward[order].copy()
    for n in range(1, len(order)):
        heights[n] = max(heights[n], heights[n - 1] + 0.09 * span)
    axes.axvline(0, color="#BBBBBB", linewidth=1.0, zorder=1)
    axes.scatter(np.zeros(len(order)), reward[order], s=60, color=style.INK, zorder=3)
    for n, height in zip(order, heights, strict=True):
        axes.plot([0, 0.1], [reward[n], height], color=style.FAINT, linewidth=0.8)
        axes.text(
            0.13, height, labels[n], va="center", fontsize=10, fontweight="bold", color=style.INK, in_layout=False
        )
    axes.set(xlim=(-0.4, 1.2), ylim=(reward.min() - 0.15 * span, max(reward.max(), heights[-1]) + 0.15 * span))
    axes.set_title(f"reward r, {share:.0%} of all scores", fontsize=10)
    axes.grid(False)
    axes.spines[["bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False)


def _draw_block(axes: Axes, labels: Sequence[str], points: np.ndarray, scores: np.ndarray, share: np.ndarray) -> None:
    radius = max(float(np.linalg.norm(points, axis=1).max()), 1e-12)
    # The circle has radius 1, whatever the embeddings' length.
    points = points / radius
    place = _first_at_place(points)
    axes.add_patch(Circle((0, 0), 1.0, fill=False, color="#BBBBBB", linewidth=1.0))
    axes.plot(0, 0, "+", color=style.FAINT, markersize=8)
    strongest = max(float(np.abs(scores).max()), 1e-12)
    for i, j in zip(*np.nonzero(scores > EVEN * strongest), strict=True):
        if place[i] == place[j]:
            continue
        opposed = share[i, j] < 0
        axes.annotate(
            "", xy=points[j], xytext=points[i], zorder=2,
            arrowprops={
                "arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 7, "shrinkB": 7, "linewidth": 1.4,
                "color": style.PALETTE[1] if opposed else style.PALETTE[0], "linestyle": "--" if opposed else "-",
                "alpha": 0.25 + 0.75 * float(scores[i, j]) / strongest,
            },
        )  # fmt: skip
    axes.scatter(*points.T, s=60, color=style.INK, zorder=3)
    _draw_labels(axes, labels, points, place)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)


def _first_at_place(points: np.ndarray) -> np.ndarray:
    """[K] index of the first response at (almost) the same place as each one, on a circle of radius 1."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return np.argmax(distance < 0.05, axis=1)


def _draw_labels(axes: Axes, labels: Sequence[str], points: np.ndarray, place: np.ndarray) -> None:
    """Writes names beside their points. The names of responses on one spot are joined, as in "A = C"."""
    first = np.unique(place)
    together = [" = ".join(label for label, p in zip(labels, place, strict=True) if p == i) for i in first]
    names = [style.short(name, MAX_LABEL) for name in together]
    for (x, y), name in zip(_label_positions(points[first], names), names, strict=True):
        axes.text(
            x, y, name, ha="center", va="center", fontsize=10, fontweight="bold", color=style.INK, zorder=4,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            # The panel has room for names. If the layout made room as well, the panel would shrink.
            in_layout=False,
        )  # fmt: skip


def _label_positions(points: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[n, 2] centres of the names. A name stands outwards of its point, or turned to where it covers the least."""
    boxes = [(point, np.array([0.08, 0.08])) for point in points]
    for point, name in zip(points, names, strict=True):
        size = np.array([LETTER * len(name), 0.14])
        outwards = np.arctan2(point[1], point[0]) if np.linalg.norm(point) > 1e-3 else np.pi / 2
        angles = outwards + np.deg2rad([0, 40, -40, 80, -80, 120, -120, 180])
        candidates = point + np.stack([np.cos(angles), np.sin(angles)], axis=1) * (0.09 + size / 2)
        covered = [sum(np.all(np.abs(c - box) < (size + extent) / 2) for box, extent in boxes) for c in candidates]
        boxes.append((candidates[int(np.argmin(covered))], size))
    return np.array([centre for centre, _ in boxes[len(points) :]])


def _draw_legend(figure: Figure, blocks: int) -> None:
    handles = [Line2D([], [], color=style.PALETTE[0], marker=">", label="i → j: i beats j")]
    if blocks > 1:
        handles.append(
            Line2D([], [], color=style.PALETTE[1], linestyle="--", marker=">", label="i beats j, against this block")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
