"""A chat model as a judge of responses: it reads every wanted pair in both orders, and its answers are kept on disk."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.judges.chat_endpoint import ChatEndpoint, ChatQuestion, ChatReply
from gpmjax.judges.chat_prompts import PairPrompt
from gpmjax.judges.judge import Pairs, Verdict

CHUNK = 32
"""Groups that are asked about together, and handed over together."""


@dataclasses.dataclass(frozen=True)
class ChatJudge:
    """Scores [i, j] are log-odds that i is better than j, i shown first; τ = 1.

    Nothing makes them skew-symmetric: what s(i ≻ j) + s(j ≻ i) is not 0 by is the judge's order bias. A pair without a
    readable verdict is NaN.
    """

    endpoint: ChatEndpoint
    prompt: PairPrompt
    top_logprobs: int = 0
    """Where the verdict is one letter: how many of the likeliest tokens it is weighed by; 0 takes it as certain."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {**self.endpoint.identity, **self.prompt.identity, "top_logprobs": self.top_logprobs}

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """See `judging.Judge`; a pair that is wanted is wanted in both orders. ``tokens`` are 0: the server counts those of
        whole questions, which are ``forward_tokens``.

        Raises OSError when the server gives up; what it had answered is kept.
        """
        for start in range(0, len(groups), CHUNK):
            chunk = groups[start : start + CHUNK]
            wanted = [_ordered_pairs(group, pairs) for group in chunk]
            questions = [
                self._question(group, *p) for group, several in zip(chunk, wanted, strict=True) for p in several
            ]
            replies = iter(self.endpoint.ask(questions))
            for group, several in zip(chunk, wanted, strict=True):
                yield self._verdict(len(group.responses), several, list(itertools.islice(replies, len(several))))

    def _question(self, group: Group, first: int, second: int) -> ChatQuestion:
        text = self.prompt.write(group.prompt, group.responses[first], group.responses[second])
        return ChatQuestion(text, self.prompt.max_tokens, self.top_logprobs if self.prompt.letter else 0)

    def _verdict(self, count: int, pairs: Sequence[tuple[int, int]], replies: Sequence[ChatReply]) -> Verdict:
        scores = np.full((count, count), np.nan)
        np.fill_diagonal(scores, 0.0)
        for (first, second), reply in zip(pairs, replies, strict=True):
            scores[first, second] = self.prompt.read(reply)
        return Verdict(
            scores=scores,
            tau=1.0,
            tokens=np.zeros(count, np.int64),
            forward_tokens=sum(reply.prompt_tokens + reply.completion_tokens for reply in replies),
        )


def _ordered_pairs(group: Group, pairs: Pairs) -> list[tuple[int, int]]:
    if pairs == "all":
        return list(itertools.permutations(range(len(group.responses)), 2))
    named = ((c.chosen, c.rejected) for c in group.comparisons)
    return list(dict.fromkeys(order for i, j in named for order in ((i, j), (j, i))))
