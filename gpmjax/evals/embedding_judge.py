"""General preference models and Bradley–Terry rewards as judges: K forward passes for K responses, all pairs for free."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, encode_each
from gpmjax.data.grouping import split_group
from gpmjax.data.groups import Group
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.evals.judging import Pairs, Verdict
from gpmjax.evals.protocol import Scorer
from gpmjax.models.heads import PreferenceOutput, group_scores

# Rows this long keep a device busy; in longer ones attention costs more than the prompts that they save.
SHORT_ROW = 1024
CHUNK = 64
"""Groups that are packed together, and handed over together."""


@dataclasses.dataclass(frozen=True)
class EmbeddingJudge:
    """A model that reads each response once; ``scorer`` is it, jitted, with its parameters filled in."""

    scorer: Scorer
    chat: ChatFormat
    identity: Mapping[str, Any]
    max_length: int = 2048
    rows_per_batch: int = 8

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `judging.Judge`. ``pairs`` changes nothing: embeddings give every pair."""
        if not groups:
            return
        # Labels play no part: a comparison of equal texts must not cost a group its verdict.
        unlabelled = (dataclasses.replace(group, comparisons=()) for group in groups)
        encoded = list(encode_each(unlabelled, self.chat, max_length=self.max_length))
        longest = max(len(group.prompt) + max(map(len, group.responses)) for group, _ in encoded)
        pieces = [split_group(group, row_length=max(SHORT_ROW, longest)) for group, _ in encoded]
        shape = fit_shape([piece for several in pieces for piece in several], rows=self.rows_per_batch)
        for start in range(0, len(groups), CHUNK):
            chunk = pieces[start : start + CHUNK]
            pipeline = Pipeline([[piece for several in chunk for piece in several]], shape, order="ordered")
            read = self._read(pipeline)
            for (group, report), several in zip(encoded[start : start + CHUNK], chunk, strict=True):
                yield _verdict(group, several, read, bool(report.prompts_cut or report.responses_cut))

    def _read(self, pipeline: Pipeline) -> dict[int, PreferenceOutput]:
        """What the model says of each piece's responses, by the piece's ``id``."""
        read = {}
        for step in range(pipeline.steps(1)):
            output = self.scorer(pipeline.batch(step))
            output = PreferenceOutput(*(None if field is None else np.asarray(field) for field in output))
            for b, row in enumerate(pipeline.rows(step)):
                first = 0
                for piece in row:
                    last = first + len(piece.responses)
                    scale = None if output.scale is None else output.scale[b, first:last]
                    read[id(piece)] = PreferenceOutput(output.embedding[b, first:last], scale, output.tau)
                    first = last
        return read


def _verdict(
    group: EncodedGroup, pieces: Sequence[EncodedGroup], read: Mapping[int, PreferenceOutput], truncated: bool
) -> Verdict:
    parts = [read[id(piece)] for piece in pieces]
    embedding = np.concatenate([part.embedding for part in parts])
    # One prompt, hence one gate, whichever piece it was read in.
    scale = None if parts[0].scale is None else parts[0].scale[0]
    everywhere = None if scale is None else np.broadcast_to(scale, (len(embedding), len(scale)))
    scores = np.asarray(group_scores(PreferenceOutput(embedding, everywhere, parts[0].tau)), np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"{group.where}: a score of the model is not finite")
    return Verdict(
        scores=(scores - scores.T) / 2,  # to the last bit
        tau=float(parts[0].tau),
        tokens=np.array([len(response) for response in group.responses]),
        forward_tokens=sum(piece.size[0] for piece in pieces),
        truncated=truncated,
        embedding=embedding,
        scale=scale,
    )
