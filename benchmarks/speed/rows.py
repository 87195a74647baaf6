"""Rows for both contenders: synthetic groups, and the peer's padded sequences as rows of ours with one response
each."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.torch_peer import PairRows
from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Comparison
from gpmjax.losses.reward import preference_loss
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PreferenceOutput, pair_scores


def random_groups(
    count: int, *, prompt: int, responses: int, length: int, vocabulary: int, seed: int = 0
) -> list[EncodedGroup]:
    """Groups of random tokens with an even number K of responses, of which every other one beats the next one.

    The K responses are therefore K sequences of the peer, each used once.
    """
    draw = np.random.default_rng(seed)

    def tokens(n: int) -> np.ndarray:
        return draw.integers(3, vocabulary, n).astype(np.int32)

    pairs = tuple(Comparison(first, first + 1, number=first // 2) for first in range(0, responses, 2))
    return [
        EncodedGroup(tokens(prompt), prompt - 1, tuple(tokens(length) for _ in range(responses)), pairs)
        for _ in range(count)
    ]


def one_response_rows(rows: PairRows) -> TokenBatch:
    """The peer's padded sequences as a batch of ours, without shared prompts and without packing."""
    count, slots = rows.tokens.shape
    tokens, live, response_end, prompt_end = (np.asarray(array, np.int32) for array in rows)
    index = np.arange(slots, dtype=np.int32)
    response = live * (index > prompt_end[:, None])
    none, ones = np.zeros((count, 1), np.int32), np.ones((count, 1), np.float32)
    return TokenBatch(
        tokens=tokens,
        layout=TokenLayout(live * index, live, response),
        response_end=response_end[:, None],
        prompt_end=prompt_end[:, None],
        response_mask=np.ones((count, 1), bool),
        previous=np.tile(np.maximum(index - 1, 0), (count, 1)),
        lm_weight=np.zeros((count, slots), np.float32),
        comparisons=Comparisons(none, none, ones, 0 * ones, ones, none),
    )


def paired_loss(model: PreferenceModel) -> Callable[[Any, TokenBatch, Any], tuple[Any, dict[str, Any]]]:
    """Mean −log σ(s/τ) of rows n against rows N + n, as a loss for ``train.step.make_step``."""

    def beside(x: Any) -> Any:
        return None if x is None else jnp.swapaxes(x.reshape(2, -1, x.shape[-1]), 0, 1)

    def loss(params: Any, batch: TokenBatch, totals: Any):
        output = model.apply({"params": params}, batch)
        pairs = PreferenceOutput(beside(output.embedding), beside(output.scale), output.tau)
        count = batch.tokens.shape[0] // 2
        whole = Comparisons(*(jnp.asarray(field)[:count] for field in batch.comparisons))
        scores = pair_scores(pairs, whole._replace(rejected=whole.rejected + 1))
        losses = preference_loss(scores, tau=pairs.tau)
        mean = jnp.mean(losses)
        return mean, {"loss": mean, "example_loss": losses}

    return loss
