"""The contract of a benchmark: it parses rows in its authors' format and computes its authors' figures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.benchmarks.aggregation import Aggregation, skew_part
from gpmjax.judges.judge import Pairs, record_scores


class BenchmarkFile(NamedTuple):
    """One file of a benchmark."""

    source: str
    fields: Mapping[str, Any] = MappingProxyType({})
    """Fields that all of its rows share. A row's own fields take precedence."""


class Judged(NamedTuple):
    """A group and a judge's verdict on it."""

    group: Group
    scores: np.ndarray
    """[K, K] float64 s(i ≻ j), NaN where not judged; not skew-symmetric for a pairwise model without symmetrising."""
    asked: np.ndarray | None = None
    """[K, K] r(i, j) of a pairwise model before any symmetrising; NaN where not judged."""

    @property
    def skew(self) -> np.ndarray:
        """[K, K] ½ (S − Sᵀ), the mean of both orders of every pair."""
        return skew_part(self.scores)

    @property
    def both_orders(self) -> np.ndarray:
        """[K, K] scores with i read before j: ``asked`` where a pairwise model judged both orders, else ``scores``."""
        if self.asked is None or np.isnan(self.asked[~np.isnan(self.scores)]).any():
            return self.scores
        return self.asked


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark. `benchmarks.BENCHMARKS` holds all of them."""

    name: str
    split: str
    """Split of its data set on the hub, when the source names none."""
    parse: Callable[[Mapping[str, Any], str], Group]
    """A row's fields (without null ones) and its place → its group; raises FieldError for a malformed row."""
    summarise: Callable[[Sequence[Judged], Aggregation], dict[str, Any]]
    """At least one judged group → JSON-ready figures, all shares in [0, 1]: ``score`` (the headline) and its
    ``interval`` (95 %), ``sections`` and ``subsets`` → name → {``rows``, ``score``, ``interval``, and the ``columns``},
    and further figures of the benchmark."""
    counting: str
    """How ties are counted, for a table's foot."""
    columns: tuple[str, ...] = ()
    """Further shares of a section or subset that a table shows."""
    pairs: Pairs = "labelled"
    """The pairs that are judged, each in both orders: benchmarks write the right answer first, so in one order a
    pairwise model that prefers the first response would score highest."""
    files: Callable[[str], Sequence[BenchmarkFile]] = lambda source: [BenchmarkFile(source)]
    """A source → its files, in order."""
    key: Callable[[Group], str | None] = lambda group: None
    """Rows of equal key are the same example; None: the row has no key."""
    leaderboard: Callable[[Sequence[Judged], Aggregation], "Leaderboard"] | None = None
    """Verdicts in the authors' output format, where they have one."""


class Leaderboard(NamedTuple):
    """Results in the format of RewardBench's leaderboards."""

    results: dict[str, float]
    """Subset → score."""
    rows: list[dict[str, Any]]
    """One row per example: ``id``, ``subset``, ``results`` and the scores."""


def judged_record(group: Group, record: Mapping[str, Any], pairs: Pairs) -> Judged:
    """A group with the verdict in its record (`judge.group_record`).

    Raises:
        ValueError: a pair of ``pairs`` has no verdict in one of its orders.
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
            f"{group.where}: the judge has no verdict on response {i} against response {j}; {pairs} pairs need one"
        )
    asked = record_scores({"scores": record["asked"]}) if "asked" in record else None
    return Judged(group, scores, asked)
