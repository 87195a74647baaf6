"""Comparisons among the responses of many prompts as arrays, and labels drawn from a Bradley–Terry model of them.

A *vote* is one label of one pair. A `Block` holds the groups of similar size, padded to the largest of them.
`cycle_test` draws new labels for the same pairs many times, so arrays of labels have a leading axis B, one entry per
data set.

Results do not depend on the order of the groups or on the names of the responses: groups are sorted by content, and
responses are numbered in the order in which their group's comparisons first name them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

# Groups are padded to these sizes; larger groups are padded to a multiple of the last.
_SIZES = (3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64)


@dataclasses.dataclass(frozen=True)
class Block:
    """G groups of at most K responses, with M records. A record is a pair i < j with n votes.

    Records are sorted by group and pair; several records may be about one pair.
    """

    present: np.ndarray
    """[G, K] bool: False on padding."""
    group: np.ndarray
    """[M] int: the index of the record's group."""
    i: np.ndarray
    """[M] int: the response of the pair with the smaller number."""
    j: np.ndarray
    """[M] int: the other response."""
    votes: np.ndarray
    """[M] int: n ≥ 1."""
    wins: np.ndarray
    """[M] votes for i, in [0, n]; fractional only where n = 1."""
    weight: np.ndarray
    """[M]: the weight of each vote in the likelihood."""
    direction: np.ndarray
    """[M]: what a model adds to the log-odds of i over j beyond rewards; 0 without a model."""

    @property
    def size(self) -> int:
        """K, padding included."""
        return self.present.shape[1]

    @property
    def pair_starts(self) -> np.ndarray:
        """The index of each pair's first record, [P]."""
        key = (self.group * self.size + self.i) * self.size + self.j
        return np.flatnonzero(np.r_[True, key[1:] != key[:-1]])

    def matrix(self, values: np.ndarray, sign: int) -> np.ndarray:
        """Sums of the records' values [B, M] by pair: [B, G, K, K], symmetric (sign 1) or skew-symmetric (sign −1)."""
        starts = self.pair_starts
        pairs = np.add.reduceat(values, starts, axis=1)
        out = np.zeros((len(values), *self.present.shape, self.size))
        group, i, j = self.group[starts], self.i[starts], self.j[starts]
        out[:, group, i, j] = pairs
        out[:, group, j, i] = sign * pairs
        return out

    def pick(self, matrices: np.ndarray) -> np.ndarray:
        """The entries (i, j) of matrices [B, G, K, K] at each record, [B, M]."""
        return matrices[:, self.group, self.i, self.j]


def redraw(log_odds, target, rng: np.random.Generator, *, votes=1) -> np.ndarray:
    """Labels of the same pairs drawn from a model: the votes of one replicate of the null hypothesis.

    A plain label (0 or 1) is drawn anew with P = σ(log-odds). A tie stays a tie, since Davidson's model of ties is
    Bradley–Terry for the votes that are not ties. A soft label t keeps its distance from ½; its side is drawn with
    P = σ(|2t − 1| log-odds), which follows from the ratio of its two likelihoods. Of n votes, each is drawn.

    Args:
      log_odds: [..., M], of the side that ``target`` is about.
      target: [M] in [0, 1]; where ``votes`` is above 1, the share of votes.
      rng: the random generator.
      votes: [M] or one number n ≥ 1.
    Returns:
      New targets [..., M] float64.
    Source: Davidson 1970, doi:10.1080/01621459.1970.10481082.

    >>> redraw(np.full(4, 50.0), [0.0, 0.5, 0.2, 1.0], np.random.default_rng(0)).tolist()
    [1.0, 0.5, 0.8, 1.0]
    """
    log_odds, target, votes = np.asarray(log_odds, np.float64), np.asarray(target, np.float64), np.asarray(votes)
    strength = np.where(votes > 1, 1.0, np.abs(2 * target - 1))
    share = rng.binomial(votes, expit(strength * log_odds)) / votes
    return 0.5 + strength * (share - 0.5)


def blocks(groups: Sequence, *, directions: Sequence | None = None) -> list[Block]:
    """Arrays of the comparisons that can be part of a cycle.

    A response that is compared with only one other response is on no cycle, whatever the labels say. Its comparisons
    are left out, and so on until every response has two neighbours. Comparisons of a response with itself are left out
    too.

    Args:
      groups: per prompt, rows (i, j, target), (i, j, target, weight) or (i, j, target, weight, votes). i and j name the
        responses. ``target`` is P(i ≻ j) according to the label: 1, 0, ½ for a tie, a number between for a soft label,
        or of several votes the share for i. ``weight`` is that of each vote in the likelihood, 1 by default. ``votes``
        is how many votes the row stands for, 1 by default. Rows may repeat a pair.
      directions: per prompt, one number per row: what a model adds to the log-odds of i over j beyond rewards.
    Returns:
      Blocks by ascending size; none when no comparison is left.
    Raises:
      ValueError: one line naming the group, the row and the value.

    >>> (block,) = blocks([[(7, 8, 1), (8, 9, 1), (9, 7, 1), (9, 5, 0)], [(0, 1, 1)]])
    >>> block.i.tolist(), block.j.tolist(), block.wins.tolist()
    ([0, 0, 1], [1, 2, 2], [1.0, 0.0, 1.0])
    """
    if directions is not None and len(directions) != len(groups):
        raise ValueError(f"directions: {len(directions)} groups, must be as many as groups, {len(groups)}")
    parsed = []
    for g, rows in enumerate(groups):
        table = _checked(rows, g)
        extra = np.zeros(len(table)) if directions is None else np.asarray(directions[g], np.float64)
        if extra.shape != (len(table),) or not np.isfinite(extra).all():
            raise ValueError(
                f"directions[{g}]: must be one finite number for each of the group's {len(table)} comparisons"
            )
        counted = (table[:, 0] != table[:, 1]) & (table[:, 3] > 0)
        if len(kept := _closed(np.column_stack([table, extra])[counted])):
            parsed.append(kept)
    by_size: dict[int, list[np.ndarray]] = {}
    for table in parsed:
        by_size.setdefault(_padded(int(table[:, :2].max()) + 1), []).append(table)
    return [_block(by_size[size], size) for size in sorted(by_size)]


