"""Rank correlation of pairs: SciPy's Spearman over both orders, for any order of the responses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gpmjax.evals.diagnostics.correlation import correlate, rank_pairs


def skew_groups(seed, sizes, missing=0.0):
    draw = np.random.default_rng(seed)
    groups = []
    for size in sizes:
        x = draw.integers(-3, 4, (size, size)).astype(float)  # with ties
        hole = np.triu(draw.random((size, size)) < missing, 1)
        groups.append(np.where(hole | hole.T, np.nan, x - x.T))
    return groups


@given(st.integers(0, 99), st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_it_is_spearmans_rho_over_both_orders(seed, sizes):
    x, y = skew_groups(seed, sizes, missing=0.2), skew_groups(seed + 100, sizes, missing=0.2)
    off = [np.isfinite(a) & np.isfinite(b) & ~np.eye(len(a), dtype=bool) for a, b in zip(x, y, strict=True)]
    flat = [np.concatenate([a[m] for a, m in zip(side, off, strict=True)]) for side in (x, y)]
    found = correlate(rank_pairs(x, y))
    assert found["pairs"] == len(flat[0]) // 2
    if any(len(np.unique(side)) < 2 for side in flat):
        assert found["spearman"] is None
    else:
        assert found["spearman"] == pytest.approx(stats.spearmanr(*flat).statistic, abs=1e-12)


def test_order_of_responses_and_monotone_change_do_not_matter():
    x, y = skew_groups(0, [4, 5, 3]), skew_groups(1, [4, 5, 3])
    order = [[2, 0, 3, 1], [4, 3, 2, 1, 0], [1, 2, 0]]
    moved = [[a[np.ix_(o, o)] for a, o in zip(side, order, strict=True)] for side in (x, y)]
    expected = correlate(rank_pairs(x, y))
    assert correlate(rank_pairs(*moved))["spearman"] == pytest.approx(expected["spearman"])
    assert correlate(rank_pairs([a**3 for a in x], y)) == expected


def test_the_interval_contains_the_value_and_needs_two_groups():
    x = skew_groups(0, [4] * 30)
    noise = skew_groups(1, [4] * 30)
    found = correlate(rank_pairs(x, [a + b for a, b in zip(x, noise, strict=True)]))
    assert found["interval"][0] < found["spearman"] < found["interval"][1]
    assert correlate(rank_pairs(x[:1], x[:1])) == {"spearman": 1.0, "interval": None, "pairs": 6, "groups": 1}
    assert correlate(rank_pairs([], []))["spearman"] is None
