"""K responses to each prompt: each prompt is encoded once, then one compiled loop adds a token to every response.

Row n of a batch is a prompt, and its K responses are drawn together. All shapes are static: prompts are padded to a
bucket (``bucket``: 32, 48, 64, 96, 128, …) and batches to ``rows``; responses have room for ``max_new_tokens``. So
prompts of one bucket share one compiled program. The loop ends early when every response has ended.

The t-th token of response k to prompt ``id`` is drawn with fold_in(fold_in(fold_in(key(seed), id), k), t). So it does
not depend on the batch, its padding or the mesh, except through the last bits of the logits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gpmjax.arrays import Array
from gpmjax.models.cache import DecodeStep, Past, empty_past
from gpmjax.models.transformer import Decoder, decode_step, prefill, sequence_layout
from gpmjax.sampling.logits import SamplingPlan, draw
from gpmjax.sharding import BATCH, put_whole_batch, replicated, shared_rows

SMALLEST_BUCKET = 32


class TokenSamples(NamedTuple):
    """K responses to each of N prompts, M = ``max_new_tokens``. Entries after a response's end are 0."""

    tokens: Array
    """[N, K, M] int32; a response's stop token is its last token."""
    logprobs: Array
    """[N, K, M] float32: each token's log-probability under the distribution it was drawn from, that is after
    temperature, top-k and top-p."""
    lengths: Array
    """[N, K] int32: tokens of each response, including the stop token."""
    stopped: Array
    """[N, K] bool: True where a stop token ended the response, False where it ran into ``max_new_tokens``."""


def bucket(length: int) -> int:
    """Slots that a prompt of this length is padded to: a power of two, or 1.5 times one.

    >>> [bucket(length) for length in (1, 32, 33, 65, 100)]
    [32, 32, 48, 96, 128]
    """
    slots = SMALLEST_BUCKET
    while slots < length:
        slots = slots * 3 // 2 if slots & (slots - 1) == 0 else slots * 4 // 3
    return slots


def generate(
    model: Decoder,
    params: Any,
    prompts: Sequence[np.ndarray],
    *,
    samples: int,
    plan: SamplingPlan,
    seed: int,
    ids: Sequence[int] | None = None,
    mesh: Mesh | None = None,
    rows: int = 8,
) -> TokenSamples:
    """Draws ``samples`` responses to each prompt.

    Args:
      model: the decoder; its ``runtime`` holds LoRA, the dtype and the attention implementation.
      params: the decoder's parameters, on any devices.
      prompts: token ids, each [P] int32, including template and BOS.
      samples: K ≥ 1.
      seed: seed of all keys; the same seed and id give the same responses.
      ids: one number ≥ 0 per prompt, which names it across batches and runs; by default its index in ``prompts``.
      mesh: rows are split over the mesh's data and fsdp axes; None: the computation runs where ``params`` are. Weights
        split over fsdp are gathered at every token, weights split over tensor are not: prefer data and tensor where a
        model fits.
      rows: prompts per batch, rounded up to a multiple that the mesh divides. Memory and speed depend on it, samples do
        not.

    Raises:
      ValueError: no prompt, an empty prompt, a prompt that with ``max_new_tokens`` exceeds ``max_positions``, a token
        outside the vocabulary, ids that are not one per prompt, a seed out of range, or an invalid plan.
    """
    plan.validate()
    _check(model, params, prompts, samples, plan, rows)
    ids = range(len(prompts)) if ids is None else ids
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: must be in [0, 2³²)")
    if len(ids) != len(prompts) or any(not 0 <= number < 2**32 for number in ids):
        raise ValueError(f"ids={list(ids)[:8]}…: must be {len(prompts)} numbers in [0, 2³²), one a prompt")
    rows = min(rows, len(prompts))
    rows = rows if mesh is None else shared_rows(mesh, rows)
    shape = (len(prompts), samples, plan.max_new_tokens)
    result = TokenSamples(
        tokens=np.zeros(shape, np.int32),
        logprobs=np.zeros(shape, np.float32),
        lengths=np.zeros(shape[:2], np.int32),
        stopped=np.zeros(shape[:2], bool),
    )
    for slots in sorted({bucket(len(prompt)) for prompt in prompts}):
        same = [n for n, prompt in enumerate(prompts) if bucket(len(prompt)) == slots]
        for start in range(0, len(same), rows):
            members = same[start : start + rows]
            batch = _batch([prompts[n] for n in members], [ids[n] for n in members], rows, slots)
            batch = batch if mesh is None else put_whole_batch(mesh, batch)
            drawn = _generate(params, batch, np.uint32(seed), model=model, count=samples, plan=plan, mesh=mesh)
            for whole, part in zip(result, drawn, strict=True):
                whole[members] = np.asarray(part)[: len(members)]
    return result


class _Batch(NamedTuple):
    tokens: Array
    """[N, P] int32."""
    lengths: Array
    """[N] int32; 0 in rows that hold no prompt."""
    ids: Array
    """[N] uint32."""


def _batch(prompts: Sequence[np.ndarray], ids: Sequence[int], rows: int, slots: int) -> _Batch:
    batch = _Batch(np.zeros((rows, slots), np.int32), np.zeros(rows, np.int32), np.zeros(rows, np.uint32))
    for row, (prompt, number) in enumerate(zip(prompts, ids, strict=True)):
        batch.tokens[row, : len(prompt)] = prompt
        batch.lengths[row], batch.ids[row] = len(prompt), number
    return batch