def count_rows(votes, wins) -> list[tuple[int, int, float, float, int]]:
    """Rows for `blocks` from counts.

    ``votes`` [K, K] are symmetric whole numbers; ``wins`` [K, K] are votes for the row's response against the column's.

    >>> count_rows([[0, 3], [3, 0]], [[0, 2], [1, 0]])
    [(0, 1, 0.666..., 1.0, 3)]
    """
    votes, wins = np.asarray(votes), np.asarray(wins, np.float64)
    if votes.ndim != 2 or votes.shape[0] != votes.shape[1] or wins.shape != votes.shape:
        raise ValueError(f"votes {list(votes.shape)} and wins {list(wins.shape)} must be [K, K] both")
    off = ~np.eye(len(votes), dtype=bool)
    if not np.allclose((wins + wins.T)[off], votes[off]) or not np.array_equal(votes, votes.T):
        raise ValueError("wins: wins[i, j] + wins[j, i] must be votes[i, j] for every pair")
    pairs = zip(*np.nonzero(np.triu(votes, 1)), strict=True)
    return [(int(i), int(j), float(wins[i, j] / votes[i, j]), 1.0, int(votes[i, j])) for i, j in pairs]


def _checked(rows, g: int) -> np.ndarray:
    """A group's rows as an array [m, 5] of i, j, target, weight, votes; raises ValueError on a bad row."""
    full = [(*row, *(1.0, 1)[len(row) - 3 :]) if 3 <= len(row) <= 5 else row for row in rows]
    for m, row in enumerate(full):
        where = f"groups[{g}].comparisons[{m}]"
        if len(row) != 5:
            raise ValueError(f"{where}: {len(row)} numbers, must be i, j, target and perhaps weight and votes")
        _, _, target, weight, votes = row
        if not 0 <= target <= 1:
            raise ValueError(f"{where}: target={target}: must be in [0, 1]")
        if not (weight >= 0 and np.isfinite(weight)):
            raise ValueError(f"{where}: weight={weight}: must be finite and at least 0")
        if not (votes >= 1 and votes == int(votes)):
            raise ValueError(f"{where}: votes={votes}: must be a whole number of at least 1")
        if votes > 1 and abs(target * votes - round(target * votes)) > 1e-6:
            raise ValueError(
                f"{where}: target={target} of {votes} votes is {target * votes} votes, must be a whole number"
            )
    return np.array(full, np.float64).reshape(-1, 5)


def _closed(table: np.ndarray) -> np.ndarray:
    """The rows [m, 6] between responses that have two neighbours; renumbered by first mention, i < j, sorted."""
    while len(table):
        pairs = np.unique(np.sort(table[:, :2], axis=1), axis=0)
        names, degree = np.unique(pairs, return_counts=True)
        inside = np.isin(table[:, :2], names[degree >= 2]).all(1)
        if inside.all():
            break
        table = table[inside]
    if not len(table):
        return table
    names, first, place = np.unique(table[:, :2].ravel(), return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))[place].reshape(-1, 2)
    turned = number[:, 0] > number[:, 1]
    target = np.where(turned, 1 - table[:, 2], table[:, 2])
    extra = np.where(turned, -table[:, 5], table[:, 5])
    table = np.column_stack([np.sort(number, axis=1), target, table[:, 3:5], extra])
    return table[np.lexsort(table.T[::-1])]


def _padded(size: int) -> int:
    return next((step for step in _SIZES if step >= size), -(-size // _SIZES[-1]) * _SIZES[-1])


def _block(tables: list[np.ndarray], size: int) -> Block:
    tables = sorted(tables, key=lambda table: (len(table), table.tobytes()))
    present = np.zeros((len(tables), size), bool)
    for row, table in zip(present, tables, strict=True):
        row[: int(table[:, :2].max()) + 1] = True
    i, j, target, weight, votes, extra = np.concatenate(tables).T
    group = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    whole = votes.astype(int)
    wins = np.where(whole > 1, np.round(target * votes), target)
    return Block(present, group, i.astype(int), j.astype(int), whole, wins, weight, extra)
