"""Prompts for a policy to answer: read from any source that has them, and cut into parts.

A row's prompt is what it is in ``gpmjax.data.formats`` where there are responses to it (which are ignored), else what
``gpmjax.data.conversation`` reads. Its last turn is not an assistant's: a begun answer is refused.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.conversation import read_prompt, request_column
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import Reading, parse_entry
from gpmjax.data.groups import Message
from gpmjax.data.sources import Entry, read_entries

ANSWERED = ("chosen", "responses", "completions")


class Prompt(NamedTuple):
    """What to answer, and where it was read."""

    messages: tuple[Message, ...]
    where: str


class EncodedPrompt(NamedTuple):
    """A prompt as the policy sees it, generation header included."""

    number: int
    """Its index in the source, which seeds its samples: they do not depend on what else is sampled."""
    prompt: Prompt
    tokens: np.ndarray
    """[P] int32."""


def read_prompts(source: str, limit: int = 0) -> list[Prompt]:
    """Every prompt of a source, the first ``limit`` of them if that is not 0; each once, in order.

    Raises:
        FileNotFoundError: no such file or data set.
        ValueError: a row without a prompt, or with an empty one; the message names file, line and field.
    """
    found: dict[tuple[Message, ...], Prompt] = {}
    for row in read_entries(source):
        prompt = _prompt(row)
        found.setdefault(prompt.messages, prompt)
        if limit and len(found) == limit:
            break
    return list(found.values())


def _prompt(row: Entry) -> Prompt:
    fields = {name: value for name, value in row.fields.items() if value is not None}
    if any(name in fields for name in ANSWERED):
        messages = parse_entry(fields, row.where, Reading(prefill="refuse")).prompt
    else:
        messages = read_prompt(fields, row.where)
    if not messages[-1].content.strip():
        raise FieldError(row.where, request_column(fields) or "prompt", "is empty; a prompt needs text")
    return Prompt(messages, row.where)


def encode_prompts(
    prompts: Sequence[Prompt], chat: ChatFormat, *, max_length: int, too_long: str = "refuse"
) -> list[EncodedPrompt]:
    """Prompts as tokens; ``too_long`` "drop" leaves out those of more than ``max_length``, their numbers unused.

    Raises:
        ValueError: a prompt is too long, or the template refuses it; one line naming it.
    """
    encoded = []
    for number, prompt in enumerate(prompts):
        try:
            (tokens,) = chat.encode_all([(prompt.messages, ())])
        except ValueError as error:
            raise ValueError(f"{prompt.where}: {error}") from error
        if len(tokens.prompt) <= max_length:
            encoded.append(EncodedPrompt(number, prompt, np.asarray(tokens.prompt, np.int32)))
        elif too_long == "refuse":
            raise ValueError(
                f"{prompt.where}: the prompt takes {len(tokens.prompt)} tokens, max_length is {max_length}; raise it, or "
                f"set too_long='drop'"
            )
    if not encoded:
        raise ValueError(f"no prompt fits into max_length={max_length} tokens")
    return encoded


def part_of(prompts: Iterable[EncodedPrompt], iteration: int, parts: int) -> list[EncodedPrompt]:
    """The prompts of an iteration, counted from 1: every ``parts``-th, so each part looks like the whole.

    >>> part_of("abcdef", iteration=5, parts=3)
    ['b', 'e']
    """
    return list(prompts)[(iteration - 1) % parts :: parts]
