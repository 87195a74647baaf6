"""Several data sets in one epoch, each with its share; a pure function of their sizes, the weights and the epoch."""

from collections.abc import Sequence

import numpy as np

from gpmjax.data.packing import permutation


def mixture(counts: Sequence[int], weights: Sequence[float] | None, *, seed: int, epoch: int) -> np.ndarray:
    """Which groups an epoch holds, as indices into all the sets one after the other.

    Without weights, every group once. With weights an epoch has as many groups as there are, Σ counts, and the set s
    supplies the share w_s / Σ w of them: it goes through its groups in a random order, and through a new one when
    they are used up, on from where the last epoch stopped. So all groups of a set come up equally often (± 1).

    >>> mixture([2, 6], [1.0, 1.0], seed=0, epoch=0) < 2
    array([ True, True, True, True, False, False, False, False])

    Raises:
        ValueError: weights that are not positive and finite, or not one a set.
    """
    counts = np.asarray(counts, np.int64)
    if weights is None:
        return np.arange(counts.sum())
    weights = np.asarray(weights, np.float64)
    if weights.shape != counts.shape or not np.all((weights > 0) & np.isfinite(weights)):
        raise ValueError(
            f"weights={weights.tolist()}: must be one positive number for each of the {len(counts)} sources"
        )
    shares = _shares(int(counts.sum()), weights / weights.sum())
    starts = np.cumsum(counts) - counts
    return np.concatenate(
        [
            start + _stream(n, source, share, seed, epoch)
            for source, (start, n, share) in enumerate(zip(starts, counts, shares))
        ]
    )


def _shares(total: int, fractions: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to total, the largest remainders rounded up."""
    exact = total * fractions
    shares = np.floor(exact).astype(np.int64)
    largest = np.argsort(shares - exact, kind="stable")[: total - shares.sum()]
    shares[largest] += 1
    return shares


def _stream(n: int, source: int, share: int, seed: int, epoch: int) -> np.ndarray:
    """Places epoch · share … (epoch + 1) · share of an endless sequence of random passes over n groups."""
    places = np.arange(epoch * share, (epoch + 1) * share)
    passes = {number: permutation(n, seed, source, int(number)) for number in np.unique(places // n)}
    return np.array([passes[place // n][place % n] for place in places], np.int64)
