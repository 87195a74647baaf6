"""Ridge fits of Bradley–Terry: the gradient is 0, rewards are finite, and the ridge suits the spread."""

import numpy as np
import pytest
from scipy.special import expit

from gpmjax.preference import bradley_terry as bt


def votes(reward, count, rng):
    """Wins [1, G, K, K] of ``count`` votes on every pair."""
    upper = np.triu(np.ones(reward.shape[-1]), 1)
    won = rng.binomial(count, expit(reward[..., :, None] - reward[..., None, :])) * upper
    return (won + np.swapaxes((count - won) * upper, -1, -2))[None]


def test_the_gradient_is_zero_and_the_hessian_is_its_derivative():
    rng = np.random.default_rng(0)
    wins = votes(rng.normal(size=(4, 6)), 2, rng)
    total = (wins + wins.mT)[0]
    fitted = bt.fit_bradley_terry(wins, total, 0.3)

    def gradient(r):
        return (wins - total * expit(r[..., :, None] - r[..., None, :])).sum(-1) - 0.3 * r

    assert np.abs(gradient(fitted.reward)).max() < 1e-9
    nudge = 1e-6 * rng.normal(size=fitted.reward.shape)
    slope = -(gradient(fitted.reward + nudge) - gradient(fitted.reward))
    assert np.abs(slope - (fitted.hessian @ nudge[..., None])[..., 0]).max() < 1e-11


def test_undefeated_responses_and_separate_parts_have_finite_rewards():
    wins = np.zeros((1, 1, 5, 5))
    wins[0, 0, 0, 1] = wins[0, 0, 0, 2] = wins[0, 0, 1, 2] = 50.0  # 0 beats all; 3 and 4 are a separate part
    wins[0, 0, 3, 4] = 50.0
    fitted = bt.fit_bradley_terry(wins, (wins + wins.mT)[0], 0.01)
    reward = fitted.reward[0, 0]
    assert np.isfinite(reward).all() and reward[0] > reward[1] > reward[2] and reward[3] == pytest.approx(-reward[4])


def test_data_sets_fitted_together_give_the_fits_of_each_alone():
    rng = np.random.default_rng(1)
    wins = np.concatenate([votes(rng.normal(size=(3, 5)), 1, rng) for _ in range(7)])
    total = (wins + wins.mT)[0]
    together = bt.fit_bradley_terry(wins, total, 0.5).reward
    alone = np.concatenate([bt.fit_bradley_terry(one[None], total, 0.5).reward for one in wins])
    assert np.abs(together - alone).max() < 1e-6  # the tolerance of both fits


def test_variances_of_differences():
    rng = np.random.default_rng(2)
    wins = votes(rng.normal(size=(1, 4)), 3, rng)
    covariance, difference = bt.variances(bt.fit_bradley_terry(wins, (wins + wins.mT)[0], 1.0))
    contrast = np.array([1.0, 0, -1, 0])
    assert difference[0, 0, 0, 2] == pytest.approx(contrast @ covariance[0, 0] @ contrast)


@pytest.mark.parametrize(("spread", "count", "size"), [(0.5, 20, 12), (2.0, 20, 12), (0.7, 6, 4)])
def test_the_ridge_is_that_of_the_rewards_prior(spread, count, size):
    """With few votes the fit is shrunk, so the posterior variance must be part of the spread."""
    rng = np.random.default_rng(3)
    wins = votes(spread * rng.normal(size=(60, size)), count, rng)
    ridge = bt.choose_ridge([wins], [(wins + wins.mT)[0]], [np.ones((60, size), bool)])
    assert ridge**-0.5 == pytest.approx(spread, rel=0.15)


def test_the_ridge_stays_within_bounds():
    even = np.ones((1, 2, 4, 4)) - np.eye(4)
    assert bt.choose_ridge([even], [2 * even[0]], [np.ones((2, 4), bool)]) <= bt.SPREAD[0] ** -2 + 1e-9
    ladder = 100 * np.triu(np.ones((1, 1, 6, 6)), 1)
    assert bt.choose_ridge([ladder], [(ladder + ladder.mT)[0]], [np.ones((1, 6), bool)]) >= bt.SPREAD[1] ** -2 - 1e-9


@pytest.mark.parametrize(
    ("energy", "stretch"),
    [
        (lambda k: 4 * k**2, 0.5),
        (lambda k: 0.25 * k**2 + 0.1, 0.9**0.5 / 0.5),
        (lambda k: 2 + k, 0.0),  # noise alone spreads more than the data
        (lambda k: 0.0, 6.0),  # nothing spreads enough
    ],
)
def test_the_stretch_at_which_refits_are_as_spread(energy, stretch):
    assert bt.match_spread(energy, 1.0) == pytest.approx(stretch, rel=0.02)
