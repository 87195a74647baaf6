"""How much better cycles predict a vote that was held out than rewards alone: the statistic of `cycle_test`.

Each vote is held out in turn. Bradley–Terry, fitted to the other votes, gives it the log-odds d = r_i − r_j. A hybrid adds
what the other votes say of a cycle through the pair. With residuals e_ij = wins − n σ(r_i − r_j), in the votes' units,

    again  the residual of the pair's other votes, e_ij without this one;
    round  −Σ_kl e_ik e_kl e_lj over paths of three other pairs: a skew matrix C of rank two obeys −C³ = σ² C, so where cycles
           have few dimensions, paths predict a pair that nobody else voted on.

    T = max_{a, b ≥ 0, c ≥ 0} ℓ(a d + b again + c round) − max_{a ≥ 0} ℓ(a d),

with ℓ the log-likelihood of all held-out votes. Both models get their best scale a, so that T is not about calibration;
for Bradley–Terry a ≥ 0, while a < 0 says that votes go round (of three responses with a vote a pair, two votes predict
the third, and a cycle is what contradicts them). Where a model states the cycles, c_ij of a pair, it is

    T = max_{a ≥ 0, b ≥ 0} ℓ(a d + b c) − max_{a ≥ 0} ℓ(a d).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, log_expit

from gpmjax.preference import bradley_terry
from gpmjax.preference.votes import Block

# Features have mean square 1; their coefficients are shrunk just enough to be finite where they predict every vote.
_SHRINKAGE = 1e-3


def held_out_votes(
    block: Block, wins: np.ndarray, ridge: float, directed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every vote of B data sets, predicted from the others.

    Args:
      block: the pairs.
      wins: [B, M] votes for i.
      ridge: of the Bradley–Terry fits.
      directed: whether the block's ``direction`` takes the place of the two features.
    Returns:
      features [B, N, q], d first, weighted wins [B, N] and weighted votes [B, N]: a record of one vote is one of the N, a
      record of several is two, its votes for i and its votes for j.
      Rewards without the vote are one Newton step from the fit with it (Rad and Maleki 2020, doi:10.1111/rssb.12374), in d and
      in the residual of the pair's other votes; paths keep the residuals of the whole fit, in replicates of the null as well.
    """
    total = block.matrix((block.weight * block.votes)[None], 1)[0]
    fitted = bradley_terry.fit(weighted_wins(block, wins), total, ridge)
    leverage = block.pick(bradley_terry.variances(fitted)[1])
    p = block.pick(fitted.probability)
    score = block.pick(fitted.reward[..., :, None] - fitted.reward[..., None, :])
    single = block.votes == 1
    # A record of one vote has a target, perhaps a soft one; of more, some are for i and the others against.
    target = np.where(single, wins, 1.0)
    count = np.where(single, 1.0, wins)
    information = block.weight * p * (1 - p)
    change = lambda target: -leverage * block.weight * (target - p) / (1 - leverage * information)
    without = lambda target: score + change(target)
    several = ~single
    both = lambda first, second: np.concatenate(
        [np.broadcast_to(first, wins.shape), np.broadcast_to(second, wins.shape)[:, several]], axis=1
    )
    features = [both(without(target), without(0.0))]
    if directed:
        features.append(both(block.direction, block.direction))
    else:
        residual = block.matrix(block.weight * (wins - block.votes * p), -1)
        voted = block.pick(total[None])
        again = lambda target: np.where(
            voted > block.weight,
            block.pick(residual) - block.weight * (target - p) - (voted - block.weight) * p * (1 - p) * change(target),
            0.0,
        )
        paths = block.pick(_paths(residual))
        features += [both(again(target), again(0.0)), both(paths, paths)]
    weighted = both(block.weight * count, block.weight * (block.votes - wins))
    return np.stack(features, axis=-1), both(target, 0.0) * weighted, weighted


def likelihood_ratio(
    features: np.ndarray, wins: np.ndarray, total: np.ndarray, *, directed: bool = False
) -> np.ndarray:
    """T [B] in nats, of features [B, N, q] with d first, weighted wins and votes [B, N]; at least 0."""
    scale = np.sqrt((np.square(features) * total[..., None]).sum(1, keepdims=True) / total.sum(1)[:, None, None])
    features = features / np.where(scale > 1e-9, scale, np.inf)
    coins = -np.log(2) * total.sum(1)
    alone, coefficients = _logistic(features[..., :1], wins, total)
    rewards = np.where(coefficients[:, 0] > 0, alone, coins)
    best = rewards if directed else alone
    informative = [f for f in range(1, features.shape[-1]) if np.any(features[..., f])]
    for count in range(1, len(informative) + 1):
        for chosen in itertools.combinations(informative, count):
            # Where the best a is below 0 and may not be, it is 0.
            for others in ([0], []) if directed else ([0],):
                value, coefficients = _logistic(features[..., [*others, *chosen]], wins, total)
                signed = coefficients if directed else coefficients[:, 1:]
                best = np.where((signed >= 0).all(1), np.maximum(best, value), best)
    return np.maximum(best - rewards, 0.0)


def pooled(blocks: Sequence[Block], wins: Sequence[np.ndarray], ridge: float, *, directed: bool = False) -> np.ndarray:
    """T [B] over all blocks; wins [B, M] each."""
    parts = [held_out_votes(block, won, ridge, directed) for block, won in zip(blocks, wins, strict=True)]
    features, won, total = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return likelihood_ratio(features, won, total, directed=directed)


def triads(block: Block, wins: np.ndarray) -> np.ndarray:
    """Cyclic triads [B] by the majority of each pair's weighted votes; a tied pair decides nothing."""
    ahead = (block.matrix(block.weight * (2 * wins - block.votes), -1) > 1e-9).astype(np.float32)
    return np.rint(np.sum(ahead @ ahead * ahead.mT, axis=(-2, -1)).astype(np.float64) / 3).sum(-1)


def complete_triads(block: Block) -> int:
    """Triads all of whose pairs have a vote."""
    voted = (block.matrix(block.votes[None].astype(float), 1) > 0).astype(np.float32)
    return int(np.rint(np.sum(voted @ voted * voted.mT, axis=(-2, -1)).astype(np.float64) / 6).sum())


def weighted_wins(block: Block, wins: np.ndarray) -> np.ndarray:
    """[B, G, K, K] weighted votes for the row's response."""
    half = block.weight * block.votes / 2
    return block.matrix(np.broadcast_to(half, wins.shape), 1) + block.matrix(block.weight * wins - half, -1)


def _paths(residual: np.ndarray) -> np.ndarray:
    """−Σ e_ik e_kl e_lj over k, l other than i, j and each other, [B, G, K, K]."""
    squared = residual @ residual
    through = -np.einsum("...ii->...i", squared)
    # Of all walks of three steps, those that turn back are taken away: i → j → l → j, i → k → i → j, and both at once.
    back = (through[..., :, None] + through[..., None, :]) * residual - residual**3
    return -(squared @ residual + back)


def _logistic(features: np.ndarray, wins: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest log-likelihood [B] of σ(features · coefficients), and the coefficients [B, q]."""
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
