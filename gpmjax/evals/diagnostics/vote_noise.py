"""Tests whether cycles are more than vote noise: cycles of the labels alone, and a model's cycles in the labels.

A share of cyclic triads, of a model or of labels, does not show that preferences are cyclic, since noisy votes form
cycles as well. (arXiv 2510.15514 finds cycles in 5 to 9 % of evaluations by language models, and attributes them to
measurement error.) `gpmjax.preference.cycle_test` compares with cycles of Bradley–Terry with vote noise.

Each label counts as one vote, soft ones and ties included. Training weights are ignored, as in every other figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.diagnostics.records import Record, skew_scores
from gpmjax.preference.cycle_test import REPLICATES, cycle_test


def cycles_of_groups(groups: Sequence[Group], *, replicates: int = REPLICATES) -> dict[str, Any]:
    """`cycle_test` of the groups' comparisons, without a model."""
    return cycle_test(
        [[(c.chosen, c.rejected, c.target) for c in group.comparisons] for group in groups], replicates=replicates
    )


def cycles_of_records(records: Sequence[Record], *, replicates: int = REPLICATES) -> dict[str, Any]:
    """Both tests of judged groups, as `cycle_test` returns them.

    Returns:
      ``labels``, the test of the labels alone, and ``model``, the test of whether the labels agree with the cycles of
      the model's scores. The latter uses groups whose pairs were all judged, and is valid for labels that the model was
      not trained on.


    >>> cyclic = {"scores": [[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]], "tau": 1.0}
    >>> labels = {"comparisons": [[0, 1, 1.0], [1, 2, 1.0], [2, 0, 1.0]]}
    >>> found = cycles_of_records([cyclic | labels] * 9, replicates=19)
    >>> found["labels"]["p"], found["model"]["p"]
    (0.05, 0.05)
    """
    rows = [[tuple(comparison) for comparison in record["comparisons"]] for record in records]
    stated = [(n, cycles) for n, record in enumerate(records) if (cycles := stated_cycles(record)) is not None]
    directions = [[cycles[i, j] for i, j, _ in rows[n]] for n, cycles in stated]
    return {
        "labels": cycle_test(rows, replicates=replicates),
        "model": cycle_test([rows[n] for n, _ in stated], directions=directions, replicates=replicates),
    }


def stated_cycles(record: Record) -> np.ndarray | None:
    """[K, K] cyclic part of a record's scores in log-odds, which no reward explains; None when a pair was not judged.

    It is the scores minus the differences of their row means (`game.hodge_decomposition`), divided by τ. Values
    that are 0 within rounding are set to 0.

    >>> stated_cycles({"scores": [[0.0, 1.0, 3.0], [-1.0, 0.0, 2.0], [-3.0, -2.0, 0.0]], "tau": 0.1}).any()
    np.False_
    """
    scores = skew_scores(record)
    if not np.isfinite(scores).all():
        return None
    reward = scores.mean(1)
    cycles = scores - (reward[:, None] - reward[None, :])
    return np.where(np.abs(cycles) > 1e-6 * np.abs(scores).max(initial=0.0), cycles, 0.0) / record["tau"]
