"""A plan has every group once, rows within their capacity, batches of equal size; seed and epoch alone determine it."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gpmjax.data import packing
from gpmjax.data.mixture import mixture
from gpmjax.data.packing import permutation, plan

SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(0, 6)), max_size=60)
CAPACITY = (20, 7, 9)


def flat(batches):
    return [i for batch in batches for row in batch for i in row]


@given(
    sizes=SIZES,
    rows=st.integers(1, 8),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
    order=st.sampled_from(packing.ORDERS),
    how=st.sampled_from(packing.PACKINGS),
)
def test_every_group_once_within_capacity_equal_rows(sizes, rows, seed, epoch, order, how):
    options = dict(capacity=CAPACITY, rows_per_batch=rows, seed=seed, epoch=epoch, order=order, packing=how)
    batches = plan(sizes, **options)
    assert sorted(flat(batches)) == list(range(len(sizes)))
    assert all(len(batch) == rows for batch in batches)
    filled = [sum(bool(row) for row in batch) for batch in batches]
    assert max(filled, default=0) - min(filled, default=0) <= 1 and min(filled, default=1) > 0
    for batch in batches:
        for row in batch:
            assert not row or all(np.sum([sizes[i] for i in row], axis=0) <= CAPACITY)
            assert how == "pack" or len(row) <= 1
    assert plan(sizes, **options) == batches


@given(rows=st.integers(1, 8), real=st.integers(1, 8))
def test_empty_rows_are_spread_over_hosts(rows, real):
    """However a batch is divided among hosts, they get equally many filled rows (± 1)."""
    real = min(real, rows)
    (batch,) = plan([(20, 1, 1)] * real, capacity=CAPACITY, rows_per_batch=rows)
    for hosts in (h for h in range(1, rows + 1) if rows % h == 0):
        share = [sum(bool(row) for row in batch[h * rows // hosts : (h + 1) * rows // hosts]) for h in range(hosts)]
        assert max(share) - min(share) <= 1


def test_shuffles_by_seed_and_epoch():
    sizes = [(5, 2, 1)] * 50
    plans = [plan(sizes, capacity=CAPACITY, rows_per_batch=4, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert plans[0] != plans[1] != plans[2] != plans[0]
    ordered = [plan(sizes, capacity=CAPACITY, rows_per_batch=4, seed=s, epoch=s, order="ordered") for s in (0, 1)]
    assert ordered[0] == ordered[1]


def test_dense_and_random_across_windows(monkeypatch):
    monkeypatch.setattr(packing, "_WINDOW", 64)
    sizes = np.stack([np.random.default_rng(0).integers(1, 12, 400), np.full(400, 2), np.full(400, 1)], axis=1)
    batches = plan(sizes, capacity=(24, 99, 99), rows_per_batch=2)
    assert sizes[:, 0].sum() / (24 * 2 * len(batches)) > 0.93
    assert sorted(flat(batches)) == list(range(400))
    mean_lengths = [np.mean(sizes[flat([batch]), 0]) for batch in batches]
    assert abs(np.corrcoef(mean_lengths, np.arange(len(batches)))[0, 1]) < 0.2  # long groups are not all first


def test_every_window_is_shuffled_by_its_own_key(monkeypatch):
    """With one group in a row and equal windows, a single key would give every window the same order."""
    monkeypatch.setattr(packing, "_WINDOW", 16)
    sizes = [(20, 1, 1)] * 64
    (batch,) = plan(sizes, capacity=CAPACITY, rows_per_batch=64)
    ids = permutation(64, 0, 0, 0)
    # Groups of equal size are packed in the window's order, so the index of a row in it is that of its group.
    windows = [
        [ids[w * 16 : w * 16 + 16].tolist().index(row[0]) for row in batch[w * 16 : w * 16 + 16]] for w in range(4)
    ]
    assert windows == [permutation(16, 0, 0, 1 + w).tolist() for w in range(4)]
    assert len({tuple(window) for window in windows}) == 4


def test_permutation_never_changes():
    assert permutation(12, 7, 1).tolist() == [7, 9, 10, 11, 6, 1, 4, 8, 3, 2, 5, 0]


def test_too_large_groups_and_unknown_orders_are_refused():
    with pytest.raises(
        ValueError, match="group 1 takes 21 tokens, 2 responses, 1 comparisons, more than a row's 20 tokens"
    ):
        plan([(3, 2, 1), (21, 2, 1)], capacity=CAPACITY, rows_per_batch=1)
    with pytest.raises(ValueError, match="order='random'"):
        plan([], capacity=CAPACITY, rows_per_batch=1, order="random")


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.1, 9), min_size=4, max_size=4),
    seed=st.integers(0, 9),
)
def test_mixture_shares_and_even_use(counts, weights, seed):
    weights = weights[: len(counts)]
    total, epochs = sum(counts), 6
    drawn = [mixture(counts, weights, seed=seed, epoch=epoch) for epoch in range(epochs)]
    source = np.repeat(np.arange(len(counts)), counts)
    for ids in drawn:
        assert len(ids) == total
        share = np.bincount(source[ids], minlength=len(counts))
        assert np.all(np.abs(share - total * np.array(weights) / sum(weights)) < 1)
    used = np.bincount(np.concatenate(drawn), minlength=total)
    for s in range(len(counts)):
        assert np.ptp(used[source == s]) <= 1


def test_mixture_without_weights_and_refusals():
    assert mixture([2, 3], None, seed=0, epoch=5).tolist() == [0, 1, 2, 3, 4]
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="must be one positive number for each of the 2 sources"):
            mixture([2, 3], weights, seed=0, epoch=0)


def test_a_negative_seed_is_named():
    with pytest.raises(ValueError, match="^seed=-1: must be at least 0$"):
        plan(np.array([[1, 1, 1]]), capacity=(1, 1, 1), rows_per_batch=1, seed=-1)
