"""From logits to one token: temperature, then top-k, then top-p, then a draw.

Tokens are drawn from the softmax of the *filtered* logits, and a sample reports log-probabilities of that distribution.
At temperature 0 it is a point mass on the largest logit, with log-probability 0.

Top-k and top-p each keep the logits above a threshold. Bisection over the 2³² float32 numbers finds the threshold
exactly, in 32 passes over the vocabulary instead of a sort. Tokens whose logits equal the threshold are all kept.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gpmjax.arrays import Array

OUT = -jnp.inf


@dataclasses.dataclass(frozen=True)
class SamplingPlan:
    """Settings for drawing responses. The defaults are the released recipe's (temperature 0.7, top-p 0.9).

    >>> SamplingPlan(max_new_tokens=8, temperature=-1.0).validate()
    Traceback (most recent call last):
    ValueError: temperature=-1.0: must be finite and at least 0 (0 is greedy)
    """

    max_new_tokens: int
    temperature: float = 0.7
    """Divides the logits; 0 takes the largest logit."""
    top_k: int = 0
    """Keep the k largest logits; 0 keeps all."""
    top_p: float = 0.9
    """Keep the smallest set of most probable tokens whose probabilities sum to this or more; 1 keeps all."""
    stop_tokens: tuple[int, ...] = ()
    """A response ends with the first of these tokens that is drawn."""
    textless: tuple[tuple[int, int], ...] = ()
    """Ranges [first, end) of token ids without a text, which are never drawn. See the function ``textless``."""

    def validate(self) -> "SamplingPlan":
        """Returns the plan itself. Raises ValueError, one line that names the field."""
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}: must be at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature}: must be finite and at least 0 (0 is greedy)")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k}: must be at least 0 (0 keeps every token)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be in (0, 1] (1 keeps every token)")
        for token in self.stop_tokens:
            if token < 0:
                raise ValueError(f"stop_tokens={self.stop_tokens}: must be token ids, at least 0")
        for first, end in self.textless:
            if not 0 <= first < end:
                raise ValueError(f"textless={self.textless}: must be ranges of token ids, each with one or more")
        return self


def textless(tokenizer: Any, rows: int) -> tuple[tuple[int, int], ...]:
    """Ranges of the ids below ``rows`` that a tokenizer has no text for.

    Embeddings are often padded to a round number of rows. The padding rows are untrained, and a response that held one
    could not be decoded.
    """
    known = np.zeros(rows + 2, bool)
    known[[0, -1]] = True  # so that every range has two ends
    ids = np.fromiter(tokenizer.get_vocab().values(), np.int64)
    known[1 + ids[ids < rows]] = True
    edges = np.flatnonzero(np.diff(known.astype(np.int8)))
    return tuple((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def filtered(logits: Float[Array, "*batch V"], plan: SamplingPlan) -> Float[Array, "*batch V"]:
    """Logits of the distribution that tokens are drawn from; −inf for tokens that the plan excludes.

    >>> filtered(jnp.array([0.0, 2.0, 1.0, 1.0]), SamplingPlan(1, temperature=0.5, top_k=2, top_p=1.0)).tolist()
    [-inf, 4.0, 2.0, 2.0]
    >>> filtered(jnp.array([0.0, 2.0, 1.0]), SamplingPlan(1, temperature=0.0)).tolist()
    [-inf, 0.0, -inf]
    """
    logits = logits.astype(jnp.float32)
    if plan.textless:
        hidden = np.zeros(logits.shape[-1], bool)
        for first, end in plan.textless:
            hidden[first:end] = True
        logits = jnp.where(hidden, OUT, logits)
    if plan.temperature == 0.0:
        best = jnp.argmax(logits, axis=-1, keepdims=True)
        return jnp.where(jax.lax.broadcasted_iota(best.dtype, logits.shape, logits.ndim - 1) == best, 0.0, OUT)
    logits = logits / plan.temperature
    if 0 < plan.top_k < logits.shape[-1]:
        logits = _most(logits, jnp.ones_like(logits), plan.top_k)
    if plan.top_p < 1.0:
        logits = _most(logits, jax.nn.softmax(logits, axis=-1), plan.top_p)
    return logits


def draw(keys: Array, logits: Float[Array, "B V"], plan: SamplingPlan) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Draws a token for each row with the row's own key, and returns it with its log-probability.

    Because every row has its own key, its token does not depend on the other rows.
    """
    logits = filtered(logits, plan)
    greedy = plan.temperature == 0.0
    tokens = jnp.argmax(logits, axis=-1) if greedy else jax.vmap(jax.random.categorical)(keys, logits)
    # Only the chosen token's log-probability is needed, not all [V].
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return tokens.astype(jnp.int32), chosen - jax.nn.logsumexp(logits, axis=-1)


def _most(logits: Array, weights: Array, need: float) -> Array:
    """The logits at or above the highest threshold whose tokens' weights sum to ``need``; −inf for the rest."""
    order = _ordered(logits)

    def halve(_, bounds):
        low, high = bounds  # the weights at or above ``low`` sum to enough, those above ``high`` do not
        middle = (low | high) - ((low ^ high) >> 1)  # the mean of two integers, rounded up, without overflow
        enough = jnp.sum(jnp.where(order >= middle, weights, 0.0), axis=-1, keepdims=True) >= need
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    bounds = jnp.min(order, axis=-1, keepdims=True), jnp.max(order, axis=-1, keepdims=True)
    threshold, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    return jnp.where(order >= threshold, logits, OUT)


def _ordered(x: Float[Array, "*batch V"]) -> Int[Array, "*batch V"]:
    """Maps float32 numbers to int32 numbers of the same order.

    >>> _ordered(jnp.array([-jnp.inf, -2.0, -0.0, 0.0, 1.0])).tolist()
    [-2139095041, -1073741825, 0, 0, 1065353216]
    """
    # −0 and 0 are equal but have different bits.
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
