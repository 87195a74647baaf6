"""A labelled set made ready for measuring: every comparison once, in a fixed order, none lost without being named."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gpmjax.arrays import TokenBatch
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, EncodeReport, encode_each
from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups, split_group
from gpmjax.data.groups import Group
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.data.questions import QuestionFormat
from gpmjax.evals.comparisons import BREAKDOWN, Facts, measure
from gpmjax.evals.intervals import prompt_name
from gpmjax.judges.forward import Batch, Scorer
from gpmjax.judges.readout import SHORT_ROW


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Groups as tokens, how they are batched, and what is known of each comparison."""

    groups: Sequence[Group]
    """As read, pairs that share a prompt merged."""
    pipeline: Pipeline
    """Each group once, in order; its ``rows(step)`` also serve to batch cached features."""
    facts: dict[int, Facts]
    """By the comparison's number; those that are scored."""
    report: EncodeReport
    """What encoding cut and dropped."""
    dropped: tuple[str, ...]
    """Where the comparisons stand that are not scored, because their sides are equal or became so when cut."""

    @property
    def steps(self) -> int:
        """Number of batches."""
        return self.pipeline.steps(1)

    def batches(self) -> Iterator[TokenBatch]:
        """Every batch, from the first."""
        return (self.pipeline.batch(step) for step in range(self.steps))

    def measure(
        self,
        scorer: Scorer,
        batches: Iterable[Batch],
        *,
        by: Sequence[str] = BREAKDOWN,
        sink: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Figures of a model on these comparisons, see `preference.measure`; ``batches`` are ours, or made of the same
        rows' cached features."""
        return measure(scorer, batches, self.facts, by=by, sink=sink)


def held_out(
    source: str,
    chat: ChatFormat | QuestionFormat,
    *,
    max_length: int,
    rows_per_batch: int,
    row_length: int | None = None,
    packing: str = "pack",
) -> HeldOut:
    """Read a source (see `gpmjax.data.sources`) and encode it for evaluation.

    Args:
      max_length: tokens of one prompt with one response; of longer ones the excess is cut, see `gpmjax.data.window`.
      rows_per_batch: rows of a batch; float32 scores depend on it by no more than 1e-5 of the largest.
      row_length: token slots of a row. None: as many as the longest group takes, groups of more than 1,024 being split
        where their pairs allow it.
      packing: "pack" puts several groups in a row, "single" one.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, and the line and field if it is about one.
    """
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch={rows_per_batch}: must be at least 1")
    if isinstance(chat, QuestionFormat) and chat.order != "both":
        raise ValueError(f"order={chat.order!r}: a held-out set is asked about in 'both' orders")
    groups = read_groups(source)
    merged = merge_groups(groups)
    pairs = list(encode_each(merged, chat, max_length=max_length))
    report = sum((report for _, report in pairs), EncodeReport())
    if not report.comparisons:
        raise ValueError(f"{source}: no comparison between different texts, there is nothing to measure")
    facts = _facts(groups, merged, [encoded for encoded, _ in pairs])
    everything = [(c.number, group.where) for group in groups for c in group.comparisons]
    compared = [encoded for encoded, _ in pairs if encoded.comparisons]
    limit = row_length or max(SHORT_ROW, max(map(_longest_pair, compared)))
    pieces = [piece for encoded in compared for piece in split_group(encoded, row_length=limit)]
    shape = fit_shape(pieces, rows=rows_per_batch, tokens=row_length, packing=packing)
    return HeldOut(
        groups=merged,
        pipeline=Pipeline([pieces], shape, order="ordered", packing=packing),
        facts=facts,
        report=report,
        dropped=tuple(where for row, where in everything if row not in facts),
    )


def _longest_pair(group: EncodedGroup) -> int:
    return max(group.slots({c.chosen, c.rejected}) for c in group.comparisons)


def _facts(groups: Sequence[Group], merged: Sequence[Group], encoded: Sequence[EncodedGroup]) -> dict[int, Facts]:
    """Facts of the comparisons that survived encoding; texts, tags and places are the row's own, from before
    merging."""
    read = {c.number: (group, c) for group in groups for c in group.comparisons}
    facts = {}
    for whole, kept in zip(merged, encoded, strict=True):
        named = {c.number: (c.chosen, c.rejected) for c in whole.comparisons}
        for comparison in kept.comparisons:
            group, original = read[comparison.number]
            first, second = (kept.read[side] for side in named[comparison.number])
            facts[comparison.number] = Facts(
                group.where,
                (first.tokens, second.tokens),
                (len(group.responses[original.chosen]), len(group.responses[original.rejected])),
                group.tags,
                any(side.lost or side.prompt_lost for side in (first, second)),
                prompt_name(group),
            )
    return facts
