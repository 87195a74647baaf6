"""Pairwise models as judges: one forward pass an ordered pair, K(K − 1) for all pairs of K responses.

A pairwise model's answer depends on the order of the two responses, although it should not. A model that is asked in
both orders, r(i, j) and r(j, i), can be symmetrised, s(i ≻ j) = ½(r(i, j) − r(j, i)); its own answers are kept beside
the scores.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.arrays import ordered_pairs
from gpmjax.config.judge import SYMMETRIES
from gpmjax.data.encode import EncodedGroup, EncodeReport, encode_each
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.questions import QuestionFormat
from gpmjax.judges.judge import Pairs, Verdict
from gpmjax.judges.readout import GroupReading, Reader, reading_facts
from gpmjax.models.config import require_one_of


@dataclasses.dataclass(frozen=True)
class PairwiseJudge:
    """A model that is asked about ordered pairs.

    With ``questions.order`` "shuffled" a pair is asked about once, in the order that its texts' hash picks.
    """

    read: Reader
    questions: QuestionFormat
    identity: Mapping[str, Any]
    max_length: int = 2048
    symmetry: str = "average"
    """"average": the mean over both orders; "none": scores as the model gave them, s(i ≻ j) = r(i, j), not
    skew-symmetric."""

    def __post_init__(self):
        require_one_of("symmetry", self.symmetry, SYMMETRIES)

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `Judge`."""
        asked = [_distinct_pairs(group, pairs) for group in groups]
        encoded = list(encode_each(asked, self.questions, max_length=self.max_length))
        readings = self.read([group for group, _ in encoded])
        for group, (tokens, report), reading in zip(asked, encoded, readings, strict=True):
            yield self._verdict(self.questions.pairs(group), tokens, report, reading)

    def _verdict(
        self, pairs: Sequence[tuple[int, ...]], group: EncodedGroup, report: EncodeReport, reading: GroupReading
    ) -> Verdict:
        output: Any = reading.output  # a PairwiseOutput of numpy arrays
        values = output.value
        count = len(group.read)
        asked = np.full((count, count), np.nan)
        asked[tuple(np.array(pairs).T)] = values
        if not np.isfinite(values).all():
            raise ValueError(f"{group.where}: a score of the model is not finite")
        np.fill_diagonal(asked, 0.0)
        scores = asked
        if self.questions.order == "shuffled":
            scores = np.where(np.isnan(asked), -asked.T, asked)
        elif self.symmetry == "average":
            scores = (asked - asked.T) / 2
        return Verdict(
            scores=scores,
            **reading_facts(group, report, reading),
            asked=asked,
        )


def _distinct_pairs(group: Group, pairs: Pairs) -> Group:
    """The group with one comparison for each pair that is wanted, whatever its label; a response is not compared with
    itself."""
    count = len(group.responses)
    wanted = ordered_pairs(count)[::2]
    if pairs == "labelled":
        named = {tuple(sorted((c.chosen, c.rejected))) for c in group.comparisons}
        wanted = [pair for pair in wanted if pair in named] or wanted[:1]
    return dataclasses.replace(group, comparisons=tuple(Comparison(i, j) for i, j in wanted))
