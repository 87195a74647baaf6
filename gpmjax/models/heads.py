"""What turns hidden states into preferences: the embedding (or reward) head and the scale gate.

    v(x, y) = W_v h(x, y)          [2k], read at the response's last token
    λ(x)    = gate(W_λ h(x))       [k] ≥ 0, read at the prompt's last token
    s(y_i ≻ y_j | x) = Σ_l λ_l(x) ⟨R v_i[l], v_j[l]⟩,   P = σ(s / τ)

A Bradley–Terry head is the scalar case: r = w·h, s = r_i − r_j. All of it is float32, whatever the backbone computes in.
Source: arXiv 2410.02197, sections 4.2 (score, gate) and 4.3 (τ, unit length).
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array, Comparisons
from gpmjax.models.config import require_one_of
from gpmjax.preference.score import bradley_terry_score, pairwise_rewards, pairwise_scores, score

KINDS = ("gpm", "bt")
GATES = ("none", "softmax", "scaled_softmax", "sigmoid", "softplus")
NORMALISATIONS = ("none", "l2")
TAU_MODES = ("fixed", "learned")
HEADS = ("linear", "mlp")
MLP_ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}


@dataclasses.dataclass(frozen=True)
class PreferenceSpec:
    """How hidden states become a score; saved with every model, since the weights alone do not tell.

    >>> PreferenceSpec(dim=4).blocks
    2
    >>> PreferenceSpec.bradley_terry().validate().dim
    1
    """

    kind: str = "gpm"
    dim: int = 6
    """Numbers in an embedding: 2k for a general preference model, 1 for Bradley–Terry."""
    gate: str = "softmax"
    """λ from logits z: softmax(z), k·softmax(z/√D) ("scaled_softmax"), σ(z), log(1 + eᶻ), or 1 ("none")."""
    normalise: str = "l2"
    tau: float = 0.1
    tau_mode: str = "fixed"
    head: str = "linear"
    mlp_widths: tuple[int, ...] = ()
    """Hidden widths of an MLP head (value and gate alike), e.g. (1024, 512, 256) for layers net.0, .2, .4 and .6."""
    mlp_activation: str = "relu"

    @classmethod
    def bradley_terry(cls, tau: float = 1.0) -> "PreferenceSpec":
        """The scalar reward model: P = σ((r_i − r_j)/τ)."""
        return cls(kind="bt", dim=1, gate="none", normalise="none", tau=tau)

    @property
    def blocks(self) -> int:
        """k, the number of 2-d blocks."""
        return self.dim // 2

    def validate(self) -> "PreferenceSpec":
        """Returns itself; raises ValueError naming the field, its value and what is allowed."""
        require_one_of("kind", self.kind, KINDS)
        require_one_of("gate", self.gate, GATES)
        require_one_of("normalise", self.normalise, NORMALISATIONS)
        require_one_of("tau_mode", self.tau_mode, TAU_MODES)
        require_one_of("head", self.head, HEADS)
        require_one_of("mlp_activation", self.mlp_activation, tuple(MLP_ACTIVATIONS))
        if not self.tau > 0:
            raise ValueError(f"tau is {self.tau}; it must be > 0")
        if self.head == "mlp" and not self.mlp_widths:
            raise ValueError("mlp_widths is empty; an mlp head needs at least one hidden width")
        if self.head == "linear" and self.mlp_widths:
            raise ValueError(f"mlp_widths is {self.mlp_widths}; a linear head has none")
        if self.kind == "gpm" and (self.dim < 2 or self.dim % 2):
            raise ValueError(f"dim is {self.dim}; a preference embedding needs an even one, ≥ 2")
        if self.kind == "bt":
            require_one_of("dim", self.dim, (1,))
            require_one_of("gate", self.gate, ("none",))
            # A single number of unit length is only a sign.
            require_one_of("normalise", self.normalise, ("none",))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"mlp_widths": list(self.mlp_widths)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PreferenceSpec":
        """Inverse of ``to_dict``; raises ValueError on a field it does not know.

        >>> PreferenceSpec.from_dict(PreferenceSpec(dim=8).to_dict()) == PreferenceSpec(dim=8)
        True
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            require_one_of("preference field", name, tuple(sorted(known)))
        return cls(**(fields | {"mlp_widths": tuple(fields.get("mlp_widths", ()))})).validate()


