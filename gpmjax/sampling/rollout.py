"""The ``Rollout`` protocol, and ``LocalRollout``, which draws on this machine; ``endpoint.HttpRollout`` asks a server.

A rollout takes prompts as messages and returns, for each, K responses as text and as the policy's own tokens.
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
    """The responses without their stop token, with the part that the generation header wrote, such as "<think>"."""
    tokens: tuple[np.ndarray, ...]
    """Each [N] int32; ends in a stop token when the response stopped by itself."""
    logprobs: tuple[np.ndarray, ...] | None
    """Each [N] float32: the tokens' log-probabilities under the distribution they were drawn from; None if unknown."""
    stopped: tuple[bool, ...]
    """False where a response ran into ``max_new_tokens``."""


class Rollout(Protocol):
    """Draws K responses to each prompt."""

    def __call__(self, prompts: Sequence[Prompt], seed: int, ids: Sequence[int] | None = None) -> list[Rollouts]:
        """Returns responses in the order of ``prompts``; ``ids`` name prompts across calls (default: their indices).

        Raises RolloutFailed, which holds the responses drawn so far, and ValueError for prompts that cannot be
        answered.
        """
        ...


class RolloutFailed(OSError):
    """Some prompts were not answered. ``kept`` holds the answered ones: index in ``prompts`` → Rollouts."""

    def __init__(self, message: str, kept: Mapping[int, Rollouts]) -> None:
        super().__init__(message)
        self.kept = dict(kept)


@dataclasses.dataclass(frozen=True)
class LocalRollout:
    """Draws on this machine's devices. Token ids without a text are never drawn."""

    model: Decoder
    params: Any
    chat: ChatFormat
    plan: SamplingPlan
    """If the plan has no stop tokens, the tokenizer's EOS is the stop token."""
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
        ids, cut_logprobs = (
            tuple(row[:length] for row, length in zip(rows, lengths, strict=True)) for rows in (tokens, logprobs)
        )
        spoken = [row[: len(row) - ended] for row, ended in zip(ids, stopped, strict=True)]
        texts = self.chat.tokenizer.batch_decode(spoken, skip_special_tokens=True)
        texts = [self.chat.opening + text for text in texts]
        return Rollouts(tuple(texts), ids, cut_logprobs, tuple(map(bool, stopped)))


def stopping(plan: SamplingPlan, chat: ChatFormat) -> SamplingPlan:
    """The plan, with EOS as its stop token if it has none."""
    return plan if plan.stop_tokens else dataclasses.replace(plan, stop_tokens=(chat.tokenizer.eos_token_id,))


def prompt_tokens(chat: ChatFormat, prompts: Sequence[Prompt]) -> list[np.ndarray]:
    """Token ids [P] int32 of each prompt, including the generation header.

    Raises ValueError, which names the prompt, for an empty prompt or one that the template refuses.
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
