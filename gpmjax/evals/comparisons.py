"""Scores of labelled comparisons: who does the model prefer, and does it agree with the labels?

Three steps, each usable alone: `score_batches` asks the model, `rows` puts what is known of a comparison beside its
score, `summarise_rows` turns rows into figures. `measure` does all three.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from gpmjax.data.groups import Group
from gpmjax.evals.metrics import comparison_figures
from gpmjax.evals.order import order_figures
from gpmjax.judges.forward import Batch, Scorer
from gpmjax.judges.judge import Judge
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput, order_values, pair_scores

LENGTHS = ("tokens", "characters")
SIDES = ("chosen", "rejected")
BREAKDOWN = ("subset", "group")


class ComparisonScores(NamedTuple):
    """The comparisons of one batch, n of them, padding left out."""

    row: np.ndarray
    """[n] int: index of the comparison in its data set."""
    score: np.ndarray
    """[n] float32: s(chosen ≻ rejected), raw."""
    target: np.ndarray
    """[n] float32: P(chosen ≻ rejected) according to the label."""
    tau: float
    order_gap: np.ndarray | None = None
    """[n] float32 r(i, j) + r(j, i) of a pairwise model asked in both orders: 0 for one to which order is all the
    same."""


class Kept(NamedTuple):
    """What an earlier evaluation left."""

    records: Sequence[Mapping[str, Any]]
    tau: float


@dataclass(frozen=True)
class Facts:
    """What the data know of one comparison, whatever a model says of it."""

    source: str
    """File and line, or row, that it was read from."""
    tokens: tuple[int, int]
    """Response tokens of the chosen and of the rejected side, as encoded: EOS counted, truncation done."""
    characters: tuple[int, int]
    """The same in characters of the whole text."""
    tags: Mapping[str, Any]
    truncated: bool = False
    """Whether the prompt or one of the two responses was cut to the model's window."""
    prompt: str = ""
    """`intervals.prompt_name`: what intervals take as independent."""


def score_batches(scorer: Scorer, batches: Iterable[Batch]) -> Iterator[ComparisonScores]:
    """Score every comparison of ``batches``, a batch at a time.

    One batch is read back while the next is computed. A comparison's score depends on nothing else in its batch.
    """
    pending: tuple[Batch, PreferenceOutput | PairwiseOutput] | None = None
    for batch in batches:
        current = (batch, scorer(batch))
        if pending is not None:
            yield _read_back(*pending)
        pending = current
    if pending is not None:
        yield _read_back(*pending)


def _read_back(batch: Batch, output: PreferenceOutput | PairwiseOutput) -> ComparisonScores:
    comparisons = batch.comparisons
    score = np.asarray(pair_scores(output, comparisons))
    # Padding is told by its row: a real comparison may carry weight 0 in training and still be measured.
    real = np.asarray(comparisons.number) >= 0
    gap = None
    if isinstance(output, PairwiseOutput) and np.any((comparisons.chosen != comparisons.rejected)[real]):
        gap = np.asarray(sum(order_values(output, comparisons)))[real]
    return ComparisonScores(
        row=np.asarray(comparisons.number)[real],
        score=score[real],
        target=np.asarray(comparisons.target)[real],
        tau=float(output.tau),
        order_gap=gap,
    )


