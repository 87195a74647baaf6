"""Log-probabilities of given tokens, a chunk of tokens at a time: the [N, V] logits never exist at once.

With 8,192 tokens and a vocabulary of 256,000 they would take 8 GiB in float32, and several times that backwards.
Each chunk's logits are made, reduced to one number per token, dropped, and made again for the gradient.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array


def token_logprobs(
    hidden: Float[Array, "N D"],
    targets: Int[Array, "N"],
    unembedding: Float[Array, "_ _"],
    *,
    vocab_axis: int = 0,
    softcap: float | None = None,
    chunk: int = 1024,
) -> Float[jax.Array, "N"]:
    """log p(target | hidden) = z_target − log Σ_v exp z_v, where z = hidden · unembedding.

    Drop prompt and padding tokens first, where that is possible: what is not asked for costs nothing.

    Args:
      hidden: hidden states after the final norm [N, D], in the compute dtype.
      targets: token ids in [0, V) [N]. Any other id gives NaN rather than some other token's number.
      unembedding: [V, D] (a tied embedding) with vocab_axis 0, [D, V] (a kernel) with vocab_axis 1. Its gradient is
        accumulated in its own dtype, so hand over the float32 parameters, not a bfloat16 copy.
      vocab_axis: which axis of unembedding is the vocabulary.
      softcap: c of Gemma 2's z ↦ c tanh(z/c), or None.
      chunk: tokens at a time; chunk × V float32 logits are alive.
    Returns:
      [N] float32, in nats, ≤ 0.
    Raises:
      ValueError: shapes that do not fit, or a chunk that is not positive.

    >>> uniform = token_logprobs(jnp.zeros((2, 3)), jnp.array([0, 4]), jnp.ones((5, 3)))
    >>> bool(jnp.allclose(jnp.exp(uniform), 1 / 5))
    True
    """
    hidden, targets, unembedding = jnp.asarray(hidden), jnp.asarray(targets), jnp.asarray(unembedding)
    _require_fit(hidden, targets, unembedding, vocab_axis, chunk)

    # Recomputing beats remembering: without checkpoint, the scan would keep every chunk's logits for the gradient.
    @jax.checkpoint
    def logprobs_of_chunk(hidden_CD, targets_C):
        # Cast here, not outside, so that the chunks' gradients are summed in the parameter's own dtype.
        weights = unembedding.astype(hidden_CD.dtype)
        contract = (((1,), (1 - vocab_axis,)), ((), ()))
        logits_CV = jax.lax.dot_general(hidden_CD, weights, contract, preferred_element_type=jnp.float32)
        if softcap is not None:
            logits_CV = softcap * jnp.tanh(logits_CV / softcap)
        # mode "fill" is what turns an id ≥ V into NaN; a negative one would count from the end.
        target_logits = jnp.take_along_axis(logits_CV, _or_out_of_range(targets_C)[:, None], axis=1, mode="fill")
        return target_logits[:, 0] - jax.nn.logsumexp(logits_CV, axis=1)

    tokens, width = hidden.shape
    chunk = min(chunk, max(tokens, 1))
    chunks = -(-tokens // chunk)
    padding = chunks * chunk - tokens
    # Chunk i takes tokens i, i + chunks, i + 2 chunks, …: where tokens are sharded, every device works on every chunk.
    hidden = jnp.pad(hidden, ((0, padding), (0, 0))).reshape(chunk, chunks, width).swapaxes(0, 1)
    targets = jnp.pad(targets, (0, padding)).reshape(chunk, chunks).swapaxes(0, 1)
    _, logprobs = jax.lax.scan(lambda _, xs: (None, logprobs_of_chunk(*xs)), None, (hidden, targets))
    return logprobs.swapaxes(0, 1).reshape(-1)[:tokens]


def _or_out_of_range(targets: jax.Array) -> jax.Array:
    return jnp.where(targets < 0, jnp.iinfo(targets.dtype).max, targets)


def _require_fit(hidden: jax.Array, targets: jax.Array, unembedding: jax.Array, vocab_axis: int, chunk: int) -> None:
    if vocab_axis not in (0, 1):
        raise ValueError(f"vocab_axis {vocab_axis} must be 0, for [V, D], or 1, for [D, V]")
    if hidden.ndim != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(f"hidden {list(hidden.shape)} and targets {list(targets.shape)} must be [N, D] and [N]")
    if unembedding.ndim != 2 or unembedding.shape[1 - vocab_axis] != hidden.shape[1]:
        wanted = f"hidden's last dimension, {hidden.shape[1]}, as axis {1 - vocab_axis}"
        raise ValueError(f"unembedding {list(unembedding.shape)} must have {wanted}")
    if chunk < 1:
        raise ValueError(f"chunk {chunk} must be positive")
