"""Readers for training: equal responses of a group are read once and share what is read, and batches have few shapes.

Read twice, equal texts would have scores that differ by rounding, and a policy gradient or an optimiser that normalises
would make real steps of that.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gpmjax.arrays import Array, TokenBatch
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.judges.readout import SLOTS_STEP, GroupReading, Output, Reader, responses_at, round_up
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PairwiseOutput, group_scores
from gpmjax.sharding import put_whole_batch, replicated


@dataclasses.dataclass(frozen=True)
class RowReader:
    """A `Reader` of one forward pass over batches of ``rows`` groups, one a row, their scores computed beside it."""

    apply: Callable[[TokenBatch], tuple[Output, Array | None]]
    """The model with its parameters filled in: a batch → the output, and scores [B, R, R] unless the model is
    pairwise."""
    mesh: Mesh
    rows: int
    """A multiple of the devices that rows are split over."""

    def __call__(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        for start in range(0, len(groups), self.rows):
            yield from self._read(groups[start : start + self.rows])

    def _read(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        """At most a batch of groups."""
        distinct, places = zip(*map(distinct_responses, groups), strict=True)
        tokens = round_up(max(group.size[0] for group in distinct), SLOTS_STEP)
        shape = BatchShape(self.rows, tokens, max(len(group.responses) for group in groups), 1)
        rows = [[group] for group in distinct] + [[]] * (self.rows - len(groups))
        output, scores = self.apply(put_whole_batch(self.mesh, assemble(rows, shape)))
        output = jax.tree.map(np.asarray, output)
        scores = None if scores is None else np.asarray(scores)
        for n, (group, at) in enumerate(zip(distinct, places, strict=True)):
            yield GroupReading(
                responses_at(output, (n, at)), group.size[0], None if scores is None else scores[n][np.ix_(at, at)]
            )


@dataclasses.dataclass(frozen=True)
class DistinctReader:
    """A `Reader` that hands each distinct response of a group to ``read`` once."""

    read: Reader

    def __call__(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        distinct, places = zip(*map(distinct_responses, groups), strict=True) if groups else ((), ())
        for (output, tokens, _), at in zip(self.read(distinct), places, strict=True):
            yield GroupReading(responses_at(output, at), tokens)


def distinct_responses(group: EncodedGroup) -> tuple[EncodedGroup, list[int]]:
    """The group with each distinct sequence of tokens once, without comparisons, and where each of its responses is
    there."""
    first: dict[tuple[int, bytes], int] = {}
    places = [
        first.setdefault((group.own(n), tokens.tobytes()), len(first)) for n, tokens in enumerate(group.responses)
    ]
    kept = [places.index(n) for n in range(len(first))]
    own = tuple(group.own_prompt[n] for n in kept) if group.own_prompt else ()
    responses = tuple(group.responses[n] for n in kept)
    return group._replace(responses=responses, own_prompt=own, comparisons=()), places


def scoring_program(model: PreferenceModel, params: Any, mesh: Mesh) -> Callable[[TokenBatch], tuple[Output, Any]]:
    """The jitted program of a `RowReader`."""

    def apply(params: Any, batch: TokenBatch) -> tuple[Output, Array | None]:
        output: Any = model.apply({"params": params}, batch)
        if isinstance(output, PairwiseOutput):
            return output, None
        scores = group_scores(output)
        # Skew-symmetric by its formula. Where all texts are one, the rounding of s(y ≻ y) = 0 is all that there is.
        return output, (scores - scores.mT) / 2

    program = jax.jit(full_precision(model.runtime.dtype, apply), out_shardings=replicated(mesh))
    return lambda batch: program(params, batch)
