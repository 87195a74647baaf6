"""The heads that turn hidden states into preferences: the embedding (or reward) head and the scale gate.

    v(x, y) = W_v h(x, y)          [2k], read at the response's last token
    λ(x)    = gate(W_λ h(x))       [k] ≥ 0, read at the prompt's last token
    s(y_i ≻ y_j | x) = Σ_l λ_l(x) ⟨R v_i[l], v_j[l]⟩,   P = σ(s / τ)

A Bradley–Terry head is the scalar case: r = w·h, s = r_i − r_j. A hybrid head gives both, (r, c) = W h with 1 + 2k
numbers, and s = (r_i − r_j) + γ Σ_l λ_l ⟨R c_i[l], c_j[l]⟩ (gpmjax.preference.hybrid). A pairwise model reads both
responses at once: it gives r(i, j), the score of an ordered pair, and s = ½(r(i, j) − r(j, i)). Rewards and pairwise
scores may also be read off the logits of two verdicts, such as Yes and No, without a head. Heads compute in float32,
whatever the backbone's dtype.

Source: arXiv 2410.02197, sections 4.2 (score, gate) and 4.3 (τ, unit length).
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.models.config import require_one_of
from gpmjax.models.scores import PreferenceOutput
from gpmjax.models.spec import GATES, MLP_ACTIVATIONS, PreferenceSpec
from gpmjax.preference.hybrid import hybrid_embedding, hybrid_scale


def drawn(spec: PreferenceSpec, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A new kernel [inputs, outputs] with the released recipe's standard deviation, 1/(inputs + 1).

    An MLP's kernels have 1/√(inputs + 1) instead, since 1/(inputs + 1) would shrink the signal at every layer.
    """
    power = -1.0 if spec.head == "linear" else -0.5
    return jax.random.normal(key, shape, dtype) * (shape[0] + 1) ** power


def drawn_reward_first(spec: PreferenceSpec, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A hybrid's new kernel. Its first column is Bradley–Terry's of the same key, so fits without cycles are equal."""
    reward = drawn(spec, key, (shape[0], 1), dtype)
    return jnp.concatenate([reward, drawn(spec, jax.random.fold_in(key, 1), (shape[0], shape[1] - 1), dtype)], axis=1)


def zero(spec: PreferenceSpec, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A kernel that gives 0 until it is trained."""
    return jnp.zeros(shape, dtype)


class Head(nn.Module):
    """A linear map without bias, or an MLP with biases; inputs and outputs are float32."""

    spec: PreferenceSpec
    features: int
    start: Callable[..., jax.Array] = drawn
    """The initialiser of the last layer."""

    @nn.compact
    def __call__(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch out"]:
        last, inner = functools.partial(self.start, self.spec), functools.partial(drawn, self.spec)
        # bfloat16 products would blur close scores, and full precision costs little for so few columns.
        dense = functools.partial(nn.Dense, precision="highest")
        if self.spec.head == "linear":
            kernel = self.param("kernel", last, (hidden.shape[-1], self.features), jnp.float32)
            return jnp.matmul(hidden, kernel, precision="highest")
        for depth, width in enumerate(self.spec.mlp_widths):
            # Layers have even numbers: in the published `net` sequence, activations have the odd ones.
            layer = dense(width, kernel_init=inner, name=f"net_{2 * depth}")
            hidden = MLP_ACTIVATIONS[self.spec.mlp_activation](layer(hidden))
        return dense(self.features, kernel_init=last, name=f"net_{2 * len(self.spec.mlp_widths)}")(hidden)


def unit_length(v: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """v / ‖v‖. The vector 0 stays 0, with a finite gradient.

    >>> unit_length(jnp.array([3.0, 4.0])).tolist()
    [0.6..., 0.8...]
    """
    squared = jnp.sum(v * v, axis=-1, keepdims=True)
    return v * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def scale_gate(kind: str, logits: Float[Array, "*batch k"], hidden_size: int) -> Float[Array, "*batch k"]:
    """The gate λ ≥ 0 from its logits; ``kind`` is a ``PreferenceSpec.gate`` other than "none".

    >>> scale_gate("scaled_softmax", jnp.zeros(2), 64).tolist()
    [1.0, 1.0]
    """
    require_one_of("gate", kind, GATES[1:])
    if kind == "softmax":
        return jax.nn.softmax(logits, axis=-1)
    if kind == "scaled_softmax":
        return logits.shape[-1] * jax.nn.softmax(logits * hidden_size**-0.5, axis=-1)
    return jax.nn.sigmoid(logits) if kind == "sigmoid" else jax.nn.softplus(logits)


class PreferenceHeads(nn.Module):
    """Embeddings and gates from the hidden states of responses and of their prompts.

    Parameters, float32: ``value/kernel`` [D, outputs] (``value/net_*`` for an MLP; a hybrid's first column is its
    reward), ``gate/kernel`` [D, k], ``log_tau`` [].
    """

    spec: PreferenceSpec

    @nn.compact
    def __call__(self, response: Float[Array, "*batch R D"], prompt: Float[Array, "*batch R D"]) -> PreferenceOutput:
        spec = self.spec.validate()
        embedding = Head(spec, spec.outputs, drawn_reward_first if spec.kind == "hybrid" else drawn, name="value")(
            response.astype(jnp.float32)
        )
        if (spec.reward_mean, spec.reward_std) != (0, 1):
            embedding = (embedding - jnp.float32(spec.reward_mean)) / jnp.float32(spec.reward_std)
        reward = embedding[..., 0] if spec.kind in ("bt", "hybrid") else None
        if spec.kind == "hybrid":
            embedding = embedding[..., 1:]
        if spec.normalise == "l2":
            embedding = unit_length(embedding)
        scale = None
        if spec.gate != "none":
            # k·softmax(0) = 1: with zero weights this gate starts as if there were none.
            gate = Head(spec, spec.blocks, zero if spec.gate == "scaled_softmax" else drawn, name="gate")
            logits = gate(prompt.astype(jnp.float32))
            scale = scale_gate(spec.gate, logits, prompt.shape[-1])
        if spec.kind == "hybrid" and reward is not None:
            scale = hybrid_scale(scale, spec.gamma, (*embedding.shape[:-1], spec.blocks))
            embedding = hybrid_embedding(reward, embedding)
        tau = jnp.float32(spec.tau)
        if spec.tau_mode == "learned":
            tau = jnp.exp(self.param("log_tau", lambda key: jnp.log(jnp.float32(spec.tau))))
        return PreferenceOutput(embedding, scale, tau, reward=reward)
