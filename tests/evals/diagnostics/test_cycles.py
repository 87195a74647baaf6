"""Cyclic triads and cyclic energy: exact values of small games, and laws of any game."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.evals.diagnostics.cycles import count_triads, energy
from gpmjax.preference.game import cyclic_share, decompose

NAN = np.nan
ROCK_PAPER_SCISSORS = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], float)
REWARDS = np.subtract.outer([3.0, 1.0, -2.0, 0.5], [3.0, 1.0, -2.0, 0.5])


def random_skew(seed, size):
    x = np.random.default_rng(seed).normal(size=(size, size))
    return x - x.T


def test_rock_paper_scissors_is_entirely_cyclic(make_record):
    records = [make_record(ROCK_PAPER_SCISSORS), make_record(ROCK_PAPER_SCISSORS * 7)]
    assert count_triads(records)["share"] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert energy(records)["cyclic"]["value"] == 1 and energy(records)["transitive"] == 0


def test_rewards_have_no_cycle(make_record):
    found = count_triads([make_record(REWARDS)])
    assert (found["triads"], found["cyclic"], found["transitive"], found["groups_with_cycle"]) == (4, 0, 4, 0)
    assert energy([make_record(REWARDS)])["cyclic"]["value"] == pytest.approx(0, abs=1e-12)


def test_triads_of_all_groups_are_pooled_and_the_interval_draws_groups(make_record):
    found = count_triads([make_record(ROCK_PAPER_SCISSORS), make_record(REWARDS)])
    assert found["share"]["value"] == 1 / 5 and found["share"]["interval"] == [0.0, 1.0]
    assert (found["groups"], found["groups_with_cycle"]) == (2, 1)


def test_a_tied_triad_is_counted_separately(make_record):
    scores = np.array([[0, 1, 0], [-1, 0, 1], [0, -1, 0]], float)
    found = count_triads([make_record(scores)])
    assert (found["tied"], found["cyclic"], found["transitive"]) == (1, 0, 0) and found["share"]["value"] == 0


def test_incomplete_triads_and_groups_are_left_out_and_counted(make_record):
    scores = REWARDS.copy()
    scores[0, 1] = scores[1, 0] = NAN
    found = count_triads([make_record(scores), make_record([[0, NAN], [NAN, 0]])])
    assert (found["triads"], found["incomplete"], found["groups"]) == (2, 2, 1)
    found = energy([make_record(scores)])
    assert (found["groups"], found["incomplete"], found["cyclic"]["value"]) == (0, 1, None)


def test_one_order_of_a_pair_is_enough(make_record):
    upper = np.where(np.triu(np.ones((3, 3), bool)), ROCK_PAPER_SCISSORS, NAN)
    assert count_triads([make_record(upper)])["cyclic"] == 1 and energy([make_record(upper)])["transitive"] == 0


def test_pooled_energy_weights_groups_by_size_and_the_mean_does_not(make_record):
    records = [make_record(ROCK_PAPER_SCISSORS * 2), make_record(np.sign(REWARDS[:3, :3]) * 0), make_record(REWARDS)]
    found = energy(records)
    total = 6 * 4 + np.square(REWARDS).sum()
    assert found["cyclic"]["value"] == pytest.approx(24 / total) and found["transitive"] == pytest.approx(
        1 - 24 / total
    )
    assert found["mean_cyclic"]["value"] == pytest.approx(0.5) and (found["groups"], found["zero"]) == (2, 1)
    assert found["by_chance"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert found["histogram"]["counts"][0] == 1 and found["histogram"]["counts"][-1] == 1


def test_groups_of_two_do_not_count(make_record):
    pair = make_record([[0, 1], [-1, 0]])
    assert count_triads([pair])["triads"] == 0 and energy([pair])["groups"] == 0
    assert count_triads([])["share"]["value"] is None and energy([])["mean_cyclic"]["value"] is None


def test_noise_has_the_cyclic_share_of_dimensions(make_record):
    draws = np.random.default_rng(5).normal(size=(500, 5, 5))
    found = energy([make_record(x - x.T) for x in draws])
    low, high = found["mean_cyclic"]["interval"]
    assert low < found["by_chance"] < high and found["by_chance"] == pytest.approx(3 / 5)


@given(st.integers(0, 999), st.integers(3, 6), st.floats(1e-30, 1e30), st.randoms())
def test_order_and_units_do_not_matter(make_record, relabelled, seed, size, factor, random):
    scores = random_skew(seed, size)
    record, order = make_record(scores), random.sample(range(size), size)
    changed = relabelled(make_record(scores * factor), order)
    assert count_triads([record]) == count_triads([changed])
    assert energy([changed])["cyclic"]["value"] == pytest.approx(energy([record])["cyclic"]["value"], abs=1e-9)


@given(st.integers(0, 999), st.integers(3, 7))
def test_counts_are_those_of_enumeration(make_record, seed, size):
    scores = np.round(random_skew(seed, size))
    kinds = [
        abs(sum(np.sign([scores[i, j], scores[j, k], scores[k, i]])))
        for i, j, k in itertools.combinations(range(size), 3)
    ]
    tied = sum(
        not (scores[i, j] and scores[j, k] and scores[k, i]) for i, j, k in itertools.combinations(range(size), 3)
    )
    found = count_triads([make_record(scores)])
    assert (found["cyclic"], found["tied"], found["triads"]) == (kinds.count(3), tied, len(kinds))


@pytest.mark.parametrize("size", [3, 4, 7])
def test_figures_are_those_of_preference_game(make_record, size):
    scores = random_skew(size, size)
    transitive, cyclic = decompose(scores)
    assert energy([make_record(scores)])["cyclic"]["value"] == pytest.approx(
        float(cyclic / (transitive + cyclic)), abs=1e-5
    )
    assert count_triads([make_record(scores)])["share"]["value"] == pytest.approx(float(cyclic_share(scores)), abs=1e-6)
