"""The statistic T of `cycle_test`: how much better cycles predict a held-out vote than rewards alone do.

Each vote is held out in turn. Bradley–Terry, fitted to the other votes, gives it the log-odds d = r_i − r_j. A hybrid
adds what the other votes say of a cycle through the pair. With the residuals e_ij = wins − n σ(r_i − r_j), in units of
votes, its two features are

    again  the residual of the pair's other votes, e_ij without the held-out one;
    round  −Σ_kl e_ik e_kl e_lj over paths of three other pairs. A skew matrix C of rank two obeys −C³ = σ² C, so where
           cycles have few dimensions, paths predict even a pair that has no other vote.

    T = max_{a, b ≥ 0, c ≥ 0} ℓ(a d + b again + c round) − max_{a ≥ 0} ℓ(a d),

with ℓ the log-likelihood of all held-out votes. Both models get their best scale a, so T does not measure calibration.
Bradley–Terry must have a ≥ 0. A scale a < 0 says that votes are cyclic: of three responses with one vote per pair, two
votes predict the third, and in a cycle the third contradicts them. Where a model states the cycles, as c_ij of each
pair, the statistic is

    T = max_{a ≥ 0, b ≥ 0} ℓ(a d + b c) − max_{a ≥ 0} ℓ(a d).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, log_expit

from gpmjax.preference.bradley_terry import fit_bradley_terry, variances
from gpmjax.preference.votes import Block

# Features have mean square 1. Without a little shrinkage, a feature that predicts every vote has no finite coefficient.
_SHRINKAGE = 1e-3


def held_out_votes(
    block: Block, wins: np.ndarray, ridge: float, directed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of every vote of B data sets, computed from the other votes.

    The rewards without a vote are one Newton step from the fit with it (Rad and Maleki 2020, doi:10.1111/rssb.12374),
    both in d and in the residual of the pair's other votes. Paths keep the residuals of the whole fit, here and in
    replicates of the null.

    Args:
      block: the pairs.
      wins: [B, M] votes for i.
      ridge: of the Bradley–Terry fits.
      directed: take the block's ``direction`` in place of the two features.
    Returns:
      Features [B, N, q], d first; weighted wins [B, N]; weighted votes [B, N]. A record of one vote is one of the N
      entries. A record of several votes is two entries, its votes for i and its votes for j.
    """
    total = block.matrix((block.weight * block.votes)[None], 1)[0]
    fitted = fit_bradley_terry(weighted_wins(block, wins), total, ridge)
    leverage = block.pick(variances(fitted)[1])
    p = block.pick(fitted.probability)
    score = block.pick(fitted.reward[..., :, None] - fitted.reward[..., None, :])
    single = block.votes == 1
    # A record of one vote has one target, perhaps a soft one. Of several votes, some are for i, the others for j.
    target = np.where(single, wins, 1.0)
    count = np.where(single, 1.0, wins)
    information = block.weight * p * (1 - p)
    several = ~single

    def change(target) -> np.ndarray:
        """What leaving a vote out adds to d."""
        return -leverage * block.weight * (target - p) / (1 - leverage * information)

    def both(first, second) -> np.ndarray:
        """Entries of all records [B, M], then second entries of the records of several votes."""
        return np.concatenate(
            [np.broadcast_to(first, wins.shape), np.broadcast_to(second, wins.shape)[:, several]], axis=1
        )

    features = [both(score + change(target), score + change(0.0))]
    if directed:
        features.append(both(block.direction, block.direction))
    else:
        residual = block.matrix(block.weight * (wins - block.votes * p), -1)
        voted = block.pick(total[None])

        def again(target) -> np.ndarray:
            """The residual of the pair's other votes, 0 where there are none."""
            others = block.pick(residual) - block.weight * (target - p)
            return np.where(voted > block.weight, others - (voted - block.weight) * p * (1 - p) * change(target), 0.0)

        paths = block.pick(_paths(residual))
        features += [both(again(target), again(0.0)), both(paths, paths)]
    weighted = both(block.weight * count, block.weight * (block.votes - wins))
    return np.stack(features, axis=-1), both(target, 0.0) * weighted, weighted


