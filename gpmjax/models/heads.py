"""What turns hidden states into preferences: the embedding (or reward) head and the scale gate.

    v(x, y) = W_v h(x, y)          [2k], read at the response's last token
    λ(x)    = gate(W_λ h(x))       [k] ≥ 0, read at the prompt's last token
    s(y_i ≻ y_j | x) = Σ_l λ_l(x) ⟨R v_i[l], v_j[l]⟩,   P = σ(s / τ)

A Bradley–Terry head is the scalar case: r = w·h, s = r_i − r_j. A pairwise model reads both responses at once: r(i, j), the score
of an ordered pair, and s = ½(r(i, j) − r(j, i)). Either may be read off the logits of two verdicts, such as Yes and No, instead of
a head of its own. All of it is float32, whatever the backbone computes in.
Source: arXiv 2410.02197, sections 4.2 (score, gate) and 4.3 (τ, unit length).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gpmjax.arrays import Array, Comparisons, ordered_pairs
from gpmjax.models.config import require_one_of
from gpmjax.preference.score import bradley_terry_score, pairwise_rewards, pairwise_scores, score

KINDS = ("gpm", "bt", "pairwise")
GATES = ("none", "softmax", "scaled_softmax", "sigmoid", "softplus")
NORMALISATIONS = ("none", "l2")
TAU_MODES = ("fixed", "learned")
HEADS = ("linear", "mlp", "verdict")
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
    """Numbers in an embedding: 2k for a general preference model, 1 for Bradley–Terry and for pairwise models."""
    gate: str = "softmax"
    """λ from logits z: softmax(z), k·softmax(z/√D) ("scaled_softmax"), σ(z), log(1 + eᶻ), or 1 ("none")."""
    normalise: str = "l2"
    tau: float = 0.1
    tau_mode: str = "fixed"
    head: str = "linear"
    """What is read: a "linear" map or an "mlp" of the last hidden state, or the next token's log-odds of a "verdict" over the other."""
    mlp_widths: tuple[int, ...] = ()
    """Hidden widths of an MLP head (value and gate alike), e.g. (1024, 512, 256) for layers net.0, .2, .4 and .6."""
    mlp_activation: str = "relu"
    question: str = ""
    """What the model is asked about responses (gpmjax.data.questions); empty: it reads them as replies."""
    verdicts: tuple[str, ...] = ()
    """The two answers that a verdict head compares, the favourable one first, ..."""
    verdict_tokens: tuple[int, ...] = ()
    """... and their tokens."""

    @classmethod
    def bradley_terry(cls, tau: float = 1.0) -> "PreferenceSpec":
        """The scalar reward model: P = σ((r_i − r_j)/τ)."""
        return cls(kind="bt", dim=1, gate="none", normalise="none", tau=tau)

    @classmethod
    def pairwise(cls, question: str, **changes: Any) -> "PreferenceSpec":
        """A model that reads two responses at once: P = σ(r(i, j)/τ)."""
        return cls(**{"kind": "pairwise", "dim": 1, "gate": "none", "normalise": "none", "tau": 1.0, "question": question} | changes)

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
        if self.kind != "gpm":
            require_one_of("dim", self.dim, (1,))
            require_one_of("gate", self.gate, ("none",))
            # A single number of unit length is only a sign.
            require_one_of("normalise", self.normalise, ("none",))
        if self.kind == "pairwise" and not self.question:
            raise ValueError("question is ''; a pairwise model needs one with places for two responses")
        if self.question and self.gate != "none":
            raise ValueError(f"gate is {self.gate!r}; a question has no prompt of its own to read it at, so it must be 'none'")
        self._validate_verdicts()
        return self

    def _validate_verdicts(self) -> None:
        if self.head == "verdict":
            require_one_of("kind", self.kind, ("bt", "pairwise"))
            if not self.question or len(self.verdicts) != 2 or not all(self.verdicts):
                raise ValueError(f"verdicts is {self.verdicts!r}; a verdict head needs two, and a question that asks for them")
        elif self.verdicts:
            raise ValueError(f"verdicts is {self.verdicts!r}; only a verdict head has any")
        if self.verdict_tokens and (len(self.verdict_tokens) != 2 or self.verdict_tokens[0] == self.verdict_tokens[1]):
            raise ValueError(f"verdict_tokens is {self.verdict_tokens}; it must be two tokens that differ")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PreferenceSpec":
        """Inverse of ``to_dict``; raises ValueError on a field it does not know.

        >>> PreferenceSpec.from_dict(PreferenceSpec(dim=8).to_dict()) == PreferenceSpec(dim=8)
        True
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            require_one_of("preference field", name, tuple(sorted(known)))
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}).validate()


class PreferenceOutput(NamedTuple):
    """What the heads say of R responses; float32."""

    embedding: Array
    """[..., R, dim]: v, or the reward (dim 1)."""
    scale: Array | None
    """[..., R, k]: λ of each response's prompt; None without a gate and for Bradley–Terry."""
    tau: Array
    """[]: temperature of the probability."""
    mass: Array | None = None
    """[..., R]: log-probability that the next token is one of the two verdicts; None for other heads."""


