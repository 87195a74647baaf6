"""The head of a preference model as a config names it: the fields of `gpmjax.models.spec.PreferenceSpec`, mutable."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from gpmjax.data.questions import question_for
from gpmjax.models.spec import PreferenceSpec


@dataclass
class HeadConfig:
    """What is read from a backbone, and saved with the model; every default but two is PreferenceSpec's."""

    kind: str = PreferenceSpec.kind
    dim: int = 2
    """Numbers in an embedding: 2k for a general preference model and for a hybrid's cyclic part; 1 for Bradley–Terry
    and pairwise models."""
    gate: str = "none"
    """λ from logits z: "softmax", "scaled_softmax" (k·softmax(z/√D)), "sigmoid", "softplus", or "none" (1)."""
    normalise: str = PreferenceSpec.normalise
    tau: float = PreferenceSpec.tau
    tau_mode: str = PreferenceSpec.tau_mode
    head: str = PreferenceSpec.head
    mlp_widths: tuple[int, ...] = PreferenceSpec.mlp_widths
    mlp_activation: str = PreferenceSpec.mlp_activation
    gamma: float = PreferenceSpec.gamma
    reward_mean: float = PreferenceSpec.reward_mean
    reward_std: float = PreferenceSpec.reward_std
    question: str = PreferenceSpec.question
    verdicts: tuple[str, ...] = PreferenceSpec.verdicts
    """The two answers to ``question``, the favourable one first; empty: the named question's own."""
    verdict_tokens: tuple[int, ...] = PreferenceSpec.verdict_tokens
    """Tokens of ``verdicts``; empty: the tokenizer finds them."""
    bos_tokens: int = PreferenceSpec.bos_tokens
    gate_at: str = PreferenceSpec.gate_at

    def spec(self) -> PreferenceSpec:
        """The declaration that is saved with the model, checked; it has ``verdicts`` only where a verdict head reads
        them."""
        fields: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(PreferenceSpec)}
        fields["verdicts"] = self.asked_verdicts() if self.head == "verdict" else ()
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        try:
            return PreferenceSpec(**fields).validate()
        except ValueError as error:  # whose message begins with the field
            raise ValueError(f"config.model.{error}") from error

    def asked_verdicts(self) -> tuple[str, ...]:
        """The answers that the question asks for, unless ``verdicts`` are given."""
        question = question_for(self.question, self.kind)
        return tuple(self.verdicts) or (() if question is None else question.verdicts)
