"""Position bias: known parts give known residuals, and skew matrices give none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.symmetry import order_asymmetry

NAN = np.nan
FIGURES = ("skew_residual", "consistent", "first_wins", "mean_gap")


def parts(seed, size=4):
    x = np.random.default_rng(seed).normal(size=(size, size))
    np.fill_diagonal(x, 0)
    return (x - x.T) / 2, (x + x.T) / 2


def values(found):
    return [found[name]["value"] for name in FIGURES]


@given(st.integers(0, 99), st.floats(0, 10), st.floats(0.01, 100))
def test_skew_plus_symmetric_gives_the_known_residual(make_record, seed, share, factor):
    skew, symmetric = parts(seed)
    whole = factor * (skew + share * symmetric)
    found = order_asymmetry([make_record(whole)])["skew_residual"]["value"]
    sizes = np.square(skew).sum(), np.square(share * symmetric).sum()
    assert found == pytest.approx(np.sqrt(sizes[1] / sum(sizes)), abs=1e-9)
    norm = np.linalg.norm
    assert found == pytest.approx(norm(whole + whole.T) / (norm(whole) + norm(whole.T)))


def test_skew_scores_have_no_residual(make_record, make_gpm_record):
    records = [
        make_record(parts(0)[0], [(0, 1)]),
        make_gpm_record(np.random.default_rng(0).normal(size=(3, 4)), [1, 2]),
    ]
    found = order_asymmetry(records)
    assert found["skew_residual"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert values(found) == [0, 1, 0.5, 0] and found["pairs"] == 6 + 3
    assert found["labelled"]["accuracy_one_order"] == found["labelled"]["accuracy_both_orders"]


def test_a_model_that_always_prefers_the_first_response(make_record):
    found = order_asymmetry([make_record(np.full((3, 3), 2.0), [(0, 1)])] * 3)
    assert values(found) == pytest.approx([1, 0, 1, 4])
    assert found["labelled"]["accuracy_one_order"] == 0.5 and found["labelled"]["accuracy_both_orders"] == 0


def test_raw_scores_count_before_symmetrising(make_record):
    skew, symmetric = parts(1)
    raw, even = make_record(skew + symmetric, [(0, 1)]), make_record(skew, [(0, 1)])
    assert order_asymmetry([even | {"asked": raw["scores"]}] * 2) == order_asymmetry([raw] * 2)


def test_ties_in_both_orders_agree_and_in_one_do_not(make_record):
    scores = [[0, 0, 0], [0, 0, 3], [1, -1, 0]]
    found = order_asymmetry([make_record(scores, [(0, 1), (2, 0), (1, 2), (2, 1, 0.5)])])
    assert found["consistent"]["value"] == pytest.approx(2 / 3)  # 0–1 tied twice, 0–2 tied once, 1–2 one winner
    assert found["labelled"]["accuracy_one_order"] == pytest.approx((2.5 + 2) / 6)
    assert found["labelled"]["accuracy_both_orders"] == pytest.approx(1 / 3) and found["labelled"]["comparisons"] == 4
    assert found["first_wins"]["value"] == pytest.approx((0.5 + 0.5 + 0.5 + 1 + 1 + 0) / 6)


def test_only_pairs_of_both_orders_count(make_record):
    scores = [[0, 1, NAN], [-1, 0, 5], [7, NAN, 0]]
    found = order_asymmetry([make_record(scores, [(0, 1), (1, 2)]), make_record([[0, 1], [NAN, 0]])])
    assert (found["pairs"], found["groups"], found["labelled"]["comparisons"]) == (1, 1, 1)
    assert found["skew_residual"] == {"value": 0.0, "interval": None}
    nothing = order_asymmetry([make_record([[0, 1], [NAN, 0]], [(0, 1)])])
    assert nothing == {"pairs": 0, "groups": 0, **dict.fromkeys(FIGURES), "labelled": None}


def test_intervals_contain_the_values(make_record):
    found = order_asymmetry([make_record(sum(parts(seed)) + 0.3) for seed in range(40)])
    for name in FIGURES:
        low, high = found[name]["interval"]
        assert low < found[name]["value"] < high


def test_the_order_of_responses_does_not_matter(make_record, relabelled):
    skew, symmetric = parts(2)
    record = make_record(skew + symmetric, [(0, 1), (3, 2)])
    moved, found = order_asymmetry([relabelled(record, [3, 1, 0, 2])]), order_asymmetry([record])
    assert values(moved) == pytest.approx(values(found)) and moved["labelled"] == pytest.approx(found["labelled"])


def test_scores_of_zero_are_skew(make_record):
    assert order_asymmetry([make_record(np.zeros((2, 2)))] * 2)["skew_residual"] == {
        "value": 0.0,
        "interval": [0.0, 0.0],
    }
