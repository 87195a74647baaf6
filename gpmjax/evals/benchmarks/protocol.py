"""What a benchmark is: rows in its authors' own format, made into groups, and the figures its authors make of the answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.benchmarks.aggregation import Aggregation, skew_part
from gpmjax.evals.judging import Pairs, record_scores


class Judged(NamedTuple):
    """A group and what a judge says of it."""

    group: Group
    scores: np.ndarray
    """[K, K] float64 s(i ≻ j) as the judge gave it; not skew-symmetric for a pairwise model that is not symmetrised."""

    @property
    def skew(self) -> np.ndarray:
        """[K, K] ½ (S − Sᵀ): both orders of every pair, averaged."""
        return skew_part(self.scores)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark; `benchmarks.BENCHMARKS` holds those there are."""

    name: str
    split: str
    """Of its data set on the hub, when the source names none."""
    parse: Callable[[Mapping[str, Any], str], Group]
    """A row's fields (those that are null left out) and its place → its group; RowError for a row that does not fit."""
    summarise: Callable[[Sequence[Judged], Aggregation], dict[str, Any]]
    """At least one judged group → JSON-ready figures, all shares in [0, 1]: ``score`` (the headline) and its ``interval``
    (95 %), ``sections`` and ``subsets`` → name → {``rows``, ``score``, ``interval``, and the ``columns``}, and what else the
    benchmark has."""
    counting: str
    """How ties are counted, for a table's foot."""
    columns: tuple[str, ...] = ()
    """Further shares of a section or subset that a table shows."""
    pairs: Pairs = "all"
    """Both orders of every pair by default: benchmarks write the right answer first, and a pairwise model that favours
    whatever comes first would shine."""
    key: Callable[[Group], str | None] = lambda group: None
    """Rows of equal key are the same example; None is no key."""
    leaderboard: Callable[[Sequence[Judged], Aggregation], "Leaderboard"] | None = None
    """The answers in the authors' own output format, where they have one."""


class Leaderboard(NamedTuple):
    """Results as RewardBench's leaderboards take them."""

    results: dict[str, float]
    """Subset → score."""
    rows: list[dict[str, Any]]
    """One per example: ``id``, ``subset``, ``results`` and the scores."""


def judged_record(group: Group, record: Mapping[str, Any]) -> Judged:
    """A group beside its record (`judging.group_record`).

    Raises:
        ValueError: a pair that the judge left out.
    """
    scores = record_scores(record)
    np.fill_diagonal(scores, 0.0)
    if np.isnan(scores).any():
        i, j = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"{group.where}: no score of response {i} against response {j}; the judge must score all pairs")
    return Judged(group, scores)
