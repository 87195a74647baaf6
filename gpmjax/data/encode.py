"""Groups as tokens, cut to the model's window so that no comparison is cut away unseen.

A sequence (prompt + one response) has at most ``max_length`` tokens, and what is cut depends on that sequence only,
never on the other responses of the group: a score must not move with its company.

* First the prompt, from the left, keeping BOS and the generation header: it may take all but the half of
  ``max_length`` that is reserved for the response.
* Then the response, from the right, keeping EOS: it may take what the prompt has left.

Comparisons whose two sides have become the same tokens say nothing any more; they are dropped and counted.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.data.chat import ChatFormat, Tokens
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.questions import Asked, QuestionFormat

_CHUNK = 256
"""Groups tokenised in one call, which the tokenizer spreads over its threads."""


class ReadText(NamedTuple):
    """What a model gets to read of one response."""

    tokens: int
    cut: bool


class EncodedGroup(NamedTuple):
    """A prompt, its K responses, and their comparisons, as tokens.

    For a model that is asked questions, ``prompt`` is what all questions about the group begin with, and ``responses`` are what
    follows (gpmjax.data.questions).
    """

    prompt: np.ndarray
    """[P] int32."""
    prompt_end: int
    """Index into ``prompt`` where the scale gate is read."""
    responses: tuple[np.ndarray, ...]
    """Each [N] int32, ending in EOS; or in what ends a question."""
    comparisons: tuple[Comparison, ...]
    tags: Mapping[str, str | int | float | bool] = {}
    where: str = ""
    read: tuple[ReadText, ...] = ()
    """Of each response of the group that this was made from, before any splitting."""
    prompt_cut: bool = False

    @property
    def size(self) -> tuple[int, int, int]:
        """What it takes of a row: tokens, responses, comparisons."""
        return len(self.prompt) + sum(map(len, self.responses)), len(self.responses), len(self.comparisons)


class EncodeReport(NamedTuple):
    """What encoding cut and dropped; reports add up."""

    groups: int = 0
    comparisons: int = 0
    """Those kept."""
    prompts_cut: int = 0
    responses_cut: int = 0
    identical: int = 0
    """Comparisons dropped because both sides were the same text."""
    collapsed: int = 0
    """Comparisons dropped because different texts became the same tokens."""
    groups_dropped: int = 0
    """Groups that lost every comparison they had."""

    def __add__(self, other: "EncodeReport") -> "EncodeReport":
        return EncodeReport(*(a + b for a, b in zip(self, other, strict=True)))


def encode_groups(
    groups: Iterable[Group], chat: ChatFormat | QuestionFormat, *, max_length: int
) -> tuple[list[EncodedGroup], EncodeReport]:
    """Groups as tokens, in order, without those that lose every comparison.

    Raises:
        ValueError: a prompt that the template refuses, or a window too short for it; the message names the group.
    """
    kept, total = [], EncodeReport()
    for encoded, report in encode_each(groups, chat, max_length=max_length):
        total += report
        if not report.groups_dropped:
            kept.append(encoded)
    return kept, total


def encode_each(
    groups: Iterable[Group], chat: ChatFormat | QuestionFormat, *, max_length: int
) -> Iterator[tuple[EncodedGroup, EncodeReport]]:
    """Each group as tokens, with what was done to it."""
    if max_length < 2:
        raise ValueError(f"max_length={max_length}: must be at least 2, one token for the prompt and EOS")
    groups = iter(groups)
    if isinstance(chat, QuestionFormat):
        for group in groups:
            yield _ask_group(group, _naming(group, chat.ask, group, max_length))
        return
    while chunk := list(itertools.islice(groups, _CHUNK)):
        for group, tokens in zip(chunk, _encode_chunk(chunk, chat), strict=True):
            yield _cut_group(group, tokens, chat, max_length)


def _encode_chunk(chunk: Sequence[Group], chat: ChatFormat) -> list[Tokens]:
    try:
        return chat.encode_all([(group.prompt, group.responses) for group in chunk])
    except ValueError as error:
        for group in chunk:  # which one was it?
            _naming(group, chat.encode_all, [(group.prompt, group.responses)])
        raise error


def _naming(group: Group, function, *args):
    try:
        return function(*args)
    except ValueError as error:
        raise ValueError(f"{group.where}: {error}") from error


def _cut_group(group: Group, tokens: Tokens, chat: ChatFormat, max_length: int) -> tuple[EncodedGroup, EncodeReport]:
    limit = max_length - max_length // 2
    prompt, prompt_end = _naming(group, cut_prompt, tokens.prompt, tokens.prompt_end, chat.tokenizer.bos_token_id, limit)
    room = max_length - len(prompt)
    responses = [cut_response(response, room) for response in tokens.responses]
    kept = [c for c in group.comparisons if responses[c.chosen] != responses[c.rejected]]
    cut = [len(short) < len(full) for short, full in zip(responses, tokens.responses, strict=True)]
    read = [ReadText(len(response), was) for response, was in zip(responses, cut, strict=True)]
    return _encoded(group, (prompt, prompt_end, responses), kept, read, prompt_cut=len(prompt) < len(tokens.prompt))


def _ask_group(group: Group, asked: Asked) -> tuple[EncodedGroup, EncodeReport]:
    texts = [part.text for part in asked.responses]
    pairs = zip(group.comparisons, asked.comparisons, strict=True)
    kept = [question for named, question in pairs if texts[named.chosen] != texts[named.rejected]]
    read = [ReadText(part.tokens, part.cut) for part in asked.responses]
    tokens = asked.prompt, len(asked.prompt) - 1, asked.questions
    return _encoded(group, tokens, kept, read, prompt_cut=asked.prompt_cut)


def _encoded(
    group: Group,
    tokens: tuple[Sequence[int], int, Sequence[Sequence[int]]],
    kept: Sequence[Comparison],
    read: Sequence[ReadText],
    *,
    prompt_cut: bool,
) -> tuple[EncodedGroup, EncodeReport]:
    """A group with the comparisons that are left to it, and the account of those that are not."""
    prompt, prompt_end, responses = tokens
    same_text = sum(group.responses[c.chosen] == group.responses[c.rejected] for c in group.comparisons)
    dropped = len(group.comparisons) - len(kept)
    report = EncodeReport(
        groups=1,
        comparisons=len(kept),
        prompts_cut=int(prompt_cut),
        responses_cut=sum(text.cut for text in read),
        identical=same_text,
        collapsed=dropped - same_text,
        groups_dropped=int(dropped > 0 and not kept),
    )
    arrays = tuple(np.array(response, np.int32) for response in responses)
    encoded = EncodedGroup(
        np.array(prompt, np.int32), prompt_end, arrays, tuple(kept), group.tags, group.where, tuple(read), prompt_cut
    )
    return encoded, report


def cut_prompt(ids: Sequence[int], prompt_end: int, bos: int | None, limit: int) -> tuple[list[int], int]:
    """At most ``limit`` ids, the leftmost gone but for BOS, and where prompt_end is now.

    Where BOS also opens every turn (ChatML), a cut right before a turn leaves one BOS, not two.

    >>> cut_prompt([1, 11, 12, 13, 14], prompt_end=3, bos=1, limit=4)
    ([1, 12, 13, 14], 2)
    """
    ids = list(ids)
    excess = len(ids) - limit
    if excess <= 0:
        return ids, prompt_end
    head = 1 if ids[0] == bos else 0
    if head + excess > prompt_end:
        least = head + len(ids) - prompt_end
        raise ValueError(f"{limit} tokens for the prompt are too few, its template alone takes {least}; raise max_length")
    left = ids[head + excess :]
    if left[0] == bos:
        head = 0
    return ids[:head] + left, prompt_end - (len(ids) - head - len(left))


def cut_response(ids: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` ≥ 1 ids, the last of them still EOS."""
    return list(ids) if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
