"""Order asymmetry: known parts give known residuals, and skew matrices give none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.symmetry import order_asymmetry

NAN = np.nan


def parts(seed, size=4):
    x = np.random.default_rng(seed).normal(size=(size, size))
    np.fill_diagonal(x, 0)
    return (x - x.T) / 2, (x + x.T) / 2


@given(st.integers(0, 99), st.floats(0, 10), st.floats(0.01, 100))
def test_skew_plus_symmetric_gives_the_known_residual(make_record, seed, share, factor):
    skew, symmetric = parts(seed)
    found = order_asymmetry([make_record(factor * (skew + share * symmetric))])
    sizes = np.square(skew).sum(), np.square(share * symmetric).sum()
    assert found["residual"]["value"] == pytest.approx(np.sqrt(sizes[1] / sum(sizes)), abs=1e-9)
    whole = factor * (skew + share * symmetric)
    norm = np.linalg.norm
    assert found["residual"]["value"] == pytest.approx(norm(whole + whole.T) / (norm(whole) + norm(whole.T)))


def test_skew_has_none(make_record, make_gpm_record):
    records = [make_record(parts(0)[0], [(0, 1)]), make_gpm_record(np.random.default_rng(0).normal(size=(3, 4)), [1, 2])]
    found = order_asymmetry(records)
    assert found["residual"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert (found["one_verdict"]["value"], found["first_place"]["value"], found["first_wins"]["value"]) == (1, 0, 0.5)
    assert found["pairs"] == 6 + 3 and len(set(found["accuracy"].values())) == 1


def test_a_model_that_only_sees_the_place(make_record):
    found = order_asymmetry([make_record(np.full((3, 3), 2.0), [(0, 1)])] * 3)
    assert (found["residual"]["value"], found["one_verdict"]["value"]) == (1, 0)
    assert (found["first_place"]["value"], found["first_wins"]["value"]) == (4, 1)
    assert found["accuracy"] == {"chosen_first": 1.0, "rejected_first": 0.0, "both": 0.0}


def test_ties_in_both_orders_agree_and_in_one_do_not(make_record):
    scores = [[0, 0, 0], [0, 0, 3], [1, -1, 0]]
    found = order_asymmetry([make_record(scores, [(0, 1), (2, 0), (1, 2), (2, 1, 0.5)])])
    assert found["one_verdict"]["value"] == 2 / 3  # 0–1 tied twice, 0–2 tied once, 1–2 one winner
    assert found["accuracy"] == {"chosen_first": 2.5 / 3, "rejected_first": 2 / 3, "both": 1 / 3}
    assert found["first_wins"]["value"] == pytest.approx((0.5 + 0.5 + 0.5 + 1 + 1 + 0) / 6)


def test_only_pairs_of_both_orders_count(make_record):
    scores = [[0, 1, NAN], [-1, 0, 5], [7, NAN, 0]]
    found = order_asymmetry([make_record(scores, [(0, 1), (1, 2)]), make_record([[0, 1], [NAN, 0]])])
    assert (found["pairs"], found["groups"], found["residual"]["value"]) == (1, 1, 0)
    nothing = order_asymmetry([make_record([[0, 1], [NAN, 0]], [(0, 1)])])
    assert nothing["pairs"] == 0 and nothing["residual"]["value"] is None and nothing["accuracy"]["both"] is None


def test_names_do_not_matter(make_record, relabelled):
    skew, symmetric = parts(2)
    record = make_record(skew + symmetric, [(0, 1), (3, 2)])
    moved = order_asymmetry([relabelled(record, [3, 1, 0, 2])])
    for name in ("residual", "one_verdict", "first_place", "first_wins"):
        assert moved[name]["value"] == pytest.approx(order_asymmetry([record])[name]["value"])
    assert moved["accuracy"] == order_asymmetry([record])["accuracy"]


def test_silence_is_skew(make_record):
    assert order_asymmetry([make_record(np.zeros((2, 2)))] * 2)["residual"]["value"] == 0
