"""Readers run a model over encoded groups: groups are packed into batches, and outputs handed back group by group."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gpmjax.arrays import TokenBatch
from gpmjax.data.assemble import BatchShape
from gpmjax.data.encode import EncodedGroup, EncodeReport
from gpmjax.data.grouping import split_group
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.judges.forward import Scorer
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput

Output = PreferenceOutput | PairwiseOutput


class GroupReading(NamedTuple):
    """What a model says of one group's responses."""

    output: Output
    """[R, …] numpy arrays."""
    tokens: int
    """That the reading took."""
    scores: np.ndarray | None = None
    """[R, R] float32 s(i ≻ j), where they were computed together with the output."""


Reader = Callable[[Sequence[EncodedGroup]], Iterator[GroupReading]]
"""Groups → what the model says of each, in order."""

# Rows this long keep a device busy; in longer ones attention costs more than the prompts that they save.
SHORT_ROW = 1024
CHUNK = 64
"""Groups that are packed together, and handed over together."""
SLOTS_STEP, RESPONSES_STEP = 64, 4


@dataclasses.dataclass(frozen=True)
class PackedReader:
    """A `Reader` of one forward pass; ``scorer`` is the model, jitted, with its parameters filled in.

    Groups longer than a row are read in pieces. Comparisons are ignored.
    """

    scorer: Scorer
    rows_per_batch: int = 8

    def __call__(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        return packed_outputs(self.scorer, groups, self.rows_per_batch)


def packed_outputs(
    scorer: Callable[[TokenBatch], Any], groups: Sequence[EncodedGroup], rows_per_batch: int
) -> Iterator[GroupReading]:
    """What ``scorer``, which gives any NamedTuple of arrays, says of each group's responses; see `PackedReader`."""
    if not groups:
        return
    groups = [group._replace(comparisons=()) for group in groups]
    longest = max(group.slots([n]) for group in groups for n in range(len(group.responses)))
    pieces = [split_group(group, row_length=max(SHORT_ROW, longest)) for group in groups]
    shape = _rounded(fit_shape([piece for several in pieces for piece in several], rows=rows_per_batch))
    for start in range(0, len(groups), CHUNK):
        chunk = pieces[start : start + CHUNK]
        read = _read(scorer, Pipeline([[piece for several in chunk for piece in several]], shape, order="ordered"))
        for several in chunk:
            yield GroupReading(_joined([read[id(piece)] for piece in several]), sum(piece.size[0] for piece in several))


def reading_facts(group: EncodedGroup, report: EncodeReport, reading: GroupReading) -> dict[str, Any]:
    """What a verdict says of how its group was read, whichever kind of model it was: fields of `Verdict`."""
    return {
        "tau": float(reading.output.tau),
        "tokens": np.array([read.tokens for read in group.read]),
        "forward_tokens": reading.tokens,
        "truncated": bool(report.prompts_cut or report.responses_cut),
    }


def _rounded(shape: BatchShape) -> BatchShape:
    """A little more room, so that calls with other lengths share a compiled program."""
    return BatchShape(shape.rows, round_up(shape.tokens, SLOTS_STEP), round_up(shape.responses, RESPONSES_STEP), 1)


def round_up(size: int, step: int) -> int:
    """The least multiple of ``step`` that is at least ``size``.

    >>> round_up(65, 64)
    128
    """
    return -(-size // step) * step


def _read(scorer: Callable[[TokenBatch], Any], pipeline: Pipeline) -> dict[int, Any]:
    """What the model says of each piece's responses, by the piece's ``id``."""
    read = {}
    for step in range(pipeline.steps(1)):
        output = scorer(pipeline.batch(step))
        output = jax.tree.map(np.asarray, output)
        for b, row in enumerate(pipeline.rows(step)):
            first = 0
            for piece in row:
                here = slice(first, first := first + len(piece.responses))
                read[id(piece)] = responses_at(output, (b, here))
    return read


def responses_at(output: Any, index: Any) -> Any:
    """The responses of an output, arrays on the host, at ``index``; τ, one number for all, is kept."""
    return output._make(f if f is None or np.ndim(f) == 0 else np.asarray(f)[index] for f in output)


def _joined(parts: Sequence[Output]) -> Output:
    columns = zip(*parts, strict=True)
    return parts[0]._make(c[0] if c[0] is None or c[0].ndim == 0 else np.concatenate(c) for c in columns)
