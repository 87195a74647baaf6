"""Rows of encoded groups → arrays of a fixed shape."""

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
        """(T, R, C), what one row holds."""
        return self.tokens, self.responses, self.comparisons


def assemble(rows: Rows, shape: BatchShape) -> TokenBatch:
    """Rows of groups as one TokenBatch of numpy arrays. A row may be empty; unused slots hold token 0.

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
        slot = first_response = number = 0

        def lay(ids: np.ndarray, position: int, response: int, before: int | None, b: int = b) -> None:
            """Puts tokens into the next slots; ``before`` is the slot of the token that comes before the first of them."""
            nonlocal slot
            span = slice(slot, slot + len(ids))
            tokens[b, span] = ids
            positions[b, span] = np.arange(position, position + len(ids))
            group_of[b, span] = number
            response_of[b, span] = response
            previous[b, span] = np.arange(slot - 1, slot - 1 + len(ids))
            previous[b, slot] = slot if before is None else before
            slot += len(ids)

        for group in row:
            start, shared = slot, (number := number + 1)
            last = number
            winners = {comparison.winner for comparison in group.comparisons}
            lay(group.prompt, 0, 0, None)
            for r in range(len(group.responses)):
                prompt, gate, response = group.sequence(r)
                begin, number = start, shared
                if group.own(r):
                    begin, number = slot, (last := last + 1)
                    lay(prompt, 0, 0, None)
                place = first_response + r
                # Whichever slot a response begins in, its prompt's last token comes before it.
                lm_weight[b, slot : slot + len(response)] = float(r in winners)
                lay(response, len(prompt), place + 1, begin + len(prompt) - 1)
                response_end[b, place], prompt_end[b, place] = slot - 1, begin + gate
            first_response += len(group.responses)
            number = last
    layout = TokenLayout(positions, group_of, response_of)
    mask = response_mask(rows, shape)
    return TokenBatch(tokens, layout, response_end, prompt_end, mask, previous, lm_weight, comparisons(rows, shape))


def assemble_features(
    rows: Rows,
    shape: BatchShape,
    features: Callable[[EncodedGroup], tuple[np.ndarray, np.ndarray]],
    *,
    hidden_size: int,
) -> FeatureBatch:
    """Rows of groups as one FeatureBatch; ``features`` gives a group's hidden states, (response [K, D], prompt [K, D], or [D] for all)."""
    response, prompt = (np.zeros((len(rows), shape.responses, hidden_size), np.float32) for _ in range(2))
    for b, row in enumerate(rows):
        first = 0
        for group in row:
            last = first + len(group.responses)
            response[b, first:last], prompt[b, first:last] = features(group)
            first = last
    return FeatureBatch(response, prompt, response_mask(rows, shape), comparisons(rows, shape))


def response_mask(rows: Rows, shape: BatchShape) -> np.ndarray:
    """[B, R] bool: True on the rows' responses."""
    count = np.array([sum(len(group.responses) for group in row) for row in rows])
    return np.arange(shape.responses)[None, :] < count[:, None]


def comparisons(rows: Rows, shape: BatchShape) -> Comparisons:
    """The rows' comparisons, their indices moved to the R axis of the row."""
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
