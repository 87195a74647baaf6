"""The game of a score matrix: its equilibrium is a linear program's; its share of cycles is that of counting."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.optimize import linprog

from gpmjax.preference.game import (
    best_of,
    cyclic_share,
    decompose,
    exploitability,
    hodge_decomposition,
    von_neumann_winner,
)
from gpmjax.preference.score import pairwise_rewards

ROCK_PAPER_SCISSORS = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.float32)
RULES = ("maximal_lottery", "copeland", "mean_score")

# Half-integers make ties and many equilibria; one size of matrices needs one compilation.
MATRICES = npst.arrays(np.float32, (5, 5), elements=st.integers(-6, 6).map(lambda n: n / 2)).map(lambda X: X - X.T)


def random_scores(*shape: int, seed: int = 0) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(*shape, shape[-1])).astype(np.float32)
    return X - X.swapaxes(-1, -2)


def by_linear_program(scores: np.ndarray) -> np.ndarray:
    """The p of max v subject to (pᵀS)_j ≥ v, with p a distribution; solved in float64 by HiGHS."""
    K = len(scores)
    constraints = np.c_[-scores.T, np.ones(K)].astype(np.float64)
    sums = [np.r_[np.ones(K), 0.0]]
    bounds = [(0, None)] * K + [(None, None)]
    solved = linprog(np.r_[np.zeros(K), -1.0], constraints, np.zeros(K), sums, [1.0], bounds)
    assert solved.success and abs(solved.fun) < 1e-7  # the value of a symmetric game
    return solved.x[:K]


@pytest.mark.parametrize("K", [1, 2, 3, 5, 8, 16])
def test_the_winner_is_the_linear_programs(K):
    """Continuous random scores have a unique equilibrium, so both methods must find the same."""
    scores = random_scores(20, K)
    winners = von_neumann_winner(scores)
    np.testing.assert_allclose(winners, [by_linear_program(s) for s in scores], atol=2e-5)
    assert np.all(exploitability(winners, scores) <= 1e-6 * np.abs(scores).max(axis=(1, 2)))


@given(scores=MATRICES)
def test_the_winner_is_a_distribution_that_nothing_beats(scores):
    winner = von_neumann_winner(scores)
    assert np.all(winner >= 0) and float(jnp.sum(winner)) == pytest.approx(1, abs=1e-5)
    assert float(exploitability(winner, scores)) <= 1e-5 * max(np.abs(scores).max(), 1.0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rock_paper_scissors(scale):
    np.testing.assert_allclose(von_neumann_winner(scale * ROCK_PAPER_SCISSORS), np.full(3, 1 / 3), atol=1e-6)


@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_an_odd_cycle_with_its_chords_is_uniform(n):
    """Response i beats the (n−1)/2 that follow it, so the game is symmetric in its responses."""
    ahead = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
    scores = np.where(ahead == 0, 0, np.where(ahead <= n // 2, 1, -1)).astype(np.float32)
    np.testing.assert_allclose(von_neumann_winner(scores), np.full(n, 1 / n), atol=1e-6)


@pytest.mark.parametrize("stakes", [(1, 1, 1), (2, 1, 1), (5, 3, 1)])
def test_unequal_stakes_move_weight_to_the_other_two(stakes):
    """A ≻ B by a, B ≻ C by b, C ≻ A by c: p ∝ (b, c, a). A response's weight is the edge between the other two."""
    a, b, c = stakes
    scores = np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]], np.float32)
    np.testing.assert_allclose(von_neumann_winner(scores), np.array([b, c, a]) / sum(stakes), atol=1e-6)


def test_ties_are_shared_equally():
    chex.assert_trees_all_close(von_neumann_winner(jnp.zeros((4, 4))), jnp.full(4, 0.25), atol=1e-6)
    two_best = pairwise_rewards(jnp.array([1.0, 1.0, 0.0]))
    chex.assert_trees_all_close(von_neumann_winner(two_best), jnp.array([0.5, 0.5, 0.0]), atol=1e-6)


def test_a_copy_of_a_response_only_splits_its_share():
    scores = random_scores(4, seed=3)
    copied = np.pad(scores, (0, 1), mode="edge")
    copied[-1, -1] = 0
    winner, split_winner = von_neumann_winner(scores), von_neumann_winner(copied)
    np.testing.assert_allclose(split_winner[:3], winner[:3], atol=1e-5)
    np.testing.assert_allclose(split_winner[3:], [winner[3] / 2] * 2, atol=1e-5)


def test_the_winner_does_not_depend_on_batching_jit_or_order():
    scores = random_scores(2, 3, 5)
    winners = von_neumann_winner(scores)
    chex.assert_shape(winners, (2, 3, 5))
    chex.assert_trees_all_close(jax.jit(von_neumann_winner)(scores), winners, atol=1e-6)
    chex.assert_trees_all_close(von_neumann_winner(scores[1, 2]), winners[1, 2], atol=1e-5)
    order = np.array([3, 1, 4, 0, 2])
    shuffled = von_neumann_winner(scores[..., order, :][..., order])
    chex.assert_trees_all_close(shuffled, winners[..., order], atol=1e-5)


def test_win_rates_minus_a_half_are_a_game_too_with_another_winner():
    scores = np.array([[0, 6, -1], [-6, 0, 1], [1, -1, 0]], np.float32)
    rates = 1 / (1 + np.exp(-scores)) - 0.5
    np.testing.assert_allclose(von_neumann_winner(rates), by_linear_program(rates), atol=1e-5)
    assert np.max(np.abs(von_neumann_winner(rates) - von_neumann_winner(scores))) > 0.1


