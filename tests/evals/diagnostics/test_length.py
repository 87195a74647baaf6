"""Length bias: a scorer of length alone, a scorer of labels alone, and laws of the regression."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from gpmjax.evals.diagnostics.length import PRIOR, length_bias, regress


def scored(make_record, seed, scorer):
    """Twenty groups of three with random labels; ``scorer`` gets a group's lengths and ranks."""
    draw = np.random.default_rng(seed)
    records = []
    for _ in range(20):
        tokens, good = draw.integers(1, 200, 3), draw.permutation(3)
        comparisons = [(int(i), int(j)) for i in range(3) for j in range(3) if good[i] > good[j]]
        reward = scorer(tokens, good)
        scores = np.subtract.outer(reward, reward)
        records.append(make_record(scores, comparisons, tokens=tokens.tolist(), characters=(4 * tokens).tolist()))
    return records


def test_a_scorer_of_length_alone(make_record):
    found = length_bias(scored(make_record, 0, lambda tokens, good: tokens))
    for unit in ("tokens", "characters"):
        figures = found[unit]
        assert figures["correlation"]["spearman"] == pytest.approx(1) and figures["correlation"]["pairs"] == 60
        assert figures["longer_right"]["accuracy"] == 1 and figures["shorter_right"]["accuracy"] == 0
        assert figures["longer_right"]["comparisons"] + figures["shorter_right"]["comparisons"] + figures["equal"] == 60
        length, label = figures["regression"]["length"], figures["regression"]["label"]
        assert length["interval"][0] > 2 and label["interval"][0] < 0 < label["interval"][1]


def test_preferring_shorter_responses_reverses_the_signs(make_record):
    longer, shorter = (length_bias(scored(make_record, 0, lambda t, _, s=sign: s * t))["tokens"] for sign in (1, -1))
    assert shorter["correlation"]["spearman"] == pytest.approx(-1)
    mirrored = -longer["regression"]["length"]["coefficient"]
    assert shorter["regression"]["length"]["coefficient"] == pytest.approx(mirrored, abs=1e-4)


def test_a_scorer_of_labels_alone(make_record):
    figures = length_bias(scored(make_record, 1, lambda tokens, good: good))["tokens"]
    assert figures["longer_right"]["accuracy"] == figures["shorter_right"]["accuracy"] == 1
    assert figures["regression"]["label"]["interval"][0] > 2
    assert abs(figures["regression"]["length"]["coefficient"]) < 1
    assert figures["correlation"]["interval"][0] < 0 < figures["correlation"]["interval"][1]


def test_known_coefficients_are_recovered():
    draw = np.random.default_rng(0)
    difference, side = draw.normal(0, 30, 20_000), draw.choice([-1.0, 1.0], 20_000)
    logit = 0.8 * difference / np.sqrt(np.mean(difference**2)) + 0.3 * side
    score = np.where(draw.random(20_000) < special.expit(logit), 1.0, -1.0)
    found = regress(score, side, difference, np.arange(20_000))
    for name, truth in (("length", 0.8), ("label", 0.3)):
        low, high = found[name]["interval"]
        assert low < truth < high and high - low < 0.1
    assert found["scale"] == pytest.approx(30, rel=0.02)


def test_repeated_pairs_of_a_group_do_not_narrow_the_interval():
    draw = np.random.default_rng(0)
    score, difference, side = draw.choice([-1.0, 1.0], 200), draw.normal(size=200), draw.choice([-1.0, 1.0], 200)
    once = regress(score, side, difference, np.arange(200))["length"]
    repeated = [np.repeat(values, 9) for values in (score, side, difference)]
    clustered = regress(*repeated, np.repeat(np.arange(200), 9))["length"]
    independent = regress(*repeated, np.arange(1800))["length"]
    width, of_clustered, of_independent = (np.diff(each["interval"])[0] for each in (once, clustered, independent))
    assert of_clustered == pytest.approx(width, rel=0.01) and of_independent == pytest.approx(width / 3, rel=0.01)


@given(st.integers(0, 99), st.floats(0.01, 1000))
def test_sides_and_units_are_arbitrary(seed, factor):
    draw = np.random.default_rng(seed)
    score, difference, side = draw.normal(size=30), draw.normal(size=30), draw.choice([-1.0, 0.0, 1.0], 30)
    swap = draw.choice([-1.0, 1.0], 30)
    expected = regress(score, side, difference, np.arange(30))
    found = regress(score * swap, side * swap, difference * swap * factor, np.arange(30))
    for name in ("length", "label"):
        assert found[name]["coefficient"] == pytest.approx(expected[name]["coefficient"], abs=1e-4)
        assert found[name]["interval"] == pytest.approx(expected[name]["interval"], abs=1e-4)


def test_the_gradient_is_zero_at_the_solution():
    draw = np.random.default_rng(3)
    score, difference, side = draw.normal(size=50), draw.normal(size=50), draw.choice([-1.0, 1.0], 50)
    found = regress(score, side, difference, np.arange(50))
    beta = np.array([found[name]["coefficient"] for name in ("length", "label")])
    inputs = np.stack([difference / found["scale"], side], axis=1)
    slope = inputs.T @ (special.expit(inputs @ beta) - (score > 0)) + beta / PRIOR**2
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_equal_lengths_and_missing_labels_have_no_regression(make_record):
    found = length_bias([make_record([[0, 1], [-1, 0]], [(0, 1)])] * 2)["tokens"]
    assert found["regression"] is None and found["correlation"]["spearman"] is None and found["equal"] == 2
    found = length_bias([make_record([[0, 1], [-1, 0]], tokens=[1, 2])])["tokens"]
    assert found["regression"] is None and found["longer_right"] == {
        "comparisons": 0,
        "accuracy": None,
        "interval": None,
    }


def test_one_group_has_no_interval():
    found = regress(np.array([1.0, -1, 1]), np.ones(3), np.array([1.0, 2, -1]), np.zeros(3))
    assert found["length"]["interval"] is None and found["label"]["interval"] is None
