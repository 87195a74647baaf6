"""The test of cycles: exact on hand-made sets, few false positives under the null, powerful where there are cycles."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from gpmjax.preference import cycle_statistic
from gpmjax.preference.bradley_terry import fit_bradley_terry
from gpmjax.preference.cycle_test import cycle_test
from gpmjax.preference.votes import blocks

TRIANGLE = [(0, 1, 1), (1, 2, 1), (2, 0, 1)]


def simulate(seed, groups, size, *, votes=1, spread=1.0, cyclic=0.0, pairs=None):
    """Rows of every pair, or of ``pairs`` random ones per group, and the cyclic log-odds of each row."""
    rng = np.random.default_rng(seed)
    rows, cycles = [], []
    for _ in range(groups):
        a, b = rng.normal(size=(2, size))
        a, b = a - a.mean(), b - b.mean()
        turn = cyclic * (np.outer(a, b) - np.outer(b, a))
        reward = spread * rng.normal(size=size)
        every = list(itertools.combinations(range(size), 2))
        every = [every[n] for n in sorted(rng.permutation(len(every))[:pairs])]
        log_odds = reward[:, None] - reward[None, :] + turn
        rows.append([(i, j, rng.binomial(votes, expit(log_odds[i, j])) / votes, 1.0, votes) for i, j in every])
        cycles.append([turn[i, j] for i, j in every])
    return rows, cycles


def test_rock_paper_scissors_of_fifty_votes_has_the_smallest_p_that_the_replicates_allow():
    rock = [(i, j, 0.9, 1.0, 50) for i, j, _ in TRIANGLE]
    found = cycle_test([rock], replicates=99)
    assert found["p"] == 1 / 100 and "found" in found["text"] and "none" not in found["text"]
    assert found["triads"] | {"expected": 0, "deviation": 0} == {"triads": 1, "seen": 1, "expected": 0, "deviation": 0}


def test_one_cycle_of_single_votes_is_chance_and_fifty_are_not():
    assert cycle_test([TRIANGLE], replicates=99)["p"] > 0.1
    many = cycle_test([TRIANGLE] * 50, replicates=99)
    assert many["p"] == 1 / 100 and many["triads"]["seen"] == 50
    assert many["triads"]["expected"] == pytest.approx(12.5, abs=2)  # of coin tosses, a quarter


def test_labels_that_are_bradley_terry_without_noise_hold_no_cycle():
    reward = np.array([1.0, 0.4, 0.4, -0.3, -1.5])
    exact = [(i, j, expit(reward[i] - reward[j])) for i, j in itertools.combinations(range(5), 2)]
    ties = [(i, j, 0.5) for i, j in itertools.combinations(range(5), 2)]
    order = [(i, j, 1) for i, j in itertools.combinations(range(5), 2)]
    for rows in (exact, ties, order):
        found = cycle_test([rows] * 5, replicates=39)
        assert found["p"] > 0.2 and "none found" in found["text"], rows


@pytest.mark.parametrize("spread", [0.7, 3.0])
def test_noise_makes_as_many_cyclic_triads_as_a_transitive_set_has(spread):
    found = cycle_test(simulate(9, 12, 12, spread=spread)[0], replicates=39)["triads"]
    assert found["triads"] == 12 * 220
    assert abs(found["seen"] - found["expected"]) < 3 * found["deviation"] < 0.1 * found["triads"]
    assert found["expected"] < (0.22 if spread < 1 else 0.08) * found["triads"]  # coin tosses: 0.25


def test_the_result_does_not_depend_on_names_of_responses_or_order_of_groups():
    rows, cycles = simulate(0, 4, 5, votes=2, cyclic=0.8)
    names = np.random.default_rng(1).permutation(5)
    renamed = [[(names[i], names[j], *rest) for i, j, *rest in group] for group in rows][::-1]
    for directions, turned in ((None, None), (cycles, cycles[::-1])):
        assert cycle_test(renamed, directions=turned, replicates=19) == cycle_test(
            rows, directions=directions, replicates=19
        )


def test_which_side_a_row_names_first_does_not_change_the_statistic():
    rows, cycles = simulate(3, 3, 6, votes=1, cyclic=0.8)
    turned = [[(j, i, 1 - t) for i, j, t, *_ in group] for group in rows]
    against = [[-c for c in group] for group in cycles]
    for one, other in ((None, None), (cycles, against)):
        first = cycle_test(rows, directions=one, replicates=1)["statistic"]
        assert cycle_test(turned, directions=other, replicates=1)["statistic"] == pytest.approx(first, abs=1e-4)


def test_votes_of_a_pair_may_come_as_one_row_or_as_many():
    rows, _ = simulate(4, 3, 5, votes=3, cyclic=0.5)
    apart = [[(i, j, float(v < round(t * n))) for i, j, t, _, n in group for v in range(n)] for group in rows]
    one, many = cycle_test(rows, replicates=1), cycle_test(apart, replicates=1)
    assert (
        many["statistic"] == pytest.approx(one["statistic"], abs=1e-4)
        and many["triads"]["seen"] == one["triads"]["seen"]
    )
    assert (one["comparisons"], many["comparisons"]) == (30, 90)


def test_a_weight_counts_in_the_fit_and_not_as_votes():
    (light,), _ = simulate(5, 1, 4)
    heavy = [(i, j, t, 50.0, n) for i, j, t, _, n in light]
    assert cycle_test([[(i, j, 1, 50.0) for i, j, _ in TRIANGLE]], replicates=99)["p"] > 0.1
    assert cycle_test([heavy], replicates=1)["ridge"] != cycle_test([light], replicates=1)["ridge"]


def test_cycles_of_soft_labels_are_found():
    rows, cycles = simulate(6, 10, 8, spread=0.0, cyclic=1.5)
    soft = [
        [(i, j, expit(c)) for (i, j, *_), c in zip(group, turn, strict=True)]
        for group, turn in zip(rows, cycles, strict=True)
    ]
    assert cycle_test(soft, replicates=39)["p"] == 1 / 40


def test_undefeated_responses_and_separate_parts_are_not_taken_for_cycles():
    parts = [(0, 1, 1), (0, 2, 1), (1, 2, 1), (3, 4, 1), (4, 5, 1), (3, 5, 1)]
    found = cycle_test([parts] * 10, replicates=19)
    assert found["p"] > 0.2 and found["groups"] == 10 and found["triads"]["triads"] == 20


@pytest.mark.parametrize("groups", [[], [[(0, 1, 1)]], [[(0, 1, 1), (1, 2, 1)], [(0, 1, 1), (0, 1, 0)]]])
def test_where_no_comparisons_close_a_cycle_there_is_nothing_to_test(groups):
    found = cycle_test(groups)
    assert (
        found["p"] is None
        and "no comparisons close a cycle" in found["text"]
        and found["left_out"] == sum(map(len, groups))
    )
    assert cycle_test([TRIANGLE, *groups], replicates=1)["left_out"] == sum(map(len, groups))


def test_without_replicates_there_is_no_test():
    with pytest.raises(ValueError, match="replicates=0: must be at least 1"):
        cycle_test([TRIANGLE], replicates=0)


def test_a_vote_held_out_is_predicted_from_the_others_alone():
    """The one-step formula is near a fit without the vote; the features are the sums over paths and over votes."""
    (rows,), _ = simulate(7, 1, 5, votes=4)
    (block,) = blocks([rows])
    features, wins, total = cycle_statistic.held_out_votes(block, block.wins[None], 0.5, False)
    exact, residuals = [], []
    for won in (1, 0):
        for m in range(len(block.i)):
            votes, left = block.votes.astype(float), block.wins.copy()
            votes[m], left[m] = votes[m] - 1, left[m] - won
            up = block.matrix((left - votes / 2)[None], -1) + block.matrix(votes[None] / 2, 1)
            reward = fit_bradley_terry(up, block.matrix(votes[None], 1)[0], 0.5).reward[0, 0]
            exact.append(reward[block.i[m]] - reward[block.j[m]])
            residuals.append(left[m] - votes[m] * expit(exact[-1]))
    possible = total[0] > 0  # a vote for i cannot be left out where there is none
    assert np.abs(features[0, :, 0] - exact)[possible].max() < 0.05
    assert np.abs(features[0, :, 1] - residuals)[possible].max() < 0.05
    fitted = fit_bradley_terry(
        cycle_statistic.weighted_wins(block, block.wins[None]), block.matrix(block.votes[None] * 1.0, 1)[0], 0.5
    )
    e = block.matrix((block.wins - block.votes * block.pick(fitted.probability)[0])[None], -1)[0, 0]
    for record, (i, j) in enumerate(zip(block.i, block.j, strict=True)):
        others = [n for n in range(5) if n not in (i, j)]
        paths = -sum(e[i, k] * e[k, m] * e[m, j] for k, m in itertools.permutations(others, 2))
        assert features[0, record, 2] == pytest.approx(paths) == features[0, record + 10, 2]
    assert total.sum() == 40 and wins.sum() == block.wins.sum()


@pytest.mark.parametrize(
    ("groups", "size", "votes", "pairs"),
    [(5, 8, 1, None), (20, 4, 2, None)],
)
def test_false_positives_are_few(groups, size, votes, pairs):
    """With a rate of 5 %, 6 or more of 30 sets have a probability of 0.3 %; the benchmark draws thousands of sets."""
    p = [
        cycle_test(simulate(seed, groups, size, votes=votes, pairs=pairs)[0], replicates=19)["p"] for seed in range(30)
    ]
    assert np.sum(np.array(p) <= 0.05) < 6 and np.median(p) > 0.25


@pytest.mark.parametrize(
    ("groups", "size", "votes", "cyclic"),
    [(6, 12, 1, 2.0), (40, 3, 8, 1.5), (4, 8, 5, 1.0)],
)
def test_cycles_are_found(groups, size, votes, cyclic):
    p = [
        cycle_test(simulate(seed, groups, size, votes=votes, cyclic=cyclic)[0], replicates=19)["p"] for seed in range(5)
    ]
    assert np.max(p) <= 0.05


def test_a_models_cycles_are_found_in_labels_in_which_the_plain_test_finds_none():
    for seed in range(3):
        rows, cycles = simulate(seed, 60, 3, cyclic=1.5)
        other = simulate(seed + 99, 60, 3, cyclic=1.5)[1]
        assert cycle_test(rows, directions=cycles, replicates=19)["p"] == 1 / 20
        assert (
            cycle_test(rows, replicates=19)["p"] > 1 / 20
            and cycle_test(rows, directions=other, replicates=19)["p"] > 1 / 20
        )
    nothing = cycle_test(rows, directions=[np.zeros(3)] * 60)
    assert nothing["p"] is None and "no labelled pair is on a cycle of the model" in nothing["text"]
