"""Responses from a server that speaks OpenAI's completions protocol, such as vLLM or SGLang.

Prompts are sent as token ids, so the server continues exactly the tokens that a trainer will see, and BOS is not added
twice. vLLM returns the response's token ids. Other servers return text alone, which is tokenised again; the result is
nearly always, but not necessarily, the tokens that were drawn. A response with ids that the policy's tokenizer has no
text for is tokenised again too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.sampling.http import Server, run_concurrently
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import Prompt, RolloutFailed, Rollouts, prompt_tokens, stopping


@dataclass(frozen=True)
class HttpRollout:
    """A ``Rollout`` that sends the server one request to "/completions" per prompt, several at a time.

    After a request has failed for good, no more are sent, and those under way are waited for. RolloutFailed then holds
    every answer that arrived.
    """

    server: Server
    model: str
    """The server's name for the policy."""
    chat: ChatFormat
    """The chat format of the policy, with the policy's own tokenizer."""
    plan: SamplingPlan
    samples: int

    def __post_init__(self) -> None:
        self.plan.validate()
        if self.samples < 1:
            raise ValueError(f"samples={self.samples!r}: must be at least 1")

    def __call__(self, prompts: Sequence[Prompt], seed: int, ids: Sequence[int] | None = None) -> list[Rollouts]:
        """See ``Rollout``. Log-probabilities are None: servers report those of another distribution than the drawn
        one."""
        ids = range(len(prompts)) if ids is None else ids
        bodies = [
            self._body(tokens, seed, number)
            for tokens, number in zip(prompt_tokens(self.chat, prompts), ids, strict=True)
        ]
        longest = self.plan.max_new_tokens + 1  # some servers send EOS too

        def ask(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
            return self.server.post("completions", body, lambda answer: _choices(answer, self.samples, longest))

        answers, failure = run_concurrently(ask, bodies, self.server.concurrency)
        kept = {place: self._read(prompts[place], choices) for place, choices in answers.items()}
        if failure is not None:
            raise RolloutFailed(
                f"{failure} ({len(kept)} of {len(prompts)} prompts answered, and kept)", kept
            ) from failure
        return [kept[place] for place in range(len(prompts))]

    def _body(self, tokens: np.ndarray, seed: int, number: int) -> dict[str, Any]:
        plan = stopping(self.plan, self.chat)
        body = {
            "model": self.model,
            "prompt": tokens.tolist(),
            "n": self.samples,
            "max_tokens": plan.max_new_tokens,
            "temperature": plan.temperature,
            "top_p": plan.top_p,
            "seed": int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1),  # servers take 31 bits
            # Not in OpenAI's protocol; vLLM and SGLang know them.
            "stop_token_ids": list(plan.stop_tokens),
            "return_token_ids": True,
        }
        return body | ({"top_k": plan.top_k} if plan.top_k else {})

    def _read(self, prompt: Prompt, choices: Sequence[Mapping[str, Any]]) -> Rollouts:
        stops = stopping(self.plan, self.chat).stop_tokens
        texts = tuple(choice["text"] for choice in choices)
        stopped = tuple(choice.get("finish_reason") == "stop" for choice in choices)
        again = self.chat.continued(prompt, texts)
        tokens = []
        known = range(len(self.chat.tokenizer))
        for choice, retokenised, ended in zip(choices, again, stopped, strict=True):
            said = choice.get("token_ids") or ()
            # A server may draw an embedding row that has no text; a trainer could not read it.
            ids = list(said if said and all(token in known for token in said) else retokenised[:-1])
            if ended and ids[-1:] not in [[stop] for stop in stops]:
                ids.append(self.chat.tokenizer.eos_token_id)
            tokens.append(np.array(ids, np.int32))
        return Rollouts(tuple(self.chat.opening + text for text in texts), tuple(tokens), None, stopped)


def _choices(answer: Any, samples: int, longest: int) -> list[Mapping[str, Any]]:
    """An answer's choices in their order. Raises ValueError unless they are K texts of at most ``longest`` tokens."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        raise ValueError("no list of choices, each with a text")
    if len(choices) != samples:
        raise ValueError(f"{len(choices)} choices, {samples} asked for")
    if too_long := [ids for choice in choices if len(ids := choice.get("token_ids") or ()) > longest]:
        raise ValueError(f"a response of {len(too_long[0])} tokens, at most {longest} asked for")
    return sorted(choices, key=lambda choice: choice.get("index", 0))


def _is_choice(choice: Any) -> bool:
    if not (
        isinstance(choice, dict) and isinstance(choice.get("text"), str) and isinstance(choice.get("index", 0), int)
    ):
        return False
    ids = choice.get("token_ids")
    return ids is None or (isinstance(ids, list) and all(type(token) is int for token in ids))
