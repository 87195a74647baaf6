"""Mixes several data sets in one epoch by their weights: a pure function of sizes, weights, seed and epoch."""

from collections.abc import Sequence

import numpy as np

from gpmjax.data.packing import permutation


def mixture(counts: Sequence[int], weights: Sequence[float] | None, *, seed: int, epoch: int) -> np.ndarray:
    """The groups of an epoch, as indices into the concatenated sets.

    Without weights every group is used once. With weights an epoch has Σ counts groups, and set s supplies the share
    w_s / Σ w of them. Each set goes through its groups in random order, starts a new order when all are used, and
    continues in the next epoch where this one stopped. So over time all groups of a set are used equally often (± 1).

    >>> mixture([2, 6], [1.0, 1.0], seed=0, epoch=0) < 2
    array([ True, True, True, True, False, False, False, False])

    Raises:
        ValueError: the weights are not positive and finite, or not one for each set.
    """
    sizes = np.asarray(counts, np.int64)
    if weights is None:
        return np.arange(sizes.sum())
    each = np.asarray(weights, np.float64)
    if each.shape != sizes.shape or not np.all((each > 0) & np.isfinite(each)):
        raise ValueError(f"weights={each.tolist()}: must be one positive number for each of the {len(sizes)} sources")
    shares = _shares(int(sizes.sum()), each / each.sum())
    starts = np.cumsum(sizes) - sizes
    return np.concatenate(
        [
            start + _stream(n, source, share, seed, epoch)
            for source, (start, n, share) in enumerate(zip(starts, sizes, shares, strict=True))
        ]
    )


def _shares(total: int, fractions: np.ndarray) -> np.ndarray:
    """Integers near total · fractions that add up to ``total``; the largest remainders are rounded up."""
    exact = total * fractions
    shares = np.floor(exact).astype(np.int64)
    largest = np.argsort(shares - exact, kind="stable")[: total - shares.sum()]
    shares[largest] += 1
    return shares


def _stream(n: int, source: int, share: int, seed: int, epoch: int) -> np.ndarray:
    """Elements epoch · share … (epoch + 1) · share − 1 of an endless sequence of random passes over n groups."""
    places = np.arange(epoch * share, (epoch + 1) * share)
    passes = {number: permutation(n, seed, source, int(number)) for number in np.unique(places // n)}
    return np.array([passes[place // n][place % n] for place in places], np.int64)
