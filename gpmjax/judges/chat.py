"""A chat model as a judge of responses. Every requested pair is asked in both orders, and answers are kept on disk."""

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
"""Groups whose questions are sent together, and whose verdicts are returned together."""


@dataclasses.dataclass(frozen=True)
class ChatJudge:
    """A judge whose scores [i, j] are log-odds that response i, shown first, is better than response j; τ = 1.

    s(i ≻ j) + s(j ≻ i) is the judge's order bias, which ``symmetry`` "average" removes.
    """

    endpoint: ChatEndpoint
    prompt: PairPrompt
    top_logprobs: int = 0
    """For one-letter verdicts: the number of likeliest tokens whose probabilities weigh it; 0 takes it as certain."""
    symmetry: str = "none"
    """"none": scores as the model gave them, NaN for a pair without a readable verdict. "average": the mean over the
    readable orders of a pair, or 0, a tie, if neither is readable."""

    @property
    def identity(self) -> Mapping[str, Any]:
        averaged = {} if self.symmetry == "none" else {"symmetry": self.symmetry}
        return {**self.endpoint.identity, **self.prompt.identity, "top_logprobs": self.top_logprobs, **averaged}

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `Judge`. A requested pair is asked in both orders; pairs of equal responses are not asked. ``tokens`` are
        0, since the server counts the tokens of whole questions; these are ``forward_tokens``.

        Raises OSError when a request has failed for good; earlier answers are kept.
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
        """The response to read for each response: for averaged scores, the first one with the same text."""
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
    """Opens a config's server. Answers are kept in the file ``answer_cache``, or in memory if that is empty.

    Raises ValueError, one line that names the field, or the file and line of a malformed cache.
    """
    key = os.environ.get(config.key_variable, "") if config.key_variable else ""
    server = Server(config.endpoint, config.timeout, config.retries, config.backoff, config.concurrency, key)
    return ChatEndpoint(server, config.endpoint_model, AnswerCache(config.answer_cache))


def chat_judge(config: JudgeConfig, endpoint: ChatEndpoint) -> ChatJudge:
    """The judge of a config, which asks an opened server."""
    weighed = TOP_LOGPROBS if config.weighing == "weighed" else 0
    return ChatJudge(endpoint, PAIR_PROMPTS[config.prompt], weighed, config.symmetry)


def _averaged(asked: np.ndarray) -> np.ndarray:
    """[K, K] skew-symmetric scores of pairs that were asked in both orders.

    >>> _averaged(np.array([[0.0, 3.0, np.nan], [-1.0, 0.0, np.nan], [1.0, np.nan, 0.0]])).tolist()
    [[0.0, 2.0, -1.0], [-2.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    both = np.stack([asked, -asked.T])
    readable = ~np.isnan(both)
    return np.where(readable, both, 0.0).sum(axis=0) / np.maximum(readable.sum(axis=0), 1)


def _ordered_pairs(group: Group, pairs: Pairs, places: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs to ask, in both orders. ``places`` maps each response to the one that is read in its stead."""
    named = itertools.combinations(range(len(places)), 2)
    if pairs == "labelled":
        named = ((c.chosen, c.rejected) for c in group.comparisons)
    found = ((places[i], places[j]) for i, j in named)
    both = (order for i, j in found for order in ((i, j), (j, i)))
    return list(dict.fromkeys((i, j) for i, j in both if i != j))
