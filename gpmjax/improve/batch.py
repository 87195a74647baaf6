"""Batches that a policy is trained on. A row is a prompt, its responses, and the signal of each response."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.arrays import Array, TokenLayout
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup


class Example(NamedTuple):
    """R responses to one prompt, on the host: those of the K that the loss reads."""

    prompt_id: int
    prompt: np.ndarray
    """[P] int32."""
    responses: tuple[np.ndarray, ...]
    """Each [M] int32, as sampled."""
    current: tuple[np.ndarray, ...]
    """Each [M] float32: log π_t of every token."""
    base: tuple[np.ndarray, ...]
    signal: np.ndarray
    """[R] f32, as are the next two; see improve.signals.Signals."""
    log_partition: np.ndarray
    response_weight: np.ndarray
    pair_weight: np.ndarray
    """[R, R]."""

    def keep(self, kept: np.ndarray) -> "Example":
        """The example with these responses alone.

        Args:
            kept: their indices.
        """

        def chosen(items: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            return tuple(items[n] for n in kept)

        return self._replace(
            responses=chosen(self.responses),
            current=chosen(self.current),
            base=chosen(self.base),
            signal=self.signal[kept],
            log_partition=self.log_partition[kept],
            response_weight=self.response_weight[kept],
            pair_weight=self.pair_weight[np.ix_(kept, kept)],
        )


class PolicyBatch(NamedTuple):
    """B rows of one prompt with R responses of up to M tokens each."""

    tokens: Array
    """[B, T] int32."""
    layout: TokenLayout
    slots: Array
    """[B, R, M] int32: places of each response's tokens in the row."""
    previous: Array
    """[B, R, M] int32: place of the token before each of them; before a first token, of the prompt's last."""
    mask: Array
    """[B, R, M] bool: False after a response's end, and on padding."""
    current: Array
    """[B, R, M] f32: log π_t of each token; 0 where there is none."""
    base: Array
    """[B, R, M] f32: log-probability of each token under the first policy; 0 where there is none."""
    signal: Array
    """[B, R] f32."""
    log_partition: Array
    """[B, R] f32."""
    response_weight: Array
    """[B, R] f32; 0 on padding."""
    pair_weight: Array
    """[B, R, R] f32; 0 on padding."""
    row: Array
    """[B] int32: the prompt's id, −1 on padding."""


class PolicyShape(NamedTuple):
    """Sizes of a PolicyBatch."""

    rows: int
    tokens: int
    responses: int
    length: int
    """M."""


def fit_policy_shape(examples: Sequence[Example], rows: int, *, multiple: int = 64) -> PolicyShape:
    """A shape that holds every example, rounded up so that iterations seldom need another one.

    >>> one = np.ones(3, np.int32)
    >>> example = Example(0, one, (one, one[:2]), (one, one), (one, one), one, one, one, one)
    >>> fit_policy_shape([example], 2)
    PolicyShape(rows=2, tokens=64, responses=2, length=16)
    """
    tokens = max(len(e.prompt) + sum(map(len, e.responses)) for e in examples)
    longest = max(len(response) for e in examples for response in e.responses)
    return policy_shape(rows, tokens, max(len(e.responses) for e in examples), longest, multiple=multiple)


def policy_shape(rows: int, tokens: int, responses: int, longest: int, *, multiple: int = 64) -> PolicyShape:
    """The shape of rows of up to ``tokens`` tokens, ``longest`` of them in one response, rounded up as in
    `fit_policy_shape`."""
    length = multiple // 4
    return PolicyShape(rows, -(-int(tokens) // multiple) * multiple, responses, -(-int(longest) // length) * length)


def assemble_policy(examples: Sequence[Example], shape: PolicyShape) -> PolicyBatch:
    """Examples, one a row and at most ``shape.rows``, as arrays; the other rows are padding of weight 0."""
    rows = [[EncodedGroup(e.prompt, len(e.prompt) - 1, e.responses, ())] for e in examples]
    rows += [[]] * (shape.rows - len(examples))
    laid_out = assemble(rows, BatchShape(shape.rows, shape.tokens, shape.responses, 1))
    lead = shape.rows, shape.responses
    slots = np.zeros((*lead, shape.length), np.int32)
    mask = np.zeros((*lead, shape.length), bool)
    current, base = (np.zeros((*lead, shape.length), np.float32) for _ in range(2))
    signal, log_partition, response_weight = (np.zeros(lead, np.float32) for _ in range(3))
    pair_weight = np.zeros((*lead, shape.responses), np.float32)
    for b, example in enumerate(examples):
        count = len(example.responses)
        for r, response in enumerate(example.responses):
            size, end = len(response), int(laid_out.response_end[b, r]) + 1
            slots[b, r, :size], mask[b, r, :size] = np.arange(end - size, end), True
            current[b, r, :size], base[b, r, :size] = example.current[r], example.base[r]
        signal[b, :count], log_partition[b, :count] = example.signal, example.log_partition
        response_weight[b, :count], pair_weight[b, :count, :count] = example.response_weight, example.pair_weight
    before = np.asarray(laid_out.previous)
    previous = np.take_along_axis(before, slots.reshape(shape.rows, -1), axis=1).reshape(slots.shape)
    row = np.array([e.prompt_id for e in examples] + [-1] * (shape.rows - len(examples)), np.int32)
    return PolicyBatch(
        laid_out.tokens, laid_out.layout, slots, previous, mask, current, base,
        signal, log_partition, response_weight, pair_weight, row,
    )  # fmt: skip
