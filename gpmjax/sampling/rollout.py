"""Where responses come from: one protocol, and the sampler on this machine behind it; ``endpoint`` has a server behind it.

A rollout takes prompts as messages and gives, for each, K responses as text and as the policy's own tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Message
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan, textless

Prompt = Sequence[Message]


class Rollouts(NamedTuple):
    """K responses to one prompt."""

    texts: tuple[str, ...]
    """Without the token that ended them, with what the generation header wrote of the answer, such as "<think>"."""
    tokens: tuple[np.ndarray, ...]
    """Each [N] int32; ends in a stop token when the response stopped by itself."""
    logprobs: tuple[np.ndarray, ...] | None
    """Each [N] float32, of the tokens under the distribution they were drawn from; None where a server does not tell."""
    stopped: tuple[bool, ...]
    """False where a response ran into ``max_new_tokens``."""


class Rollout(Protocol):
    """Draws K responses to each prompt."""

    def __call__(self, prompts: Sequence[Prompt], seed: int, ids: Sequence[int] | None = None) -> list[Rollouts]:
        """Responses in the order of ``prompts``; ``ids`` name prompts across calls and default to their places.

        Raises RolloutFailed, which holds what was drawn so far; ValueError for prompts that cannot be answered.
        """
        ...


class RolloutFailed(OSError):
    """Not every prompt was answered. ``kept``: place in ``prompts`` → the Rollouts that were."""

    def __init__(self, message: str, kept: Mapping[int, Rollouts]) -> None:
        super().__init__(message)
        self.kept = dict(kept)


@dataclasses.dataclass(frozen=True)
class LocalRollout:
    """Draws on this machine's devices; ids that the tokenizer has no text for are never drawn."""

    model: Decoder
    params: Any
    chat: ChatFormat
    plan: SamplingPlan
    """Without stop tokens, the tokenizer's EOS stops."""
    samples: int
    mesh: Mesh | None = None
    rows: int = 8

    def __call__(self, prompts: Sequence[Prompt], seed: int, ids: Sequence[int] | None = None) -> list[Rollouts]:
        plan = stopping(self.plan, self.chat)
        plan = dataclasses.replace(plan, textless=textless(self.chat.tokenizer, self.model.config.vocab_size))
        drawn = generate(
            self.model,
            self.params,
            prompt_tokens(self.chat, prompts),
            samples=self.samples,
            plan=plan,
            seed=seed,
            ids=ids,
            mesh=self.mesh,
            rows=self.rows,
        )
        return [self._read(*rows) for rows in zip(*drawn, strict=True)]

    def _read(self, tokens: np.ndarray, logprobs: np.ndarray, lengths: np.ndarray, stopped: np.ndarray) -> Rollouts:
        cut = lambda rows: tuple(row[:length] for row, length in zip(rows, lengths, strict=True))
        ids = cut(tokens)
        spoken = [row[: len(row) - ended] for row, ended in zip(ids, stopped, strict=True)]
        texts = self.chat.tokenizer.batch_decode(spoken, skip_special_tokens=True)
        texts = [self.chat.opening + text for text in texts]
        return Rollouts(tuple(texts), ids, cut(logprobs), tuple(map(bool, stopped)))


def stopping(plan: SamplingPlan, chat: ChatFormat) -> SamplingPlan:
    """The plan, with EOS as its stop token if it names none."""
    return plan if plan.stop_tokens else dataclasses.replace(plan, stop_tokens=(chat.tokenizer.eos_token_id,))


def prompt_tokens(chat: ChatFormat, prompts: Sequence[Prompt]) -> list[np.ndarray]:
    """Each prompt's token ids [P] int32, generation header included.

    Raises ValueError naming the prompt that is empty, or that the template refuses.
    """
    for place, prompt in enumerate(prompts):
        if not prompt or not prompt[-1].content.strip():
            raise ValueError(f"prompt {place} is empty: it must end in a message with text")
    try:
        encoded = chat.encode_all([(prompt, ()) for prompt in prompts])
    except ValueError:
        for place, prompt in enumerate(prompts):  # which one was it?
            try:
                chat.encode_all([(prompt, ())])
            except ValueError as error:
                raise ValueError(f"prompt {place}: {error}") from error
        raise
    return [np.array(tokens.prompt, np.int32) for tokens in encoded]