class PairwiseOutput(NamedTuple):
    """What a pairwise model says of R ordered pairs, each a "response" of its group; float32."""

    value: Array
    """[..., R]: r(first, second), the log-odds × τ that the first is better."""
    tau: Array
    mass: Array | None = None
    """As in PreferenceOutput."""


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


def verdict_log_odds(logits: Float[Array, "*batch V"], tokens: tuple[int, ...]) -> tuple[Array, Array]:
    """(log p(first)/p(second), log(p(first) + p(second))) of two next tokens, each [...] float32.

    A verifier's score is σ of the former: exp(z_yes)/(exp(z_yes) + exp(z_no)), whatever other tokens the model would say.
    The latter tells how much it would; log p(first) = log σ(log-odds) + mass.
    Source: Zhang et al. 2024, arXiv 2402.07625 (LM-Score) and arXiv 2408.15240, equation 4.

    >>> odds, mass = verdict_log_odds(jnp.log(jnp.array([0.6, 0.2, 0.2])), (0, 2))
    >>> float(jax.nn.sigmoid(odds)), float(jnp.exp(mass))
    (0.75..., 0.8...)
    """
    both = logits[..., tokens]
    return both[..., 0] - both[..., 1], jax.nn.logsumexp(both, axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def pair_scores(output: PreferenceOutput | PairwiseOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """s(chosen ≻ rejected | prompt) of every comparison, not yet divided by τ.

    A pairwise model's are the mean over both orders; where a comparison names one question twice, it was asked in that order
    alone, and the score is that of the question's first response over its second.
    """
    pick = jax.vmap(lambda values, index: values[index])
    if isinstance(output, PairwiseOutput):
        first, second = order_values(output, comparisons)
        return jnp.where(_one_order(comparisons), first, (first - second) / 2)
    left, right = (pick(output.embedding, jnp.asarray(side)) for side in (comparisons.chosen, comparisons.rejected))
    if _is_reward(output):
        return bradley_terry_score(left[..., 0], right[..., 0])
    return score(left, right, None if output.scale is None else pick(output.scale, jnp.asarray(comparisons.chosen)))


def order_matrix(value: Float[Array, "*batch R"]) -> Float[Array, "*batch K K"]:
    """r(i, j) of K responses, whose R = K(K − 1) ordered pairs were asked about in the order of ``ordered_pairs``; 0 for i = j.

    >>> order_matrix(jnp.array([0.5, -0.25])).tolist()
    [[0.0, 0.5], [-0.25, 0.0]]
    """
    count = (1 + math.isqrt(1 + 4 * value.shape[-1])) // 2
    first, second = np.array(ordered_pairs(count), np.int32).reshape(-1, 2).T
    return jnp.zeros((*value.shape[:-1], count, count), value.dtype).at[..., first, second].set(value)


def group_scores(output: PreferenceOutput | PairwiseOutput) -> Float[Array, "*batch R R"]:
    """s(i ≻ j) of every ordered pair of a row's responses; between responses of different prompts it has no meaning.

    A pairwise model must have been asked about every ordered pair, see ``order_matrix``.

    >>> rewards = PreferenceOutput(jnp.array([[2.0], [0.5]]), None, jnp.float32(1))
    >>> group_scores(rewards).tolist()
    [[0.0, 1.5], [-1.5, 0.0]]
    """
    if isinstance(output, PairwiseOutput):
        asked = order_matrix(output.value)
        return (asked - asked.mT) / 2
    if _is_reward(output):
        return pairwise_rewards(output.embedding[..., 0])
    return pairwise_scores(output.embedding, output.scale)


def order_values(output: PairwiseOutput, comparisons: Comparisons) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """r(chosen, rejected) and r(rejected, chosen) of every comparison. A model that ignores the order has r(i, j) = −r(j, i)."""
    pick = jax.vmap(lambda values, index: values[index])
    return pick(output.value, jnp.asarray(comparisons.chosen)), pick(output.value, jnp.asarray(comparisons.rejected))


def _one_order(comparisons: Comparisons) -> Array:
    return jnp.asarray(comparisons.chosen) == jnp.asarray(comparisons.rejected)


def _is_reward(output: PreferenceOutput) -> bool:
    # One number per response is a reward; preference embeddings have an even count.
    return output.embedding.shape[-1] == 1