def _check(
    model: Decoder, params: Any, prompts: Sequence[np.ndarray], samples: int, plan: SamplingPlan, rows: int
) -> None:
    config = model.config
    if not len(prompts):
        raise ValueError("prompts=[]: there must be at least one")
    for name, value in (("samples", samples), ("rows", rows)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    if not config.tie_embeddings and "lm_head" not in params:
        raise ValueError("params have no lm_head: a model saved without it gives scores, not text")
    for n, prompt in enumerate(prompts):
        length = len(prompt)
        if not length:
            raise ValueError(f"prompt {n} is empty: it must have at least one token, such as BOS")
        if length + plan.max_new_tokens > config.max_positions:
            raise ValueError(
                f"prompt {n} has {length} tokens: with max_new_tokens={plan.max_new_tokens} it must fit "
                f"the model's {config.max_positions} positions"
            )
        if not 0 <= np.min(prompt) <= np.max(prompt) < config.vocab_size:
            raise ValueError(f"prompt {n} has token ids outside the model's vocabulary, [0, {config.vocab_size})")
    for token in plan.stop_tokens:
        if token >= config.vocab_size:
            raise ValueError(
                f"stop_tokens={plan.stop_tokens}: must be below the model's vocabulary, {config.vocab_size}"
            )


class _State(NamedTuple):
    step: Array
    """[] int32: tokens drawn so far."""
    samples: TokenSamples
    past: Past


def _draw_batch(
    params: Any, batch: _Batch, seed: Array, *, model: Decoder, count: int, plan: SamplingPlan, mesh: Mesh | None
) -> TokenSamples:
    params = _computed_in(params, model.runtime.dtype)
    keys = _sample_keys(seed, batch.ids, count)
    hidden, *prompt = prefill(model, params, batch.tokens, sequence_layout(batch.lengths, batch.tokens.shape[1]))
    last = jnp.maximum(batch.lengths - 1, 0)
    hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)

    def add_token(step: Array, hidden: Array, samples: TokenSamples, past: Past) -> _State:
        """Draws token ``step`` of every response that has not ended, from the hidden states [N, K, D] before it."""
        logits: Any = model.apply({"params": params}, hidden, method="logits")
        now = jax.vmap(jax.random.fold_in, (0, None))(keys.reshape(-1), step)
        drawn = draw(now, logits.reshape(-1, logits.shape[-1]), plan)
        tokens, logprobs = (jnp.where(samples.stopped, 0, x.reshape(samples.stopped.shape)) for x in drawn)

        def put(whole: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, new[:, :, None], step, axis=2)

        ends = jnp.isin(tokens, jnp.array(plan.stop_tokens, jnp.int32))
        samples = TokenSamples(
            tokens=put(samples.tokens, tokens),
            logprobs=put(samples.logprobs, logprobs.astype(jnp.float32)),
            lengths=samples.lengths + (~samples.stopped).astype(jnp.int32),
            stopped=samples.stopped | ends,
        )
        return _State(step + 1, samples, past)

    def goes_on(state: _State) -> Array:
        return (state.step < plan.max_new_tokens) & ~jnp.all(state.samples.stopped)

    def next_token(state: _State) -> _State:
        newest = state.step - 1
        tokens = jax.lax.dynamic_index_in_dim(state.samples.tokens, newest, axis=2, keepdims=False)
        hidden, past = decode_step(model, params, tokens, DecodeStep(batch.lengths, newest), state.past)
        return add_token(state.step, hidden, state.samples, past)

    # No token attends to the last one, so the cache has one slot fewer.
    past = _split_rows(empty_past(*prompt, responses=count, slots=max(plan.max_new_tokens - 1, 1)), mesh, axis=1)
    start = _split_rows(_no_samples(batch, count, plan), mesh, axis=0)
    hidden = jnp.broadcast_to(hidden, (hidden.shape[0], count, hidden.shape[2]))
    drawn = jax.lax.while_loop(goes_on, next_token, add_token(jnp.int32(0), hidden, start, past)).samples
    return drawn if mesh is None else jax.lax.with_sharding_constraint(drawn, replicated(mesh))


_generate = jax.jit(_draw_batch, static_argnames=("model", "count", "plan", "mesh"))


def _no_samples(batch: _Batch, count: int, plan: SamplingPlan) -> TokenSamples:
    """TokenSamples before the first token; rows that hold no prompt count as stopped."""
    rows = batch.lengths.shape[0]
    room = jnp.zeros((rows, count, plan.max_new_tokens), jnp.int32)
    stopped = jnp.broadcast_to(batch.lengths[:, None] == 0, (rows, count))
    return TokenSamples(room, room.astype(jnp.float32), room[:, :, 0], stopped)


def _sample_keys(seed: Array, ids: Array, count: int) -> Array:
    """One key for each (prompt id, response) [N, K]."""
    of_prompt = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), ids)
    fold_responses = jax.vmap(jax.random.fold_in, (None, 0))
    return jax.vmap(fold_responses, (0, None))(of_prompt, jnp.arange(count, dtype=jnp.uint32))


def _computed_in(params: Any, dtype: str) -> Any:
    """Casts parameters to the compute dtype once, not at every token. Norms compute in float32 and keep their dtype."""

    def cast(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf if path[-1].key == "scale" else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, params)


def _split_rows(tree: Any, mesh: Mesh | None, axis: int) -> Any:
    """Splits ``axis``, which holds rows, over the mesh; the compiler places the other axes."""
    if mesh is None:
        return tree

    def place(leaf: Array) -> Array:
        split = P(*(BATCH[0] if a == axis else P.UNCONSTRAINED for a in range(leaf.ndim)))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, split))

    return jax.tree.map(place, tree)
