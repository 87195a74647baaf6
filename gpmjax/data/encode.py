"""Tokenises groups and truncates them to the model's window; comparisons lost by that are counted.

A sequence (prompt + one response) has at most ``max_length`` tokens; `gpmjax.data.window` says what of a longer one is
cut. The cut depends on that sequence only, so a score never depends on the other responses of the group. Responses
whose prompt is cut at the same place share it. Every other response carries its own copy of the prompt, and stays in
the group because its comparisons are there.

A comparison whose two sides have become the same tokens has no information left; it is dropped and counted.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.chat import ChatFormat, Tokens
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.questions import Asked, QuestionFormat
from gpmjax.data.window import cut_prompt, cut_response, prompt_room

_CHUNK = 256
"""Groups tokenised in one call; the tokenizer spreads a call over its threads."""


class ReadText(NamedTuple):
    """How much of one response, and of its prompt, a model reads."""

    tokens: int
    """Tokens of the response that are kept."""
    lost: int = 0
    """Tokens of the response that were cut."""
    prompt_lost: int = 0
    """Tokens of the response's prompt that were cut."""

    @property
    def cut(self) -> bool:
        """Whether the response was cut."""
        return self.lost > 0


class EncodedGroup(NamedTuple):
    """A prompt, its K responses, and their comparisons, as tokens.

    For a model that is asked questions (`gpmjax.data.questions`), ``prompt`` is the common beginning of all questions
    about the group, and ``responses`` are the rest of each question.
    """

    prompt: np.ndarray
    """[P] int32."""
    prompt_end: int
    """Index into ``prompt`` where the scale gate is read."""
    responses: tuple[np.ndarray, ...]
    """Each [N] int32, ending in EOS, or in the last token of a question."""
    comparisons: tuple[Comparison, ...]
    tags: Mapping[str, str | int | float | bool] = {}
    where: str = ""
    read: tuple[ReadText, ...] = ()
    """How each response of the whole group is read; splitting a group does not change it."""
    own_prompt: tuple[int, ...] = ()
    """For each response, how many of its first tokens are its own prompt, because its prompt is cut differently from
    ``prompt``; 0 where the response follows ``prompt``. Empty: all responses follow ``prompt``."""
    gate_first: bool = False
    """Whether the gate is read after a first message. If so, prompts are cut after the gate's token, else before it."""

    @property
    def size(self) -> tuple[int, int, int]:
        """(tokens, responses, comparisons) that the group takes of a row."""
        return self.slots(range(len(self.responses))), len(self.responses), len(self.comparisons)

    @property
    def prompt_cut(self) -> bool:
        """Whether the prompt was cut for at least one response."""
        return any(text.prompt_lost for text in self.read)

    def own(self, index: int) -> int:
        """How many tokens of response ``index`` are its own prompt; 0 where it follows ``prompt``."""
        return self.own_prompt[index] if self.own_prompt else 0

    def sequence(self, index: int) -> tuple[np.ndarray, int, np.ndarray]:
        """(prompt, prompt_end, response) of one response, as if it were alone in the group."""
        own, tokens = self.own(index), self.responses[index]
        if not own:
            return self.prompt, self.prompt_end, tokens
        # A cut before the gate's token keeps its distance to the prompt's end; a cut after it keeps its index.
        gate = self.prompt_end if self.gate_first else own - (len(self.prompt) - self.prompt_end)
        return tokens[:own], gate, tokens[own:]

    def slots(self, members: Iterable[int]) -> int:
        """Token slots that the prompt and these responses take."""
        members = list(members)
        shared = not members or not all(map(self.own, members))
        return len(self.prompt) * shared + sum(len(self.responses[member]) for member in members)

    def take(self, members: Sequence[int], comparisons: Sequence[Comparison] = ()) -> "EncodedGroup":
        """The group with only these responses; ``comparisons`` are indices into ``members``."""
        group = self
        if members and all(map(self.own, members)):  # none follows the group's prompt: the first one's own replaces it
            prompt, end, _ = self.sequence(members[0])
            follows = [own == len(prompt) for own in self.own_prompt]
            group = self._replace(
                prompt=prompt,
                prompt_end=end,
                responses=tuple(r[len(prompt) :] if f else r for r, f in zip(self.responses, follows, strict=True)),
                own_prompt=tuple(0 if f else own for own, f in zip(self.own_prompt, follows, strict=True)),
            )
        own = tuple(map(group.own, members))
        return group._replace(
            responses=tuple(group.responses[member] for member in members),
            comparisons=tuple(comparisons),
            own_prompt=own if any(own) else (),
        )


