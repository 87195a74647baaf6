"""What a benchmark is: rows in its authors' own format, made into groups, and the figures they make of the answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.benchmarks.aggregation import Aggregation, skew_part
from gpmjax.judges.judge import Pairs, record_scores


class BenchmarkFile(NamedTuple):
    """A file of a benchmark."""

    source: str
    fields: Mapping[str, Any] = {}
    """What every row of it has beside its own fields, which come first."""


class Judged(NamedTuple):
    """A group and what a judge says of it."""

    group: Group
    scores: np.ndarray
    """[K, K] float64 s(i ≻ j), NaN where not asked; not skew-symmetric for a pairwise model that is not symmetrised."""
    asked: np.ndarray | None = None
    """[K, K] r(i, j) of a pairwise model as it was asked, before any symmetrising; NaN where it was not."""

    @property
    def skew(self) -> np.ndarray:
        """[K, K] ½ (S − Sᵀ): both orders of every pair, averaged."""
        return skew_part(self.scores)

    @property
    def both_orders(self) -> np.ndarray:
        """[K, K] what was said with i before j: that of a pairwise model that was asked in both orders, else the scores."""
        whole = self.asked is not None and not np.isnan(self.asked[~np.isnan(self.scores)]).any()
        return self.asked if whole else self.scores


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark; `benchmarks.BENCHMARKS` holds those there are."""

    name: str
    split: str
    """Of its data set on the hub, when the source names none."""
    parse: Callable[[Mapping[str, Any], str], Group]
    """A row's fields (those that are null left out) and its place → its group; FieldError for a row that does not fit."""
    summarise: Callable[[Sequence[Judged], Aggregation], dict[str, Any]]
    """At least one judged group → JSON-ready figures, all shares in [0, 1]: ``score`` (the headline) and its ``interval``
    (95 %), ``sections`` and ``subsets`` → name → {``rows``, ``score``, ``interval``, and the ``columns``}, and what else
    the benchmark has."""
    counting: str
    """How ties are counted, for a table's foot."""
    columns: tuple[str, ...] = ()
    """Further shares of a section or subset that a table shows."""
    pairs: Pairs = "labelled"
    """Which are needed; each in both orders, as benchmarks write the right answer first, and a pairwise model that favours
    whatever comes first would shine."""
    parts: Callable[[str], Sequence["BenchmarkFile"]] = lambda source: [BenchmarkFile(source)]
    """A source → what it is read from, in order."""
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


def judged_record(group: Group, record: Mapping[str, Any], pairs: Pairs) -> Judged:
    """A group beside its record (`judging.group_record`).

    Raises:
        ValueError: a pair of ``pairs`` that the judge left out, or has said nothing of in one of its orders.
    """
    scores = record_scores(record)
    count = len(scores)
    wanted = np.full((count, count), pairs == "all")
    for comparison in group.comparisons:
        wanted[comparison.chosen, comparison.rejected] = wanted[comparison.rejected, comparison.chosen] = True
    np.fill_diagonal(wanted, False)
    np.fill_diagonal(scores, 0.0)
    missing = np.argwhere(wanted & np.isnan(scores))
    if len(missing):
        i, j = missing[0]
        raise ValueError(
            f"{group.where}: the judge says nothing of response {i} against response {j}; it must of {pairs} pairs"
        )
    asked = record_scores({"scores": record["asked"]}) if "asked" in record else None
    return Judged(group, scores, asked)