def rows(scored: Iterable[ComparisonScores], facts: Mapping[int, Facts]) -> Iterator[dict[str, Any]]:
    """One JSON-ready record per comparison, as they come.

    Keys: ``row, source, score, probability`` (σ(s/τ)), ``target, chosen_tokens, rejected_tokens, chosen_characters,
    rejected_characters, truncated, prompt, tags``; ``order_gap`` for a pairwise model asked in both orders.

    Raises ValueError, naming the comparison's source, for a score that is not finite.
    """
    for part in scored:
        gaps = [None] * len(part.row) if part.order_gap is None else part.order_gap
        for row, score, target, gap in zip(part.row, part.score, part.target, gaps, strict=True):
            known = facts[int(row)]
            if not np.isfinite(score):
                raise ValueError(f"{known.source}: the model's score is {score}, must be finite")
            yield {
                "row": int(row),
                "source": known.source,
                "score": float(score),
                "probability": float(special.expit(np.float64(score) / part.tau)),
                "target": float(target),
                **({} if gap is None else {"order_gap": float(gap)}),
                **{f"{side}_{unit}": getattr(known, unit)[i] for unit in LENGTHS for i, side in enumerate(SIDES)},
                "truncated": known.truncated,
                "prompt": known.prompt,
                "tags": dict(known.tags),
            }


def summarise_rows(records: Sequence[Mapping], tau: float, *, by: Sequence[str] = BREAKDOWN) -> dict[str, Any]:
    """`metrics.comparison_figures` of records as `rows` makes them; they may come back from a file, in any order.

    Intervals are over the records' prompts; records from before these were written have none, and theirs are over
    comparisons.
    """
    records = sorted(records, key=lambda record: record["row"])

    def column(name: str) -> np.ndarray:
        return np.array([record[name] for record in records], np.float64)

    figures = comparison_figures(
        column("score"),
        column("target"),
        tau,
        lengths={unit: tuple(column(f"{side}_{unit}") for side in SIDES) for unit in LENGTHS},
        tags=[record["tags"] for record in records],
        prompts=[record["prompt"] for record in records] if all(record.get("prompt") for record in records) else None,
        by=by,
    )
    if all("order_gap" in record for record in records):
        figures["order"] = order_figures(column("score"), column("order_gap"), column("target"))
    return figures


def measure(
    scorer: Scorer,
    batches: Iterable[Batch],
    facts: Mapping[int, Facts],
    *,
    by: Sequence[str] = BREAKDOWN,
    sink: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """`measure_scored` of a model over ``batches``."""
    return measure_scored(score_batches(scorer, batches), facts, by=by, sink=sink)


def measure_scored(
    scored: Iterable[ComparisonScores],
    facts: Mapping[int, Facts],
    *,
    by: Sequence[str] = BREAKDOWN,
    sink: Callable[[dict[str, Any]], None] | None = None,
    kept: Kept | None = None,
) -> dict[str, Any]:
    """Accuracy, likelihood, calibration and the length baseline of scored comparisons.

    Args:
      facts: by the comparison's number.
      by: tags to break the figures down by.
      sink: given each record as soon as it is known, to be written down.
      kept: records of an earlier evaluation, beside which ``scored`` are the rest.

    Returns:
      The figures of `metrics.comparison_figures`, and of `order.order_figures` for a pairwise model.
    """
    records, tau = ([], 1.0) if kept is None else (list(kept.records), kept.tau)
    records = [{"prompt": facts[record["row"]].prompt, **record} for record in records]  # older ones lack it
    for part in scored:
        tau = part.tau
        for record in rows([part], facts):
            records.append(record)
            if sink is not None:
                sink(record)
    return summarise_rows(records, tau, by=by)


def judged_comparisons(judge: Judge, groups: Sequence[Group]) -> Iterator[ComparisonScores]:
    """A judge's scores of the groups' comparisons, for `measure_scored`."""
    for group, verdict in zip(groups, judge(groups), strict=True):
        chosen, rejected = (
            np.array([getattr(c, side) for c in group.comparisons], int) for side in ("chosen", "rejected")
        )
        gap = None if verdict.asked is None else verdict.asked[chosen, rejected] + verdict.asked[rejected, chosen]
        yield ComparisonScores(
            row=np.array([c.number for c in group.comparisons], int),
            score=verdict.scores[chosen, rejected],
            target=np.array([c.target for c in group.comparisons], float),
            tau=verdict.tau,
            order_gap=None if gap is None or np.isnan(gap).any() else gap,
        )