class EncodeReport(NamedTuple):
    """Counts of what encoding kept, cut and dropped; reports can be added."""

    groups: int = 0
    comparisons: int = 0
    """Comparisons kept."""
    prompts_cut: int = 0
    """Groups whose prompt was cut for at least one response."""
    responses_cut: int = 0
    identical: int = 0
    """Comparisons dropped because both sides were the same text."""
    collapsed: int = 0
    """Comparisons dropped because different texts became the same tokens."""
    groups_dropped: int = 0
    """Groups that lost every comparison they had."""
    groups_cut: int = 0
    """Groups in which anything was cut."""
    responses: int = 0
    sequences_cut: int = 0
    """Sequences (prompt + response) in which anything was cut."""
    tokens_cut: int = 0
    """Tokens cut from these sequences, prompts and responses together."""

    def cut_line(self, max_length: int) -> str:
        """One line that reports what was cut; "" if nothing was."""
        if not self.groups_cut:
            return ""
        return (
            f"{self.groups_cut:,} of {self.groups:,} groups do not fit max_length={max_length}: "
            f"{self.sequences_cut:,} of {self.responses:,} sequences lost {self.tokens_cut:,} tokens, "
            f"{self.prompts_cut:,} groups lost the beginning of their prompt, {self.responses_cut:,} responses lost "
            "their end"
        )

    def __add__(self, other: Any) -> "EncodeReport":
        return EncodeReport(*(a + b for a, b in zip(self, other, strict=True)))


def encode_groups(
    groups: Iterable[Group], chat: ChatFormat | QuestionFormat, *, max_length: int
) -> tuple[list[EncodedGroup], EncodeReport]:
    """Tokenises groups, in order, and drops those that lose every comparison.

    Raises:
        ValueError: the template refuses a prompt, or the window is too short for it; the message names the group.
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
    """Yields each group as tokens, with a report of what was cut and dropped."""
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
        for group in chunk:  # encodes one group at a time to name the one that fails
            _naming(group, chat.encode_all, [(group.prompt, group.responses)])
        raise error


def _naming(group: Group, function, *args):
    """``function(*args)``; a ValueError gets the group's place before its message."""
    try:
        return function(*args)
    except ValueError as error:
        raise ValueError(f"{group.where}: {error}") from error


def _cut_group(group: Group, tokens: Tokens, chat: ChatFormat, max_length: int) -> tuple[EncodedGroup, EncodeReport]:
    rooms = [prompt_room(len(response), max_length) for response in tokens.responses] or [max_length]
    cut = functools.partial(_naming, group, cut_prompt, tokens.prompt, tokens.prompt_end, chat.tokenizer.bos_token_id)
    prompts = [cut(room, tokens.gate) for room in rooms]
    # Prompts of equal length are equal, as all are cuts of the same prompt. The one that most responses need is shared.
    lengths = [len(prompt) for prompt, _ in prompts]
    shared = max(lengths, key=lambda length: (lengths.count(length), length))
    responses, read = [], []
    for full, (prompt, _) in zip(tokens.responses, prompts, strict=False):
        response = cut_response(full, max_length - len(prompt))
        read.append(ReadText(len(response), len(full) - len(response), len(tokens.prompt) - len(prompt)))
        responses.append(response if len(prompt) == shared else prompt + response)
    own = tuple(0 if length == shared else length for length in lengths)
    kept = [c for c in group.comparisons if responses[c.chosen] != responses[c.rejected]]
    encoded, report = _encoded(group, (*prompts[lengths.index(shared)], responses), kept, read, own if any(own) else ())
    return encoded._replace(gate_first=tokens.gate < tokens.prompt_end), report


def _ask_group(group: Group, asked: Asked) -> tuple[EncodedGroup, EncodeReport]:
    kept = [question for question, differ in zip(asked.comparisons, asked.differ, strict=True) if differ]
    read = [
        ReadText(part.tokens, part.lost, lost) for part, lost in zip(asked.responses, asked.prompt_lost, strict=True)
    ]
    return _encoded(group, (asked.prompt, len(asked.prompt) - 1, asked.questions), kept, read, ())


def _encoded(
    group: Group,
    tokens: tuple[Sequence[int], int, Sequence[Sequence[int]]],
    kept: Sequence[Comparison],
    read: Sequence[ReadText],
    own_prompt: tuple[int, ...],
) -> tuple[EncodedGroup, EncodeReport]:
    """The group as tokens with the comparisons ``kept``, and the report about it."""
    prompt, prompt_end, responses = tokens
    same_text = sum(group.responses[c.chosen] == group.responses[c.rejected] for c in group.comparisons)
    dropped = len(group.comparisons) - len(kept)
    lost = [text.lost + text.prompt_lost for text in read]
    report = EncodeReport(
        groups=1,
        comparisons=len(kept),
        prompts_cut=int(any(text.prompt_lost for text in read)),
        responses_cut=sum(text.cut for text in read),
        identical=same_text,
        collapsed=dropped - same_text,
        groups_dropped=int(dropped > 0 and not kept),
        groups_cut=int(any(lost)),
        responses=len(read),
        sequences_cut=sum(tokens > 0 for tokens in lost),
        tokens_cut=sum(lost),
    )
    arrays = tuple(np.array(response, np.int32) for response in responses)
    encoded = EncodedGroup(
        np.array(prompt, np.int32), prompt_end, arrays, tuple(kept), group.tags, group.where, tuple(read), own_prompt
    )
    return encoded, report