class PreferenceOutput(NamedTuple):
    """What the heads say of R responses; float32."""

    embedding: Array
    """[..., R, dim]: v, or the reward (dim 1)."""
    scale: Array | None
    """[..., R, k]: λ of each response's prompt; None without a gate and for Bradley–Terry."""
    tau: Array
    """[]: temperature of the probability."""


class Head(nn.Module):
    """Linear map or MLP, no bias on the former; inputs and outputs float32."""

    spec: PreferenceSpec
    features: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch out"]:
        # The released recipe: standard deviation 1/(D + 1). Not for an MLP, whose signal it would shrink at every layer.
        power = -1.0 if self.spec.head == "linear" else -0.5
        init = lambda key, shape, dtype: jax.random.normal(key, shape, dtype) * (shape[0] + 1) ** power
        # A few columns: full precision costs nothing, and bf16 products would blur close scores.
        dense = lambda width, bias, name: nn.Dense(width, use_bias=bias, kernel_init=init, precision="highest", name=name)
        if self.spec.head == "linear":
            kernel = self.param("kernel", init, (hidden.shape[-1], self.features), jnp.float32)
            return jnp.matmul(hidden, kernel, precision="highest")
        for depth, width in enumerate(self.spec.mlp_widths):
            # Even numbers: activations hold the odd places of the published `net` sequence.
            hidden = MLP_ACTIVATIONS[self.spec.mlp_activation](dense(width, True, f"net_{2 * depth}")(hidden))
        return dense(self.features, True, f"net_{2 * len(self.spec.mlp_widths)}")(hidden)


def unit_length(v: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """v / ‖v‖; 0 stays 0, with a finite gradient.

    >>> unit_length(jnp.array([3.0, 4.0])).tolist()
    [0.6..., 0.8...]
    """
    squared = jnp.sum(v * v, axis=-1, keepdims=True)
    return v * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def scale_gate(kind: str, logits: Float[Array, "*batch k"], hidden_size: int) -> Float[Array, "*batch k"]:
    """λ ≥ 0 from logits; ``kind`` as in ``PreferenceSpec.gate``, all but "none".

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
    """Hidden states of responses and of their prompts → embeddings and gates.

    Parameters, float32: ``value/kernel`` [D, dim] (``value/net_*`` for an MLP), ``gate/kernel`` [D, k], ``log_tau`` [].
    """

    spec: PreferenceSpec

    @nn.compact
    def __call__(self, response: Float[Array, "*batch R D"], prompt: Float[Array, "*batch R D"]) -> PreferenceOutput:
        spec = self.spec.validate()
        embedding = Head(spec, spec.dim, name="value")(response.astype(jnp.float32))
        if spec.normalise == "l2":
            embedding = unit_length(embedding)
        scale = None
        if spec.gate != "none":
            logits = Head(spec, spec.blocks, name="gate")(prompt.astype(jnp.float32))
            scale = scale_gate(spec.gate, logits, prompt.shape[-1])
        if spec.tau_mode == "fixed":
            return PreferenceOutput(embedding, scale, jnp.float32(spec.tau))
        log_tau = self.param("log_tau", lambda key: jnp.log(jnp.float32(spec.tau)))
        return PreferenceOutput(embedding, scale, jnp.exp(log_tau))


def pair_scores(output: PreferenceOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """s(chosen ≻ rejected | prompt) of every comparison, not yet divided by τ."""
    pick = jax.vmap(lambda values, index: values[index])
    left, right = (pick(output.embedding, jnp.asarray(side)) for side in (comparisons.chosen, comparisons.rejected))
    if _is_reward(output):
        return bradley_terry_score(left[..., 0], right[..., 0])
    return score(left, right, None if output.scale is None else pick(output.scale, jnp.asarray(comparisons.chosen)))


def group_scores(output: PreferenceOutput) -> Float[Array, "*batch R R"]:
    """s(i ≻ j) of every ordered pair of a row's responses; between responses of different prompts it has no meaning.

    >>> rewards = PreferenceOutput(jnp.array([[2.0], [0.5]]), None, jnp.float32(1))
    >>> group_scores(rewards).tolist()
    [[0.0, 1.5], [-1.5, 0.0]]
    """
    if _is_reward(output):
        return pairwise_rewards(output.embedding[..., 0])
    return pairwise_scores(output.embedding, output.scale)


def _is_reward(output: PreferenceOutput) -> bool:
    # One number per response is a reward; preference embeddings have an even count.
    return output.embedding.shape[-1] == 1
