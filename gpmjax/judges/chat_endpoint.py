"""A chat model behind a server with OpenAI's chat-completions protocol, such as vLLM, SGLang or a paid service.

Every answer is kept on disk as soon as it arrives, and no question is sent twice, so an interrupted run continues where
it stopped. All answers that a run uses are counted, and separately those that it requested anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gpmjax.hub.lines import one_line
from gpmjax.judges.answer_cache import AnswerCache, request_key
from gpmjax.sampling.http import Server, run_concurrently

MILLION = 1_000_000


class ChatQuestion(NamedTuple):
    """One message to answer."""

    prompt: str
    max_tokens: int
    top_logprobs: int = 0
    """Likeliest tokens to return at each position, with their log-probabilities; 0: none."""


class SaidToken(NamedTuple):
    """One token of a reply, and its alternatives."""

    token: str
    likeliest: Mapping[str, float]
    """Token → log-probability in nats, for the likeliest tokens and the chosen one."""


class ChatReply(NamedTuple):
    """The model's reply to a question."""

    text: str
    """Empty if the server sends no text, as for a refusal."""
    tokens: tuple[SaidToken, ...]
    """Empty if the server sends no log-probabilities."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens as the server counts them; 0 if it does not."""


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in US dollars or any other currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt", "completion"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"price of {name} tokens={getattr(self, name)!r}: must be finite and at least 0")


class Counts(NamedTuple):
    """Numbers of answers, and of the tokens in the answers and their questions."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    """Answers whose tokens the server did not count."""

    def and_answer(self, answer: Mapping[str, Any]) -> "Counts":
        prompt, completion = _usage(answer)
        return Counts(
            self.answers + 1,
            self.prompt_tokens + prompt,
            self.completion_tokens + completion,
            self.uncounted + (prompt + completion == 0),
        )

    def figures(self, prices: Prices) -> dict[str, Any]:
        """The counts and their ``price``, as plain JSON.

        >>> Counts(2, 1000, 500).figures(Prices(prompt=10.0, completion=30.0))["price"]
        0.025
        """
        price = self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion
        return {**self._asdict(), "price": price / MILLION}


class Meter:
    """Counts an endpoint's answers, each once: ``total`` counts all, ``asked`` those that were requested in this run.

    Malformed answers, which were requested again, are not counted, though a server may charge for them.
    """

    def __init__(self) -> None:
        self.total, self.asked, self._seen = Counts(), Counts(), set()

    def count(self, key: str, answer: Mapping[str, Any], *, from_cache: bool) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self.total = self.total.and_answer(answer)
            self.asked = self.asked if from_cache else self.asked.and_answer(answer)

    def figures(self, prices: Prices) -> dict[str, Any]:
        """Plain JSON: the figures of all answers, and under ``this_run`` of those that were requested in this run."""
        per_million = {"prompt": prices.prompt, "completion": prices.completion}
        return {**self.total.figures(prices), "this_run": self.asked.figures(prices), "prices_per_million": per_million}


@dataclass(frozen=True)
class ChatEndpoint:
    """A model on a server. ``cache`` keeps its answers, ``meter`` counts them."""

    server: Server
    model: str
    cache: AnswerCache
    temperature: float = 0.0
    meter: Meter = field(default_factory=Meter, compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything but the question that determines an answer, as plain JSON."""
        return {"endpoint": self.server.url, "model": self.model, "temperature": self.temperature}

    def ask(self, questions: Sequence[ChatQuestion]) -> list[ChatReply]:
        """Returns a reply to each question, in their order; equal questions are sent once.

        Raises OSError, one line that names the URL, when a request has failed for good. No more are sent then, and the
        answers that arrived are in the cache.
        """
        bodies = [self._body(question) for question in questions]
        keys = [request_key(self.server.address("chat/completions"), body) for body in bodies]
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if self.cache.get(key) is None}

        def fetch(key: str) -> None:
            self.cache.put(key, missing[key], self.server.post("chat/completions", missing[key], _checked))

        done = run_concurrently(fetch, list(missing), self.server.concurrency)
        for key in keys:
            if (answer := self.cache.get(key)) is not None:
                self.meter.count(key, answer, from_cache=key not in missing)
        if done.failure is not None:
            kept = f"{len(done.kept)} of {len(missing)} answers came, and are kept"
            raise OSError(f"{done.failure} ({kept})") from done.failure
        return [_reply(self.cache.get(key)) for key in keys]

    def _body(self, question: ChatQuestion) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": question.max_tokens,
            "temperature": self.temperature,
        }
        return body | ({"logprobs": True, "top_logprobs": question.top_logprobs} if question.top_logprobs else {})


def _checked(answer: Any) -> Any:
    """Returns the answer unchanged. Raises ValueError if it holds no message."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("no list of choices")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise ValueError("no message with content in the first choice")
    try:
        _reply(answer)
    except (AttributeError, KeyError, TypeError, OverflowError, ValueError) as error:
        raise ValueError(f"logprobs or usage are not as in OpenAI's protocol: {one_line(error)}") from error
    return answer


def _reply(answer: Mapping[str, Any]) -> ChatReply:
    choice = answer["choices"][0]
    content = (choice.get("logprobs") or {}).get("content") or ()
    tokens = tuple(
        SaidToken(said["token"], {t["token"]: _log_probability(t["logprob"]) for t in [*said["top_logprobs"], said]})
        for said in content
    )
    return ChatReply(choice["message"].get("content") or "", tokens, *_usage(answer))


def _log_probability(said: Any) -> float:
    value = float(said)
    if math.isnan(value):
        raise ValueError(f"a log-probability is {value}")
    return value


def _usage(answer: Mapping[str, Any]) -> tuple[int, int]:
    usage = answer.get("usage") or {}
    counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    if min(counts) < 0:
        raise ValueError(f"a count of tokens is {min(counts)}")
    return counts
