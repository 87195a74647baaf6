"""Figures show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

from gpmjax.preference.score import pairwise_scores
from gpmjax.reports.plots.calibration import calibration_curve
from gpmjax.reports.plots.circle import block_scores, preference_circle
from gpmjax.reports.plots.comparison import accuracy_bars
from gpmjax.reports.plots.curves import learning_curves, moving_average, series
from gpmjax.reports.plots.matrix import score_matrix


def arrows(axes):
    return [
        (tuple(t.xyann), tuple(t.xy))
        for t in axes.texts
        if isinstance(getattr(t, "arrow_patch", None), FancyArrowPatch)
    ]


def texts(axes):
    return [t.get_text() for t in axes.texts if t.get_text()]


def test_a_four_cycle_is_drawn_as_a_circle_of_four_arrows():
    angle = np.arange(4) * np.pi / 2
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = preference_circle(list("ABCD"), 3 * points).axes[0]
    drawn = {tuple(np.round(end, 6) for end in ends) for ends in map(np.array, arrows(axes)) for ends in [ends.ravel()]}
    expected = {tuple(np.round(np.r_[points[i], points[(i + 1) % 4]], 6)) for i in range(4)}
    assert drawn == expected
    assert texts(axes) == list("ABCD")


def test_block_scores_add_up_to_the_models_scores():
    rng = np.random.default_rng(0)
    v, scale = rng.normal(size=(5, 6)).astype(np.float32), rng.random(3).astype(np.float32)
    np.testing.assert_allclose(block_scores(v, scale).sum(0), pairwise_scores(v, scale), atol=1e-5)


def test_coinciding_responses_share_one_name_and_no_arrow():
    axes = preference_circle(["yes", "yeah", "no"], np.array([[1, 0], [1, 0], [0, 1]])).axes[0]
    assert texts(axes) == ["yes = yeah", "no"]
    assert len(arrows(axes)) == 2


def test_blocks_that_contribute_nothing_are_not_drawn():
    v = np.random.default_rng(0).normal(size=(4, 20))
    scale = np.where(np.arange(10) % 2, 1.0, 0.0)
    titles = [axes.get_title() for axes in preference_circle(list("ABCD"), v, scale=scale).axes]
    assert [title.split()[1] for title in titles if "λ = 1" in title] == ["2", "4", "6", "8", "10"]


@pytest.mark.parametrize("dim", [0, 1, 3])
def test_an_odd_embedding_is_refused(dim):
    with pytest.raises(ValueError, match=f"dimension {dim}, must be even"):
        preference_circle(["A"], np.ones((1, dim)))


def test_score_matrix_prints_every_score():
    axes = score_matrix(["A", "B"], np.array([[0.0, 1.5], [-1.5, -0.0]])).axes[0]
    assert texts(axes) == ["0.00", "1.50", "-1.50", "0.00"]
    with pytest.raises(ValueError, match=r"shape \(2, 2\), must be \(3, 3\)"):
        score_matrix(list("ABC"), np.zeros((2, 2)))


def test_bars_show_the_mean_over_seeds_and_the_ceiling():
    table = [
        {"model": "bt", "set": "letters", "accuracy": a, "ceiling": 0.75, "seed": i} for i, a in enumerate([0.7, 0.8])
    ]
    table += [{"model": "gpm", "set": "letters", "accuracy": 1.0}]
    axes = accuracy_bars(table).axes[0]
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [0.75, 1.0]
    assert texts(axes) == ["75.0 %", "100.0 %"]
    assert any(list(line.get_xdata()) == [0.75, 0.75] for line in axes.lines)
    with pytest.raises(ValueError, match="row 0 has no 'accuracy'"):
        accuracy_bars([{"model": "bt", "set": "a"}])


def test_curves_draw_the_quantities_that_are_there():
    records = [
        {"step": 1, "loss": 2.0, "note": "x"},
        {"step": 2, "loss": None},
        {"eval": {"dev": {"nll": 0.3}}, "step": 2},
    ]
    figure = learning_curves({"run": records})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["training loss", "negative log-likelihood (nats)"]
    with pytest.raises(ValueError, match="none of"):
        learning_curves({"run": [{"step": 1}]})


def test_the_last_line_of_a_repeated_step_counts():
    steps, values = series([{"step": 2, "loss": 1.0}, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 3.0}], "loss")
    assert steps.tolist() == [1, 2] and values.tolist() == [2.0, 3.0]


def test_moving_average_keeps_a_constant():
    np.testing.assert_allclose(moving_average(np.full(50, 3.0), 7), 3.0)


def test_calibration_needs_a_line():
    with pytest.raises(ValueError, match="hold no lines"):
        calibration_curve({"dev": []})
