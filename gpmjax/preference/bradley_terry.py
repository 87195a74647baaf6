"""Bradley–Terry fits of many data sets at once: r maximises Σ w log σ(r_i − r_j) − ridge/2 Σ r².

The ridge is the prior r ~ N(0, 1/ridge). It keeps rewards finite for a response that never lost, and for a group whose
comparisons fall into unconnected parts. Arrays are numpy float64: sizes differ from group to group, so compiled code
would be compiled anew for almost every shape.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

SPREAD = (0.1, 10.0)
"""Bounds of the prior's standard deviation, in log-odds. Without an upper bound, labels that never contradict each
other would fit ever larger rewards."""
_STRETCH = 6.0
"""The largest stretch that `match_spread` tries."""


class Fit(NamedTuple):
    """Fits of B data sets; each holds the G groups of one `votes.Block`."""

    reward: np.ndarray
    """r, [B, G, K]."""
    probability: np.ndarray
    """σ(r_i − r_j), [B, G, K, K]."""
    hessian: np.ndarray
    """The Hessian of the penalised negative log-likelihood at r, [B, G, K, K]."""


def fit_bradley_terry(
    wins: np.ndarray, total: np.ndarray, ridge: float, *, start: np.ndarray | None = None, tolerance=1e-6
) -> Fit:
    """Penalised maximum-likelihood rewards, by Newton's method.

    Args:
      wins: [B, G, K, K] weighted votes for the row's response against the column's.
      total: [G, K, K] all weighted votes of each pair; symmetric.
      ridge: > 0.
      start: [B, G, K] rewards to begin at; None is 0.
      tolerance: stop when no step is longer than this, in log-odds.
    Source: Bradley and Terry 1952, doi:10.2307/2334029.

    >>> wins = np.array([[[[0.0, 3.0], [1.0, 0.0]]]])
    >>> (r1, r2) = fit_bradley_terry(wins, (wins + wins.mT)[0], 1e-9).reward[0, 0]
    >>> print(f"{r1 - r2:.4f} {np.log(3.0):.4f}")
    1.0986 1.0986
    """
    reward = np.zeros(wins.shape[:-1]) if start is None else np.array(np.broadcast_to(start, wins.shape[:-1]))
    won = wins.sum(-1)
    for _ in range(100):
        probability, hessian = _curvature(reward, total, ridge)
        gradient = won - (total * probability).sum(-1) - ridge * reward
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(step).max(initial=0.0)
        if largest < tolerance:
            break
        # A step is at most 2 long: where the sigmoid is flat, a full Newton step would overshoot.
        reward += step * np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-300))
    return Fit(reward, probability, hessian)


def variances(fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """The Laplace posterior of the rewards: their covariance, and Var(r_i − r_j); [B, G, K, K] each."""
    covariance = np.linalg.inv(fitted.hessian)
    own = np.einsum("...ii->...i", covariance)
    return covariance, own[..., :, None] + own[..., None, :] - 2 * covariance


def choose_ridge(wins: list[np.ndarray], total: list[np.ndarray], present: list[np.ndarray]) -> float:
    """The ridge 1/σ² at which the rewards of all groups are as spread as their prior, σ² = E[r²].

    The method is EM with a Laplace posterior; σ stays within `SPREAD`. Each list has one entry per block: wins
    [1, G, K, K], total [G, K, K], present [G, K].
    """
    variance = 1.0
    starts: list[np.ndarray | None] = [None] * len(wins)
    freedom = sum((there.sum(-1) - 1).sum() for there in present)
    for _ in range(60):
        energy = 0.0
        for b, there in enumerate(present):
            fitted = fit_bradley_terry(wins[b], total[b], 1 / variance, start=starts[b], tolerance=1e-3)
            starts[b] = fitted.reward
            covariance = variances(fitted)[0][0] * (there[:, :, None] & there[:, None, :])
            spread = np.einsum("gii->g", covariance) - covariance.sum((-1, -2)) / there.sum(-1)
            energy += centred_energy(fitted.reward, there)[0] + spread.sum()
        before, variance = variance, float(np.clip(energy / freedom, SPREAD[0] ** 2, SPREAD[1] ** 2))
        if abs(np.log(variance / before)) < 0.01:
            break
    return 1 / variance


def centred_energy(reward: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Σ (r − mean reward of its group)² over groups and responses: [B, G, K], [G, K] → [B]."""
    inside = np.where(present, reward, 0.0)
    return (np.square(inside).sum(-1) - np.square(inside.sum(-1)) / present.sum(-1)).sum(-1)


def match_spread(energy_of_refit, target: float) -> float:
    """The factor κ ≥ 0 on the rewards at which a refit of simulated labels is as spread as the fit of the real ones.

    A ridge shrinks rewards and noise spreads them, so labels drawn from the fit itself would not look like the data.

    Args:
      energy_of_refit: κ → the mean `centred_energy` of refits of labels drawn from κ r; increasing in κ, noise aside.
      target: the `centred_energy` of the fit.
    """
    if target < 1e-12:
        return 1.0
    known = [(0.0, energy_of_refit(0.0) / target - 1), (1.0, energy_of_refit(1.0) / target - 1)]
    low, high = known
    while high[1] < 0 and high[0] < _STRETCH:
        low, high = high, (min(1.5 * high[0], _STRETCH), energy_of_refit(min(1.5 * high[0], _STRETCH)) / target - 1)
    if low[1] >= 0 or high[1] <= 0:
        return low[0] if low[1] >= 0 else high[0]
    for _ in range(6):
        share = np.clip(low[1] / (low[1] - high[1]), 0.1, 0.9)
        middle = low[0] + share * (high[0] - low[0])
        miss = energy_of_refit(middle) / target - 1
        if abs(miss) < 0.01:
            break
        low, high = ((middle, miss), high) if miss < 0 else (low, (middle, miss))
    return float(middle)


def _curvature(reward: np.ndarray, total: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    probability = expit(reward[..., :, None] - reward[..., None, :])
    hessian = -total * probability * (1 - probability)
    diagonal = np.arange(reward.shape[-1])
    hessian[..., diagonal, diagonal] = ridge - hessian.sum(-1)  # `total` is 0 on the diagonal
    return probability, hessian
