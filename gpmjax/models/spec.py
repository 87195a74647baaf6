"""The declaration of how hidden states become a score. It is saved with the weights, which do not tell."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gpmjax.checks import check_fields, number, whole
from gpmjax.models.config import require_one_of

KINDS = ("gpm", "bt", "hybrid", "pairwise")
EMBEDDING_KINDS = ("gpm", "hybrid")
"""Kinds with preference embeddings of responses, and optionally a gate of prompts."""
GATES = ("none", "softmax", "scaled_softmax", "sigmoid", "softplus")
NORMALISATIONS = ("none", "l2")
TAU_MODES = ("fixed", "learned")
HEADS = ("linear", "mlp", "verdict")
BOS_TOKENS = (-1, 0, 1, 2)
GATE_PLACES = ("prompt", "first_message")
LARGEST_DIM = 2**16
LARGEST_WIDTH = 2**20
TAU_RANGE = (1e-6, 1e6)
"""Outside this range s/τ, or the square of its gradient, leaves float32's range."""
MLP_ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}


@dataclasses.dataclass(frozen=True)
class PreferenceSpec:
    """How hidden states become a score. It is saved with every model, since the weights do not tell.

    >>> PreferenceSpec(dim=4).blocks
    2
    >>> PreferenceSpec.bradley_terry().validate().dim
    1
    """

    kind: str = "gpm"
    """"gpm" (general preference model), "bt" (Bradley–Terry), "hybrid" (a reward and a cyclic part), or "pairwise"."""
    dim: int = 6
    """The size of an embedding: 2k for a general model and for a hybrid's cyclic part, 1 for the other kinds."""
    gate: str = "softmax"
    """How λ comes from logits z: "softmax", k·softmax(z/√D) ("scaled_softmax", which starts at λ = 1), "sigmoid", log(1
    + eᶻ) ("softplus"), or λ = 1 ("none")."""
    normalise: str = "l2"
    """Embeddings of unit length ("l2"), or as the head gives them ("none")."""
    tau: float = 0.1
    """Temperature τ of P = σ(s/τ)."""
    tau_mode: str = "fixed"
    """τ is "fixed", or "learned" from this start."""
    head: str = "linear"
    """How a response is read: by a "linear" map or an "mlp" of the last hidden state, or as the next token's log-odds
    of one "verdict" over the other."""
    mlp_widths: tuple[int, ...] = ()
    """Hidden widths of an MLP head, for value and gate: (1024, 512, 256) gives layers net.0, .2, .4 and .6."""
    mlp_activation: str = "relu"
    """Activation of an MLP head: "relu", "gelu", "silu" or "tanh"."""
    gamma: float = 1.0
    """The weight γ in [0, 1] of a hybrid's cyclic part, s = (r_i − r_j) + γ Σ_l λ_l ⟨R c_i[l], c_j[l]⟩."""
    reward_mean: float = 0.0
    """Bradley–Terry only: the reward, which τ divides, is (w·h − mean)/std, as OpenRLHF declares it in config.json."""
    reward_std: float = 1.0
    """Bradley–Terry only: the std of ``reward_mean``'s formula."""
    question: str = ""
    """The question asked about responses (gpmjax.data.questions); if empty, they are read as replies."""
    verdicts: tuple[str, ...] = ()
    """The two answers that a verdict head compares, the favourable one first."""
    verdict_tokens: tuple[int, ...] = ()
    """The tokens of the two verdicts."""
    bos_tokens: int = -1
    """How many BOS tokens begin a sequence: 0, 1 or 2, or −1 for as many as the chat template writes (one for most).
    The published recipe trained with 2, the template's and the tokenizer's, and scored for its policies with 0."""
    gate_at: str = "prompt"
    """Where the gate is read: at the last token of the templated "prompt", or of its "first_message", as in the
    published code. The two differ for prompts of several messages."""

    @classmethod
    def bradley_terry(cls, tau: float = 1.0) -> "PreferenceSpec":
        """The scalar reward model: P = σ((r_i − r_j)/τ)."""
        return cls(kind="bt", dim=1, gate="none", normalise="none", tau=tau)

    @classmethod
    def pairwise(cls, question: str, **changes: Any) -> "PreferenceSpec":
        """A model that reads two responses at once: P = σ(r(i, j)/τ)."""
        reading = cls(kind="pairwise", dim=1, gate="none", normalise="none", tau=1.0, question=question)
        return dataclasses.replace(reading, **changes)

    def encoding(self) -> dict[str, Any]:
        """The fields that say how text becomes tokens, by their names in ``gpmjax.data.chat.ChatFormat``."""
        return {"bos_tokens": self.bos_tokens, "gate_at": self.gate_at}

    @property
    def blocks(self) -> int:
        """k, the number of 2-d blocks, without a hybrid's reward."""
        return self.dim // 2

    @property
    def outputs(self) -> int:
        """The number of the value head's outputs per response: ``dim``, plus 1 for a hybrid's reward, the first.

        >>> PreferenceSpec(kind="hybrid", dim=4).outputs
        5
        """
        return self.dim + (self.kind == "hybrid")

    def validate(self) -> "PreferenceSpec":
        """Returns itself; raises ValueError naming the field, its value and what is allowed."""
        check_fields("", self)
        require_one_of("kind", self.kind, KINDS)
        require_one_of("gate", self.gate, GATES)
        require_one_of("normalise", self.normalise, NORMALISATIONS)
        require_one_of("tau_mode", self.tau_mode, TAU_MODES)
        require_one_of("head", self.head, HEADS)
        require_one_of("mlp_activation", self.mlp_activation, tuple(MLP_ACTIVATIONS))
        number("tau", self.tau, least=TAU_RANGE[0], most=TAU_RANGE[1])
        for place, width in enumerate(self.mlp_widths):
            whole(f"mlp_widths[{place}]", width, 1, LARGEST_WIDTH)
        if self.head == "mlp" and not self.mlp_widths:
            raise ValueError("mlp_widths is empty; an mlp head needs at least one hidden width")
        if self.head == "linear" and self.mlp_widths:
            raise ValueError(f"mlp_widths is {self.mlp_widths}; a linear head has none")
        whole("dim", self.dim, 1, LARGEST_DIM)
        if self.kind in EMBEDDING_KINDS and (self.dim < 2 or self.dim % 2):
            raise ValueError(f"dim is {self.dim}; a preference embedding needs an even one, ≥ 2")
        number("gamma", self.gamma, least=0, most=1)
        if self.gamma != 1 and self.kind != "hybrid":
            raise ValueError(f"gamma is {self.gamma}; only kind='hybrid' has a cyclic part to weigh, so it must be 1")
        number("reward_mean", self.reward_mean)
        number("reward_std", self.reward_std, above=0)
        if self.kind != "bt" or self.head == "verdict":
            for name, value in (("reward_mean", 0), ("reward_std", 1)):
                if getattr(self, name) != value:
                    only = "only kind='bt' with a head of its own has one"
                    raise ValueError(f"{name} is {getattr(self, name)}; {only}, so it must be {value}")
        if self.kind not in EMBEDDING_KINDS:
            require_one_of("dim", self.dim, (1,))
            require_one_of("gate", self.gate, ("none",))
            # A single number, normalised, would be only a sign.
            require_one_of("normalise", self.normalise, ("none",))
        if self.kind == "pairwise" and not self.question:
            raise ValueError("question is ''; a pairwise model needs one with places for two responses")
        if self.question and self.gate != "none":
            raise ValueError(
                f"gate is {self.gate!r}; a question has no prompt of its own to read it at, so it must be 'none'"
            )
        require_one_of("bos_tokens", self.bos_tokens, BOS_TOKENS)
        require_one_of("gate_at", self.gate_at, GATE_PLACES if self.gate != "none" else GATE_PLACES[:1])
        self._validate_verdicts()
        return self

    def _validate_verdicts(self) -> None:
        if self.head == "verdict":
            require_one_of("kind", self.kind, ("bt", "pairwise"))
            if not self.question or len(self.verdicts) != 2 or not all(self.verdicts):
                raise ValueError(
                    f"verdicts is {self.verdicts!r}; a verdict head needs two, and a question that asks for them"
                )
        elif self.verdicts:
            raise ValueError(f"verdicts is {self.verdicts!r}; only a verdict head has any")
        if self.verdict_tokens and (len(self.verdict_tokens) != 2 or self.verdict_tokens[0] == self.verdict_tokens[1]):
            raise ValueError(f"verdict_tokens is {self.verdict_tokens}; it must be two tokens that differ")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PreferenceSpec":
        """The inverse of ``to_dict``; raises ValueError on an unknown field.

        >>> PreferenceSpec.from_dict(PreferenceSpec(dim=8).to_dict()) == PreferenceSpec(dim=8)
        True
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            require_one_of("preference field", name, tuple(sorted(known)))
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values).validate()