def likelihood_ratio(
    features: np.ndarray, wins: np.ndarray, total: np.ndarray, *, directed: bool = False
) -> np.ndarray:
    """T [B] ≥ 0 in nats, from the features [B, N, q], d first, and the weighted wins and votes [B, N]."""
    scale = np.sqrt((np.square(features) * total[..., None]).sum(1, keepdims=True) / total.sum(1)[:, None, None])
    features = features / np.where(scale > 1e-9, scale, np.inf)
    coins = -np.log(2) * total.sum(1)
    alone, coefficients = _logistic(features[..., :1], wins, total)
    rewards = np.where(coefficients[:, 0] > 0, alone, coins)
    best = rewards if directed else alone
    informative = [f for f in range(1, features.shape[-1]) if np.any(features[..., f])]
    for count in range(1, len(informative) + 1):
        for chosen in itertools.combinations(informative, count):
            # With ``directed`` a must be ≥ 0; where the best a is below 0, it is 0, that is d is left out.
            for others in ([0], []) if directed else ([0],):
                value, coefficients = _logistic(features[..., [*others, *chosen]], wins, total)
                signed = coefficients if directed else coefficients[:, 1:]
                best = np.where((signed >= 0).all(1), np.maximum(best, value), best)
    return np.maximum(best - rewards, 0.0)


def pooled_statistic(
    blocks: Sequence[Block], wins: Sequence[np.ndarray], ridge: float, *, directed: bool = False
) -> np.ndarray:
    """T [B] of the votes of all blocks together; ``wins`` has one [B, M] per block."""
    parts = [held_out_votes(block, won, ridge, directed) for block, won in zip(blocks, wins, strict=True)]
    features, won, total = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return likelihood_ratio(features, won, total, directed=directed)


def cyclic_triads(block: Block, wins: np.ndarray) -> np.ndarray:
    """The number of cyclic triads [B], by the majority of each pair's weighted votes; tied pairs are in none."""
    ahead = (block.matrix(block.weight * (2 * wins - block.votes), -1) > 1e-9).astype(np.float32)
    return np.rint(np.sum(ahead @ ahead * ahead.mT, axis=(-2, -1)).astype(np.float64) / 3).sum(-1)


def complete_triads(block: Block) -> int:
    """The number of triads all of whose pairs have a vote."""
    voted = (block.matrix(block.votes[None].astype(float), 1) > 0).astype(np.float32)
    return int(np.rint(np.sum(voted @ voted * voted.mT, axis=(-2, -1)).astype(np.float64) / 6).sum())


def weighted_wins(block: Block, wins: np.ndarray) -> np.ndarray:
    """Weighted votes for the row's response against the column's, [B, G, K, K]."""
    half = block.weight * block.votes / 2
    return block.matrix(np.broadcast_to(half, wins.shape), 1) + block.matrix(block.weight * wins - half, -1)


def _paths(residual: np.ndarray) -> np.ndarray:
    """−Σ e_ik e_kl e_lj over k, l other than i, j and each other, [B, G, K, K]."""
    squared = residual @ residual
    through = -np.einsum("...ii->...i", squared)
    # From all walks of three steps, subtract those that turn back: i → j → l → j, i → k → i → j, and both at once.
    back = (through[..., :, None] + through[..., None, :]) * residual - residual**3
    return -(squared @ residual + back)


def _logistic(features: np.ndarray, wins: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest log-likelihood [B] of σ(features · coefficients), and the coefficients [B, q]; by Newton's method."""
    coefficients = np.zeros((len(features), features.shape[-1]))

    def value(coefficients: np.ndarray) -> np.ndarray:
        score = (features @ coefficients[..., None])[..., 0]
        return (wins * score + total * log_expit(-score)).sum(1) - 0.5 * _SHRINKAGE * np.square(coefficients).sum(1)

    best = value(coefficients)
    for _ in range(30):
        p = expit((features @ coefficients[..., None])[..., 0])
        gradient = (features.mT @ (wins - total * p)[..., None])[..., 0] - _SHRINKAGE * coefficients
        hessian = features.mT @ (features * (total * p * (1 - p))[..., None]) + _SHRINKAGE * np.eye(features.shape[-1])
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        length = np.ones((len(features), 1))
        for _ in range(10):
            reached = value(coefficients + length * step)
            worse = reached < best - 1e-9 * np.abs(best)
            if not worse.any():
                break
            length[worse] /= 2
        coefficients, best = coefficients + length * step, reached
        if np.abs(length * step).max() < 1e-4:
            break
    return best, coefficients
