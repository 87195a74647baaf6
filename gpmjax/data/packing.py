"""Plans which groups share a row and which rows share a batch: a pure function of the sizes, a seed and the epoch.

The plan does not depend on hosts or earlier epochs, so every host computes the same plan and a run resumes from one
integer. In an epoch each group is in exactly one row. Groups are shuffled and cut into windows, and each window is
packed first-fit-decreasing: the windows keep the order random, the decreasing order keeps the rows full.

All batches have the same number of rows. If the filled rows do not divide evenly, they are spread over the batches as
equally as possible (± 1), and the other rows stay empty. No group is repeated, and no batch is left with only a few
groups.
"""

import itertools
from collections.abc import Sequence

import numpy as np

ORDERS = ("shuffled", "ordered")
PACKINGS = ("pack", "single")

_WINDOW = 2048

Row = tuple[int, ...]
"""Indices of the groups in a row; empty for padding."""


def plan(
    sizes: np.ndarray,
    *,
    capacity: Sequence[int],
    rows_per_batch: int,
    seed: int = 0,
    epoch: int = 0,
    order: str = "shuffled",
    packing: str = "pack",
) -> list[list[Row]]:
    """The batches of an epoch, each a list of ``rows_per_batch`` rows of group indices.

    Args:
        sizes: [N, 3], tokens, responses and comparisons of each group.
        capacity: (T, R, C), how many of each a row can hold.
        order: "shuffled" depends on (seed, epoch); "ordered" is the same every time, for evaluation.
        packing: "pack" puts as many groups in a row as fit, "single" puts one.

    >>> plan(np.array([[6, 2, 1], [3, 2, 1], [4, 2, 1]]), capacity=(9, 4, 2), rows_per_batch=2, order="ordered")
    [[(0, 1), (2,)]]

    Raises:
        ValueError: a group is larger than a row (split it first), or ``order`` or ``packing`` is unknown.
    """
    if order not in ORDERS or packing not in PACKINGS:
        raise ValueError(f"order={order!r}, packing={packing!r}: must be one of {ORDERS} and one of {PACKINGS}")
    sizes, limits = np.asarray(sizes, np.int64).reshape(-1, 3), np.asarray(capacity, np.int64)
    too_large = np.flatnonzero(np.any(sizes > limits, axis=1))
    if len(too_large):
        first = too_large[0]
        raise ValueError(f"group {first} takes {_counts(sizes[first])}, more than a row's {_counts(limits)}")
    shuffle = order == "shuffled"
    ids = permutation(len(sizes), seed, epoch, 0) if shuffle else np.arange(len(sizes))
    rows: list[Row] = []
    if packing == "single":
        rows = [(int(i),) for i in ids]
    else:
        for number, start in enumerate(range(0, len(ids), _WINDOW)):
            packed = _first_fit_decreasing(ids[start : start + _WINDOW], sizes, limits)
            # Packing puts the long groups' rows first; shuffle, so that no batch consists of long groups alone.
            places = permutation(len(packed), seed, epoch, 1 + number) if shuffle else range(len(packed))
            rows += [packed[place] for place in places]
    return _batches(rows, rows_per_batch)


def permutation(n: int, *key: int) -> np.ndarray:
    """A random order of 0 … n−1 that depends on the key alone, and is the same in every release of numpy.

    numpy guarantees the raw stream of a bit generator, but not the result of Generator.permutation.

    Raises:
        ValueError: a part of the key is negative; callers pass a seed as the first part.
    """
    if min(key, default=0) < 0:
        raise ValueError(f"seed={key[0]}: must be at least 0")
    return np.argsort(np.random.Philox(np.random.SeedSequence(key)).random_raw(n), kind="stable")


def _counts(size: np.ndarray) -> str:
    return "{} tokens, {} responses, {} comparisons".format(*size)


def _first_fit_decreasing(ids: np.ndarray, sizes: np.ndarray, capacity: np.ndarray) -> list[Row]:
    rows: list[list[int]] = []
    free = np.tile(capacity, (len(ids), 1))
    for i in ids[np.argsort(-sizes[ids, 0], kind="stable")]:
        place = int(np.all(free >= sizes[i], axis=1).argmax())  # there is always an unused row, which fits
        if place == len(rows):
            rows.append([])
        rows[place].append(int(i))
        free[place] -= sizes[i]
    return [tuple(row) for row in rows]


def _batches(rows: list[Row], rows_per_batch: int) -> list[list[Row]]:
    count = -(-len(rows) // rows_per_batch)
    edges = [len(rows) * n // max(count, 1) for n in range(count + 1)]
    batches = []
    for start, stop in itertools.pairwise(edges):
        batch: list[Row] = [()] * rows_per_batch
        for n, row in enumerate(rows[start:stop]):
            # Spread filled rows evenly, so that no host or device gets only empty rows.
            batch[n * rows_per_batch // (stop - start)] = row
        batches.append(batch)
    return batches
