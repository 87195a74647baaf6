"""General preference models and rewards as judges: K forward passes for K responses, all pairs for free.

Rewards are Bradley–Terry's, and those of a verifier that is asked about each response (GenRM).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, EncodeReport, encode_each
from gpmjax.data.groups import Group
from gpmjax.data.questions import QuestionFormat
from gpmjax.judges.judge import Pairs, Verdict
from gpmjax.judges.readout import GroupReading, Reader, reading_facts
from gpmjax.models.scores import group_scores, prompt_scale


@dataclasses.dataclass(frozen=True)
class EmbeddingJudge:
    """A model that reads each response once."""

    read: Reader
    chat: ChatFormat | QuestionFormat
    identity: Mapping[str, Any]
    max_length: int = 2048

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `Judge`. ``pairs`` changes nothing: embeddings give every pair."""
        # Labels play no part: a comparison of equal texts must not cost a group its verdict.
        unlabelled = (dataclasses.replace(group, comparisons=()) for group in groups)
        encoded = list(encode_each(unlabelled, self.chat, max_length=self.max_length))
        readings = self.read([group for group, _ in encoded])
        for (group, report), reading in zip(encoded, readings, strict=True):
            yield _verdict(group, report, reading)


def _verdict(group: EncodedGroup, report: EncodeReport, reading: GroupReading) -> Verdict:
    output: Any = reading.output  # a PreferenceOutput of numpy arrays
    scores = np.asarray(group_scores(output) if reading.scores is None else reading.scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"{group.where}: a score of the model is not finite")
    scores = (scores - scores.T) / 2  # to the last bit
    # The same text twice is a tie, not the sign of a rounding error.
    scores[_equal(group.responses)] = 0.0
    return Verdict(
        scores=scores,
        **reading_facts(group, report, reading),
        embedding=output.embedding,
        reward=output.reward,
        scale=None if output.scale is None else prompt_scale(output.scale),
    )


def _equal(responses: Sequence[np.ndarray]) -> np.ndarray:
    """[K, K] bool: which responses are the same tokens."""
    first: dict[bytes, int] = {}
    kinds = np.array([first.setdefault(response.tobytes(), n) for n, response in enumerate(responses)])
    return kinds[:, None] == kinds[None, :]
