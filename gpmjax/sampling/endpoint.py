"""Responses from a server that speaks OpenAI's completions protocol, such as vLLM or SGLang.

Prompts are sent as token ids, so that what the server continues is what a trainer will see, and BOS is not added twice.
vLLM sends the response's ids back too; other servers send text alone, which is tokenised again: nearly always, but not by
necessity, to the tokens that were drawn.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import Prompt, RolloutFailed, Rollouts, prompt_tokens, stopping

# Too many requests, or a server that is not there yet or not any more; another 4xx will not get better by asking again.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class HttpRollout:
    """Asks ``url`` + "/completions", one request a prompt, several at a time.

    A request that fails for want of a server, of time or of sense in the answer is sent again, at most ``retries`` times,
    after ``backoff``, 2 ``backoff``, 4 ``backoff``, … seconds. When one has failed for good, no more are sent, those
    under way are waited for, and RolloutFailed carries every prompt's answer that came.
    """

    url: str
    """Such as "http://localhost:8000/v1"."""
    model: str
    """The name that the server has for the policy."""
    chat: ChatFormat
    """With the policy's own tokenizer."""
    plan: SamplingPlan
    samples: int
    timeout: float = 600.0
    """Seconds that a request may be silent for."""
    retries: int = 4
    backoff: float = 1.0
    concurrency: int = 16
    """Requests at a time; the server batches them."""
    key: str = field(default="", repr=False)
    """Bearer token, where the server wants one."""

    def __post_init__(self) -> None:
        self.plan.validate()
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url={self.url!r}: must begin with http:// or https://")
        for name, least in (("samples", 1), ("retries", 0), ("concurrency", 1), ("timeout", 0.001), ("backoff", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least {least}")

    def __call__(self, prompts: Sequence[Prompt], seed: int, ids: Sequence[int] | None = None) -> list[Rollouts]:
        """See ``Rollout``; log-probabilities are None, as servers tell those of another distribution than they draw from."""
        ids = range(len(prompts)) if ids is None else ids
        requests = [
            self._request(tokens, seed, number)
            for tokens, number in zip(prompt_tokens(self.chat, prompts), ids, strict=True)
        ]
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            answers = [pool.submit(self._ask, request) for request in requests]
            wait(answers, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
        ended = {place: answer for place, answer in enumerate(answers) if not answer.cancelled()}
        kept = {place: self._read(prompts[place], a.result()) for place, a in ended.items() if a.exception() is None}
        failure = next((a.exception() for a in ended.values() if a.exception() is not None), None)
        if failure is not None:
            raise RolloutFailed(f"{failure} ({len(kept)} of {len(prompts)} prompts answered, and kept)", kept) from failure
        return [kept[place] for place in range(len(prompts))]

    def _request(self, tokens: np.ndarray, seed: int, number: int) -> urllib.request.Request:
        plan = stopping(self.plan, self.chat)
        body = {
            "model": self.model,
            "prompt": tokens.tolist(),
            "n": self.samples,
            "max_tokens": plan.max_new_tokens,
            "temperature": plan.temperature,
            "top_p": plan.top_p,
            "seed": int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1),  # servers take 31 bits
            # Beyond OpenAI's protocol, known to vLLM and SGLang.
            "stop_token_ids": list(plan.stop_tokens),
            "return_token_ids": True,
        }
        if plan.top_k:
            body["top_k"] = plan.top_k
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        return urllib.request.Request(f"{self.url.rstrip('/')}/completions", json.dumps(body).encode(), headers)

    def _ask(self, request: urllib.request.Request) -> list[Mapping[str, Any]]:
        """The K choices of an answer; OSError, one line naming the URL, when there is none to be had."""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.backoff * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return _choices(json.loads(answer.read()), self.samples)
            except urllib.error.HTTPError as error:
                trouble = f"status {error.code} ({_excerpt(error)})"
                if error.code not in _TRY_AGAIN:
                    raise OSError(f"{request.full_url}: {trouble}") from error
            except TimeoutError:
                trouble = f"no answer within {self.timeout:g} s"
            except (OSError, http.client.HTTPException) as error:
                # urllib wraps what goes wrong while it connects, a timeout included.
                trouble = f"no connection ({getattr(error, 'reason', error)})"
            except ValueError as error:
                trouble = f"malformed answer ({error})"
        raise OSError(f"{request.full_url}: {trouble}, {self.retries + 1} times")

    def _read(self, prompt: Prompt, choices: Sequence[Mapping[str, Any]]) -> Rollouts:
        stops = stopping(self.plan, self.chat).stop_tokens
        texts = tuple(choice["text"] for choice in choices)
        stopped = tuple(choice.get("finish_reason") == "stop" for choice in choices)
        (again,) = self.chat.encode_all([(prompt, texts)])
        tokens = []
        for choice, retokenised, ended in zip(choices, again.responses, stopped, strict=True):
            ids = list(choice.get("token_ids") or retokenised[:-1])
            if ended and ids[-1:] not in [[stop] for stop in stops]:
                ids.append(self.chat.tokenizer.eos_token_id)
            tokens.append(np.array(ids, np.int32))
        return Rollouts(texts, tuple(tokens), None, stopped)


def _choices(answer: Any, samples: int) -> list[Mapping[str, Any]]:
    """An answer's choices in their order; ValueError when it is not K texts."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        raise ValueError("no list of choices, each with a text")
    if len(choices) != samples:
        raise ValueError(f"{len(choices)} choices, {samples} asked for")
    return sorted(choices, key=lambda choice: choice.get("index", 0))


def _is_choice(choice: Any) -> bool:
    return (
        isinstance(choice, dict)
        and isinstance(choice.get("text"), str)
        and isinstance(choice.get("index", 0), int)
        and all(isinstance(token, int) for token in choice.get("token_ids") or ())
    )


def _excerpt(error: urllib.error.HTTPError) -> str:
    """The first line of what a server says of an error."""
    with error:
        try:
            text = error.read(300).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            text = ""
    return text.splitlines()[0] if text else error.reason
