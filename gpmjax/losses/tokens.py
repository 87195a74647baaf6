"""Log-probabilities of given tokens, a chunk of the vocabulary at a time. The [N, V] logits never exist at once.

With 8,192 tokens and a vocabulary of 256,000 the logits would take 8 GiB in float32, and several times that backwards.
Each chunk's logits are folded into a running log Σ exp and dropped. The gradient is written by hand: it needs the
probabilities exp(z − log Σ exp), which are computed again, chunk by chunk, from the one number per token that was kept.

    log p = z_y − log Σ_v exp z_v        ∂ log p/∂z_v = 1[v = y] − exp(z_v − log Σ exp z)

Chunks of tokens would bound the logits too, but each chunk's gradient would be added to the whole [V, D] of the
unembedding. With chunks of the vocabulary every row of that gradient is written once.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array
from gpmjax.softcap import soft_cap, soft_cap_slope


def token_logprobs(
    hidden: Float[Array, "N D"],
    targets: Int[Array, "N"],
    unembedding: Float[Array, "_ _"],
    *,
    vocab_axis: int = 0,
    softcap: float | None = None,
    chunk: int = 2048,
) -> Float[jax.Array, "N"]:
    """log p(target | hidden) = z_target − log Σ_v exp z_v, where z = hidden · unembedding.

    Drop prompt and padding tokens first where that is possible, since every token costs V products. The function can
    be differentiated once, in reverse mode.

    Args:
      hidden: hidden states after the final norm [N, D], in the compute dtype.
      targets: token ids in [0, V) [N]. Any other id gives NaN rather than some other token's number.
      unembedding: [V, D] (a tied embedding) with vocab_axis 0, [D, V] (a kernel) with vocab_axis 1. Its gradient is
        summed over tokens in float32 and returned in its own dtype: hand over the float32 parameters, not a copy.
      vocab_axis: which axis of unembedding is the vocabulary.
      softcap: c of Gemma 2's z ↦ c tanh(z/c), or None.
      chunk: vocabulary entries at a time; a few float32 arrays of N × chunk are alive.
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
    return _logprobs(vocab_axis, softcap, min(chunk, unembedding.shape[vocab_axis]), hidden, targets, unembedding)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _logprobs(vocab_axis, softcap, chunk, hidden, targets, unembedding) -> jax.Array:
    return _forward(vocab_axis, softcap, chunk, hidden, targets, unembedding)[0]


def _forward(vocab_axis, softcap, chunk, hidden_ND, targets_N, unembedding):
    def fold(carry, c):
        largest_N, total_N, target_N = carry
        _, logits_NC, local_N, is_new_C = _chunk(vocab_axis, softcap, chunk, hidden_ND, targets_N, unembedding, c)
        logits_NC = jnp.where(is_new_C[None, :], logits_NC, -jnp.inf)
        new_largest_N = jnp.maximum(largest_N, jnp.max(logits_NC, axis=1))
        total_N = total_N * jnp.exp(largest_N - new_largest_N)
        total_N += jnp.sum(jnp.exp(logits_NC - new_largest_N[:, None]), axis=1)
        inside_N = (local_N >= 0) & (local_N < chunk)
        here_N = jnp.take_along_axis(logits_NC, jnp.clip(local_N, 0, chunk - 1)[:, None], axis=1)[:, 0]
        # The last chunk overlaps the one before it. A target in the overlap reads −inf there, so the first one counts.
        return (new_largest_N, total_N, jnp.where(inside_N & jnp.isnan(target_N), here_N, target_N)), None

    # A target that no chunk holds, an id outside the vocabulary, stays NaN.
    start = tuple(jnp.full(targets_N.shape, value, jnp.float32) for value in (-jnp.inf, 0.0, jnp.nan))
    (largest_N, total_N, target_N), _ = jax.lax.scan(fold, start, _chunks(vocab_axis, chunk, unembedding))
    log_total_N = largest_N + jnp.log(total_N)
    return target_N - log_total_N, (hidden_ND, targets_N, unembedding, log_total_N)


def _backward(vocab_axis, softcap, chunk, residuals, gradient_N):
    hidden_ND, targets_N, unembedding, log_total_N = residuals

    def unfold(carry, c):
        d_hidden_ND, d_unembedding = carry
        weights, logits_NC, local_N, is_new_C = _chunk(vocab_axis, softcap, chunk, hidden_ND, targets_N, unembedding, c)
        is_target_NC = (local_N[:, None] == jnp.arange(chunk)[None, :]).astype(jnp.float32)
        d_logits_NC = gradient_N[:, None] * (is_target_NC - jnp.exp(logits_NC - log_total_N[:, None]))
        if softcap is not None:
            d_logits_NC *= soft_cap_slope(logits_NC, softcap)
        d_logits_NC = jnp.where(is_new_C[None, :], d_logits_NC, 0.0).astype(hidden_ND.dtype)
        d_hidden_ND += _dot(d_logits_NC, weights, 1, vocab_axis)
        rows, columns = (d_logits_NC, hidden_ND) if vocab_axis == 0 else (hidden_ND, d_logits_NC)
        start = _start(vocab_axis, chunk, unembedding, c)
        # The last chunk overlaps the one before it, with zeros, so this adds to what is there.
        written = jax.lax.dynamic_slice_in_dim(d_unembedding, start, chunk, vocab_axis)
        written += _dot(rows, columns, 0, 0).astype(unembedding.dtype)
        return (d_hidden_ND, jax.lax.dynamic_update_slice_in_dim(d_unembedding, written, start, vocab_axis)), None

    zeros = jnp.zeros(hidden_ND.shape, jnp.float32), jnp.zeros_like(unembedding)
    (d_hidden_ND, d_unembedding), _ = jax.lax.scan(unfold, zeros, _chunks(vocab_axis, chunk, unembedding))
    return d_hidden_ND.astype(hidden_ND.dtype), None, d_unembedding


_logprobs.defvjp(_forward, _backward)


def _chunk(vocab_axis, softcap, chunk, hidden_ND, targets_N, unembedding, c):
    """The c-th chunk: weights, logits [N, C], the targets' places in it, and which entries no earlier chunk held."""
    start = _start(vocab_axis, chunk, unembedding, c)
    # Cast here, not outside: a copy of the whole unembedding in the compute dtype would stay alive.
    weights = jax.lax.dynamic_slice_in_dim(unembedding, start, chunk, vocab_axis).astype(hidden_ND.dtype)
    logits_NC = soft_cap(_dot(hidden_ND, weights, 1, 1 - vocab_axis), softcap)
    return weights, logits_NC, targets_N - start.astype(targets_N.dtype), start + jnp.arange(chunk) >= c * chunk


def _start(vocab_axis: int, chunk: int, unembedding: jax.Array, c: jax.Array) -> jax.Array:
    """Where the c-th chunk starts. All have one size, so the last reaches back where it does not divide V."""
    return jnp.minimum(c * chunk, unembedding.shape[vocab_axis] - chunk)


def _chunks(vocab_axis: int, chunk: int, unembedding: jax.Array) -> jax.Array:
    return jnp.arange(-(-unembedding.shape[vocab_axis] // chunk))


def _dot(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    contract = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(left, right, contract, preferred_element_type=jnp.float32)


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
