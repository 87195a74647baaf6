"""Figures of merit: laws, and agreement with scipy and with counting by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from gpmjax.evals import metrics
from gpmjax.evals.intervals import wilson_interval

SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40)


def targets(rng, n):
    return rng.choice([1.0, 0.0, 0.5, 0.8], size=n)


@given(SCORES, st.integers(0, 2**31))
def test_the_order_of_a_comparisons_sides_does_not_matter(scores, seed):
    rng = np.random.default_rng(seed)
    score, target = np.array(scores), targets(rng, len(scores))
    chosen, rejected = rng.integers(1, 9, (2, len(score)))
    swap = rng.random(len(score)) < 0.5
    one = metrics.comparison_figures(score, target, 0.7, lengths={"tokens": (chosen, rejected)})
    other = metrics.comparison_figures(
        np.where(swap, -score, score),
        np.where(swap, 1 - target, target),
        0.7,
        lengths={"tokens": (np.where(swap, rejected, chosen), np.where(swap, chosen, rejected))},
    )
    for key in ("accuracy", "nll", "brier", "ece", "mean_margin"):
        assert one[key] == pytest.approx(other[key])
    assert one["longer_wins"] == other["longer_wins"]


@given(SCORES, st.integers(0, 2**31))
def test_every_comparison_is_counted_once(scores, seed):
    score = np.array(scores)
    target = targets(np.random.default_rng(seed), len(score))
    tags = [{"subset": "a" if s > 0 else "b"} for s in score]
    figures = metrics.comparison_figures(score, target, 1.0, tags=tags)
    assert figures["wins"] + figures["ties"] + figures["losses"] + figures["tied_labels"] == len(score)
    assert sum(line["count"] for line in figures["calibration"]) == len(score)
    parts = figures["by"]["subset"].values()
    for key in ("comparisons", "wins", "ties", "losses", "tied_labels"):
        assert sum(part[key] for part in parts) == figures[key]
    assert sum(part["nll"] * part["comparisons"] for part in parts) == pytest.approx(figures["nll"] * len(score))


def test_ties_count_half_and_tied_labels_are_counted_separately():
    figures = metrics.comparison_figures([1.0, 0.0, -1.0, 3.0], [1.0, 1.0, 1.0, 0.5], 1.0)
    assert (figures["wins"], figures["ties"], figures["losses"], figures["tied_labels"]) == (1, 1, 1, 1)
    assert figures["accuracy"] == 0.5
    assert figures["mean_margin"] == 0.0


def test_tie_width_widens_the_tie():
    score, target = [1e-7, -1e-7, 1.0], [1.0, 1.0, 1.0]
    assert metrics.count_outcomes(score, target) == (2, 0, 1)
    assert metrics.count_outcomes(score, target, tie_width=1e-6) == (1, 2, 0)


def test_tied_labels_alone_have_no_accuracy():
    figures = metrics.comparison_figures([1.0, -1.0], [0.5, 0.5], 1.0)
    assert figures["accuracy"] is None and figures["accuracy_interval"] is None and figures["mean_margin"] is None
    assert figures["nll"] > np.log(2)


@pytest.mark.parametrize(("wins", "trials"), [(0, 5), (5, 5), (7, 10), (512, 1000)])
def test_wilson_interval_is_scipys(wins, trials):
    expected = stats.binomtest(wins, trials).proportion_ci(confidence_level=0.95, method="wilson")
    np.testing.assert_allclose(wilson_interval(wins, trials), (expected.low, expected.high), atol=1e-12)


def test_a_model_with_the_true_probabilities_is_calibrated():
    rng = np.random.default_rng(0)
    score = rng.normal(size=40_000)
    target = (rng.random(len(score)) < special.expit(score / 0.5)).astype(float)
    calibrated = metrics.comparison_figures(score, target, 0.5)
    overconfident = metrics.comparison_figures(score, target, 0.1)
    assert calibrated["ece"] < 0.01 < 0.1 < overconfident["ece"]
    assert calibrated["nll"] < overconfident["nll"] and calibrated["brier"] < overconfident["brier"]


def test_calibration_of_soft_targets_by_hand():
    """A bin compares the mean confidence σ(|s|/τ) with the favoured side's mean target."""
    score = 2.0 * special.logit([0.72, 0.78, 0.95, 0.95, 0.5]) * [1, -1, 1, -1, 0]
    target = [0.9, 0.4, 0.5, 0.25, 0.8]
    table = metrics.calibration_table(score, target, 2.0, bins=5)
    expected = [(0.5, 0.6, 1, 0.5, 0.5), (0.7, 0.8, 2, 0.75, 0.75), (0.9, 1.0, 2, 0.95, 0.625)]
    found = [[line[name] for name in ("low", "high", "count", "confidence", "frequency")] for line in table]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert metrics.expected_calibration_error(table) == pytest.approx((0 * 1 + 0 * 2 + 0.325 * 2) / 5)
    # An edge belongs to the bin above it, and 1 to the last bin.
    assert [line["low"] for line in metrics.calibration_table([0.0, 1e9], [1.0, 1.0], 1.0, bins=2)] == [0.5, 0.75]
    (edge,) = metrics.calibration_table([float(special.logit(0.75))], [1.0], 1.0, bins=2)
    assert (edge["low"], edge["high"], edge["frequency"]) == (0.75, 1.0, 1.0)


def test_extreme_scores_stay_finite():
    figures = metrics.comparison_figures([1e6, -1e6], [1.0, 1.0], 0.1)
    assert figures["nll"] == pytest.approx(5e6)
    assert figures["brier"] == 0.5


def test_longer_wins_depends_on_lengths_and_not_on_scores():
    lengths = {"tokens": ([3, 5, 2], [1, 5, 4]), "characters": ([9, 9, 9], [1, 1, 1])}
    figures = metrics.comparison_figures([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], 1.0, lengths=lengths)
    assert figures["accuracy"] == 0.0
    assert figures["longer_wins"]["tokens"]["accuracy"] == 0.5
    assert figures["longer_wins"]["characters"]["accuracy"] == 1.0


def test_the_summary_is_strict_json_without_absent_tags():
    tags = [{"subset": "x"}, {"subset": None}, {}]
    figures = metrics.comparison_figures(np.float32([1, 2, 3]), np.float32([1, 1, 0.5]), np.float32(1), tags=tags)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert list(figures["by"]) == ["subset"] and figures["by"]["subset"]["x"]["comparisons"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(score=[], target=[], tau=1.0), "at least one comparison"),
        (dict(score=[1.0], target=[1.0, 0.0], tau=1.0), "target: 2 entries for 1 scores"),
        (dict(score=[1.0, np.nan], target=[1.0, 0.0], tau=1.0), "nan at comparison 1"),
        (dict(score=[1.0], target=[1.5], tau=1.0), r"target: 1.5 at comparison 0, must be in \[0, 1\]"),
        (dict(score=[1.0], target=[1.0], tau=0.0), "tau: 0.0, must be above 0"),
        (dict(score=[1.0], target=[1.0], tau=1.0, bins=0), "bins: 0"),
        (
            dict(score=[1.0], target=[1.0], tau=1.0, lengths={"tokens": ([1, 2], [1])}),
            r"lengths\[tokens\]\[0\]: 2 entries",
        ),
    ],
)
def test_errors_name_the_value(arguments, words):
    with pytest.raises(ValueError, match=words):
        metrics.comparison_figures(**arguments)
