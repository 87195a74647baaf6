"""Turns rows of encoded groups into arrays of a fixed shape."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from gpmjax.arrays import Comparisons, FeatureBatch, TokenBatch, TokenLayout
from gpmjax.data.encode import EncodedGroup

Rows = Sequence[Sequence[EncodedGroup]]


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Sizes of a batch: B rows of T token slots, R responses and C comparisons."""

    rows: int
    tokens: int
    responses: int
    comparisons: int

    @property
    def capacity(self) -> tuple[int, int, int]:
        """(T, R, C): token slots, responses and comparisons of one row."""
        return self.tokens, self.responses, self.comparisons


def assemble(rows: Rows, shape: BatchShape) -> TokenBatch:
    """One TokenBatch of numpy arrays from rows of groups. A row may be empty; unused slots hold token 0.

    >>> from gpmjax.data.groups import Comparison
    >>> group = EncodedGroup(np.array([7, 8]), 1, (np.array([5, 2]), np.array([2])), (Comparison(0, 1),))
    >>> batch = assemble([[group]], BatchShape(rows=1, tokens=6, responses=2, comparisons=1))
    >>> batch.tokens.tolist(), batch.layout.positions.tolist(), batch.response_end.tolist()
    ([[7, 8, 5, 2, 2, 0]], [[0, 1, 2, 3, 2, 0]], [[3, 4]])
    """
    tokens, positions, group_of, response_of = (np.zeros((len(rows), shape.tokens), np.int32) for _ in range(4))
    previous = np.tile(np.arange(shape.tokens, dtype=np.int32), (len(rows), 1))
    lm_weight = np.zeros((len(rows), shape.tokens), np.float32)
    response_end, prompt_end = (np.zeros((len(rows), shape.responses), np.int32) for _ in range(2))
    for b, row in enumerate(rows):
        writer = _RowWriter(tokens[b], positions[b], group_of[b], response_of[b], previous[b])
        first_response = last = 0  # ``last`` is the last group number given out in this row
        for group in row:
            start, shared = writer.slot, last + 1
            last = shared
            winners = {comparison.winner for comparison in group.comparisons}
            writer.write(group.prompt, group=shared)
            for r in range(len(group.responses)):
                prompt, gate, response = group.sequence(r)
                begin, number = start, shared
                if group.own(r):
                    last += 1
                    begin, number = writer.slot, last
                    writer.write(prompt, group=number)
                place = first_response + r
                lm_weight[b, writer.slot : writer.slot + len(response)] = float(r in winners)
                # The token before a response is the last one of its prompt, whichever slot the response begins in.
                before = begin + len(prompt) - 1
                writer.write(response, group=number, response=place + 1, position=len(prompt), before=before)
                response_end[b, place], prompt_end[b, place] = writer.slot - 1, begin + gate
            first_response += len(group.responses)
    layout = TokenLayout(positions, group_of, response_of)
    mask = response_mask(rows, shape)
    return TokenBatch(tokens, layout, response_end, prompt_end, mask, previous, lm_weight, comparisons(rows, shape))


@dataclasses.dataclass
class _RowWriter:
    """Fills the token slots of one row from left to right; each array is [T] and written in place."""

    tokens: np.ndarray
    positions: np.ndarray
    group: np.ndarray
    response: np.ndarray
    previous: np.ndarray
    slot: int = 0
    """The next free slot."""

    def write(
        self, ids: np.ndarray, *, group: int, response: int = 0, position: int = 0, before: int | None = None
    ) -> None:
        """Writes ``ids`` into the next slots.

        ``position`` is that of the first token, ``before`` the slot of the token that precedes it (None: it begins a
        sequence).
        """
        span = slice(self.slot, self.slot + len(ids))
        self.tokens[span], self.group[span], self.response[span] = ids, group, response
        self.positions[span] = np.arange(position, position + len(ids))
        self.previous[span] = np.arange(self.slot - 1, self.slot - 1 + len(ids))
        self.previous[self.slot] = self.slot if before is None else before
        self.slot += len(ids)


def assemble_features(
    rows: Rows,
    shape: BatchShape,
    features: Callable[[EncodedGroup], tuple[np.ndarray, np.ndarray]],
    *,
    hidden_size: int,
) -> FeatureBatch:
    """One FeatureBatch from rows of groups.

    ``features`` gives a group's hidden states: those of its responses [K, D], and those of its prompts, [K, D] or [D]
    for all.
    """
    response, prompt = (np.zeros((len(rows), shape.responses, hidden_size), np.float32) for _ in range(2))
    for b, row in enumerate(rows):
        first = 0
        for group in row:
            last = first + len(group.responses)
            response[b, first:last], prompt[b, first:last] = features(group)
            first = last
    return FeatureBatch(response, prompt, response_mask(rows, shape), comparisons(rows, shape))


def response_mask(rows: Rows, shape: BatchShape) -> np.ndarray:
    """[B, R] bool: True on slots that hold a response."""
    count = np.array([sum(len(group.responses) for group in row) for row in rows])
    return np.arange(shape.responses)[None, :] < count[:, None]


def comparisons(rows: Rows, shape: BatchShape) -> Comparisons:
    """The rows' comparisons; ``chosen`` and ``rejected`` become indices into the R axis of the row."""
    size = (len(rows), shape.comparisons)
    chosen, rejected = np.zeros(size, np.int32), np.zeros(size, np.int32)
    target, margin, weight = (np.zeros(size, np.float32) for _ in range(3))
    number = np.full(size, -1, np.int32)
    for b, row in enumerate(rows):
        c = first = 0
        for group in row:
            for comparison in group.comparisons:
                chosen[b, c], rejected[b, c] = first + comparison.chosen, first + comparison.rejected
                target[b, c], margin[b, c], weight[b, c] = comparison.target, comparison.margin, comparison.weight
                number[b, c] = comparison.number
                c += 1
            first += len(group.responses)
    return Comparisons(chosen, rejected, target, margin, weight, number)
