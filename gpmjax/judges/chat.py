"""A chat model as a judge of responses: it reads every wanted pair in both orders, and its answers are kept on disk."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group
from gpmjax.judges.answer_cache import AnswerCache
from gpmjax.judges.chat_endpoint import ChatEndpoint, ChatQuestion, ChatReply
from gpmjax.judges.chat_prompts import PAIR_PROMPTS, TOP_LOGPROBS, PairPrompt
from gpmjax.judges.judge import Pairs, Verdict
from gpmjax.sampling.http import Server

CHUNK = 32
"""Groups that are asked about together, and handed over together."""


@dataclasses.dataclass(frozen=True)
class ChatJudge:
    """Scores [i, j] are log-odds that i is better than j, i shown first; τ = 1.

    s(i ≻ j) + s(j ≻ i) is the judge's order bias, which ``symmetry`` "average" takes out.
    """

    endpoint: ChatEndpoint
    prompt: PairPrompt
    top_logprobs: int = 0
    """Where the verdict is one letter: how many of the likeliest tokens it is weighed by; 0 takes it as certain."""
    symmetry: str = "none"
    """"none": scores as the model gave them, a pair without a readable verdict NaN; "average": their mean over both orders, of
    those that are readable; 0, a tie, where neither is."""

    @property
    def identity(self) -> Mapping[str, Any]:
        averaged = {} if self.symmetry == "none" else {"symmetry": self.symmetry}
        return {**self.endpoint.identity, **self.prompt.identity, "top_logprobs": self.top_logprobs, **averaged}

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `Judge`; a pair that is wanted is wanted in both orders, and equal responses are not asked about. ``tokens`` are 0:
        the server counts those of whole questions, which are ``forward_tokens``.

        Raises OSError when the server gives up; what it had answered is kept.
        """
        for start in range(0, len(groups), CHUNK):
            chunk = groups[start : start + CHUNK]
            wanted = [_ordered_pairs(group, pairs, self._places(group)) for group in chunk]
            questions = [
                self._question(group, *p) for group, several in zip(chunk, wanted, strict=True) for p in several
            ]
            replies = iter(self.endpoint.ask(questions))
            for group, several in zip(chunk, wanted, strict=True):
                yield self._verdict(self._places(group), several, list(itertools.islice(replies, len(several))))

    def _question(self, group: Group, first: int, second: int) -> ChatQuestion:
        text = self.prompt.write(group.prompt, group.responses[first], group.responses[second])
        return ChatQuestion(text, self.prompt.max_tokens, self.top_logprobs if self.prompt.letter else 0)

    def _places(self, group: Group) -> list[int]:
        """The response that is read for each response: where scores are averaged, the first one of equal text."""
        texts = group.responses
        return list(range(len(texts))) if self.symmetry == "none" else [texts.index(text) for text in texts]

    def _verdict(
        self, places: Sequence[int], pairs: Sequence[tuple[int, int]], replies: Sequence[ChatReply]
    ) -> Verdict:
        count = len(places)
        scores, known = np.full((count, count), np.nan), np.eye(count, dtype=bool)
        np.fill_diagonal(scores, 0.0)
        for (first, second), reply in zip(pairs, replies, strict=True):
            scores[first, second], known[first, second] = self.prompt.read(reply), True
        asked = None
        if self.symmetry == "average":
            asked, known = scores[np.ix_(places, places)], known[np.ix_(places, places)]
            scores = np.where(known, _averaged(asked), np.nan)
        return Verdict(
            scores=scores,
            asked=asked,
            tau=1.0,
            tokens=np.zeros(count, np.int64),
            forward_tokens=sum(reply.prompt_tokens + reply.completion_tokens for reply in replies),
        )


def open_endpoint(config: JudgeConfig) -> ChatEndpoint:
    """The server that a config names, with its answers kept in ``answer_cache``, or in memory where that is empty.

    Raises ValueError, one line naming the field, or file and line of a cache that is none.
    """
    key = os.environ.get(config.key_variable, "") if config.key_variable else ""
    server = Server(config.endpoint, config.timeout, config.retries, config.backoff, config.concurrency, key)
    return ChatEndpoint(server, config.endpoint_model, AnswerCache(config.answer_cache))


def chat_judge(config: JudgeConfig, endpoint: ChatEndpoint) -> ChatJudge:
    """An opened server as the judge that a config describes."""
    weighed = TOP_LOGPROBS if config.weighing == "weighed" else 0
    return ChatJudge(endpoint, PAIR_PROMPTS[config.prompt], weighed, config.symmetry)


def _averaged(asked: np.ndarray) -> np.ndarray:
    """[K, K] skew-symmetric scores of what was asked in both orders.

    >>> _averaged(np.array([[0.0, 3.0, np.nan], [-1.0, 0.0, np.nan], [1.0, np.nan, 0.0]])).tolist()
    [[0.0, 2.0, -1.0], [-2.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    both = np.stack([asked, -asked.T])
    readable = ~np.isnan(both)
    return np.where(readable, both, 0.0).sum(axis=0) / np.maximum(readable.sum(axis=0), 1)


def _ordered_pairs(group: Group, pairs: Pairs, places: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs to ask about, in both orders; each response stands for those whose place it is."""
    named = itertools.combinations(range(len(places)), 2)
    if pairs == "labelled":
        named = ((c.chosen, c.rejected) for c in group.comparisons)
    found = ((places[i], places[j]) for i, j in named)
    both = (order for i, j in found for order in ((i, j), (j, i)))
    return list(dict.fromkeys((i, j) for i, j in both if i != j))
