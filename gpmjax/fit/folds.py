"""Folds: comparisons that are held out together, so that a choice made on them is about unseen prompts or responses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.data.encode import EncodedGroup

MIN_PROMPTS = 10
"""With fewer prompts than this, holding some of them out says too little about others."""
MIN_COMPARISONS = 200
"""With fewer comparisons between held-out responses than this, nothing is chosen on them."""


class Folds(NamedTuple):
    """F ways to leave out a part of N comparisons."""

    unit: str
    """What is held out: "prompts", "responses" (of a data set with few prompts), or "nothing"."""
    fit: np.ndarray
    """[F, N] bool: comparisons that a fold's fit may learn from."""
    held_out: np.ndarray
    """[F, N] bool: comparisons that the fold's fit is measured on. A comparison of a held-out response with another one
    is in neither array."""
    first: np.ndarray
    """[N] int: the unit (prompt or chosen response) that each comparison belongs to."""
    second: np.ndarray
    """[N] int: the rejected response where responses are held out, otherwise equal to ``first``."""


def make_folds(sources: Sequence[Sequence[EncodedGroup]], comparisons: int, folds: int, seed: int) -> Folds:
    """Folds over the prompts; over the responses where there are too few prompts; none where there are too few of both.

    Args:
      sources: encoded groups; one prompt may be in several of them. A comparison's ``number`` is below ``comparisons``.
      comparisons: N.
      folds: F.
      seed: of the draw.
    """
    prompt, chosen, rejected = (np.zeros(comparisons, np.int64) for _ in range(3))
    known = np.zeros(comparisons, bool)
    prompts: dict[bytes, int] = {}
    responses: dict[tuple[int, bytes], int] = {}
    for group in (group for source in sources for group in source):
        here = prompts.setdefault(group.prompt.tobytes(), len(prompts))
        sides = [responses.setdefault((here, text.tobytes()), len(responses)) for text in group.responses]
        for c in group.comparisons:
            prompt[c.number], chosen[c.number], rejected[c.number], known[c.number] = (
                here,
                sides[c.chosen],
                sides[c.rejected],
                True,
            )
    if len(prompts) >= max(MIN_PROMPTS, folds):
        part = _parts(len(prompts), folds, seed)[prompt]
        held_out = known & (part == np.arange(folds)[:, None])
        return Folds("prompts", known & ~held_out, held_out, prompt, prompt)
    part = _parts(len(responses), folds, seed)
    inside = part == np.arange(folds)[:, None]
    held_out = known & inside[:, chosen] & inside[:, rejected]
    fit = known & ~inside[:, chosen] & ~inside[:, rejected]
    if held_out.sum() >= MIN_COMPARISONS and fit.any(axis=1).all():
        return Folds("responses", fit, held_out, chosen, rejected)
    nothing = np.zeros((folds, comparisons), bool)
    return Folds("nothing", nothing, nothing, chosen, rejected)


class Parted(NamedTuple):
    """Training groups, and those that stage one leaves out."""

    train: list[list[EncodedGroup]]
    held_out: list[EncodedGroup]


def leave_out(sources: Sequence[Sequence[EncodedGroup]], comparisons: int, share: float, seed: int) -> Parted:
    """Leaves out ``share`` of the prompts, whole; none where there are too few of them."""
    folds = make_folds(sources, comparisons, max(2, round(1 / share)), seed)
    if folds.unit != "prompts":
        return Parted([list(source) for source in sources], [])
    out = folds.held_out[0]

    def is_out(group: EncodedGroup) -> bool:
        return any(out[c.number] for c in group.comparisons)

    train = [[group for group in source if not is_out(group)] for source in sources]
    return Parted(train, [group for source in sources for group in source if is_out(group)])


def _parts(count: int, folds: int, seed: int) -> np.ndarray:
    """[count] int: the fold of each unit; sizes differ by one at most."""
    return np.random.default_rng([seed, 0xF01D]).permutation(np.arange(count) % folds)


def standard_error(values: np.ndarray, weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Standard error of the weighted mean of values that share units: comparisons of one prompt, or of one response.

    With ``first`` equal to ``second`` it is the cluster-robust error; otherwise the dyadic one, in which two values are
    dependent where they share a response on either side.

    Args:
      values, weight: [N].
      first, second: [N] int, the two units of each value.
    Source: Aronow, Samii and Assenova 2015, *Cluster-robust variance estimation for dyadic data*, equation 3.

    >>> alone = np.arange(4)
    >>> float(standard_error(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4), alone, alone))
    0.25
    """
    total = weight.sum()
    if not total > 0:
        return float("nan")
    residual = weight * (values - np.sum(weight * values) / total)
    units = int(max(first.max(), second.max())) + 1
    sums = np.bincount(first, residual, units)
    two = first != second
    sums += np.bincount(second[two], residual[two], units)
    # A pair of responses is counted at both of its ends.
    both = residual[two]
    repeated = np.zeros(0)
    if two.any():
        low, high = np.minimum(first[two], second[two]), np.maximum(first[two], second[two])
        repeated = np.bincount(np.unique(low * units + high, return_inverse=True)[1].ravel(), both)
    variance = np.sum(sums**2) - np.sum(repeated**2)
    return float(np.sqrt(max(variance, 0.0)) / total)


def chosen_elsewhere(loss: np.ndarray, weight: np.ndarray, part: np.ndarray) -> np.ndarray:
    """[N] int: for each comparison the candidate with the least loss on the comparisons of all *other* parts.

    A candidate that is chosen on the comparisons on which its gain is measured gains by the choice alone; this one does
    not.

    Args:
      loss: [candidates, N]. weight: [N]. part: [N] int, what each comparison is held out with.

    >>> chosen_elsewhere(np.array([[0.0, 1.0, 1.0], [2.0, 0.5, 0.5]]), np.ones(3), np.array([0, 1, 1])).tolist()
    [1, 0, 0]
    """
    total = loss @ weight
    found = np.zeros(loss.shape[1], int)
    for here in np.unique(part):
        mine = part == here
        found[mine] = int(np.argmin(total - loss[:, mine] @ weight[mine]))
    return found