def test_exploitability_is_what_the_best_response_gains():
    assert float(exploitability(jnp.array([1.0, 0.0, 0.0]), ROCK_PAPER_SCISSORS)) == 1
    assert float(exploitability(jnp.full(3, 1 / 3), ROCK_PAPER_SCISSORS)) == pytest.approx(0, abs=1e-6)
    policy = np.random.default_rng(0).dirichlet(np.ones(5), size=7).astype(np.float32)
    scores = random_scores(7, 5)
    best = np.max(np.einsum("bjk,bk->bj", scores, policy), axis=1)
    np.testing.assert_allclose(exploitability(policy, scores), best, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_response_that_beats_all_by_most_wins_under_every_rule(rule):
    scores = random_scores(6, 4)
    scores[:, 2, :], scores[:, :, 2] = 9.0, -9.0
    scores[:, 2, 2] = 0.0
    np.testing.assert_allclose(best_of(scores, rule), np.tile([0.0, 0.0, 1.0, 0.0], (6, 1)), atol=1e-6)


def test_rules_disagree_under_cycles_and_share_ties():
    # A beats B hugely; C beats A and B narrowly; D beats C narrowly.
    scores = np.array([[0, 9, -1, 1], [-9, 0, -1, 1], [1, 1, 0, -1], [-1, -1, 1, 0]], np.float32)
    assert np.argmax(best_of(scores, "mean_score")) == 0
    np.testing.assert_array_equal(best_of(scores, "copeland"), [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(best_of(scores, "maximal_lottery"), [1 / 3, 0, 1 / 3, 1 / 3], atol=1e-5)
    np.testing.assert_allclose(best_of(ROCK_PAPER_SCISSORS, "copeland"), np.full(3, 1 / 3), rtol=1e-6)


def test_the_share_of_cyclic_triads_is_that_of_counting():
    scores = np.rint(random_scores(5, 6))
    counted = [
        np.mean([_is_cycle(s, *triad) for triad in np.argwhere(np.tri(6, k=-1)[:, :, None] * np.tri(6, k=-1)[None])])
        for s in scores
    ]
    np.testing.assert_allclose(cyclic_share(scores), counted, atol=1e-6)


def _is_cycle(s, i, j, k):
    return (s[i, j] > 0) & (s[j, k] > 0) & (s[k, i] > 0) or (s[j, i] > 0) & (s[k, j] > 0) & (s[i, k] > 0)


def test_the_smallest_and_largest_share_of_cyclic_triads():
    assert float(cyclic_share(ROCK_PAPER_SCISSORS)) == 1
    assert float(cyclic_share(pairwise_rewards(jnp.arange(6.0)))) == 0
    assert float(cyclic_share(np.array([[0, 1], [-1, 0]], np.float32))) == 0
    ahead = (np.arange(5)[None, :] - np.arange(5)[:, None]) % 5
    # The largest share that five responses can have is ½.
    assert float(cyclic_share(np.where(ahead == 0, 0, np.where(ahead <= 2, 1, -1)))) == 0.5
    coins = float(jnp.mean(cyclic_share(random_scores(200, 8))))
    assert coins == pytest.approx(0.25, abs=0.02)


@given(scores=MATRICES)
def test_the_two_parts_are_orthogonal_and_their_energies_add_up(scores):
    transitive, cyclic = hodge_decomposition(scores)
    chex.assert_trees_all_close(transitive + cyclic, jnp.asarray(scores), atol=1e-5)
    assert abs(float(jnp.sum(transitive * cyclic))) < 1e-3
    chex.assert_trees_all_close(sum(decompose(scores)), jnp.sum(jnp.square(scores)), rtol=1e-5, atol=1e-4)
    chex.assert_trees_all_close(hodge_decomposition(transitive)[0], transitive, atol=1e-5)
    chex.assert_trees_all_close(jnp.sum(cyclic, axis=1), jnp.zeros(5), atol=1e-5)


def test_rewards_are_all_transitive_and_rock_paper_scissors_all_cyclic():
    transitive, cyclic = decompose(pairwise_rewards(jnp.array([3.0, 1.0, -1.0])))
    assert float(cyclic) == pytest.approx(0, abs=1e-9) and float(transitive) == pytest.approx(48)
    assert [float(energy) for energy in decompose(ROCK_PAPER_SCISSORS)] == [0, 6]


@pytest.mark.parametrize("function", [von_neumann_winner, best_of, cyclic_share, hodge_decomposition, decompose])
def test_scores_must_be_square(function):
    with pytest.raises(ValueError, match=r"scores \[3, 2\] must be square"):
        function(jnp.zeros((3, 2)))


def test_refusals():
    with pytest.raises(ValueError, match="at least one response"):
        von_neumann_winner(jnp.zeros((0, 0)))
    with pytest.raises(ValueError, match=r"policy \[2, 3\] and row_of_scores \[3\]"):
        exploitability(jnp.zeros((2, 3)), ROCK_PAPER_SCISSORS)
    with pytest.raises(ValueError, match="rule 'borda' must be"):
        best_of(ROCK_PAPER_SCISSORS, "borda")


def test_rounding_errors_on_the_diagonal_make_no_cycle():
    transitive = jnp.array([[1e-7, 1.0, 2.0], [-1.0, -1e-7, 1.0], [-2.0, -1.0, 1e-7]])
    assert cyclic_share(transitive).item() == 0.0
