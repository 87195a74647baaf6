"""Prompts for a policy to answer: reads them from any source, and divides them between iterations.

`gpmjax.data.formats` reads the prompt of an entry with responses, which are ignored; `gpmjax.data.conversation` reads
any other. A prompt that ends in an assistant's turn is refused.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.conversation import read_prompt, request_column
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import ParseOptions, parse_entry
from gpmjax.data.groups import Message
from gpmjax.data.sources import Entry, read_entries

ANSWERED = ("chosen", "responses", "completions")
"""Columns with responses; an entry that has one is parsed by `gpmjax.data.formats`."""


class Prompt(NamedTuple):
    """A prompt, and the place that it was read from."""

    messages: tuple[Message, ...]
    where: str


class EncodedPrompt(NamedTuple):
    """A prompt as the policy's tokens, generation header included."""

    number: int
    """Index of the prompt in its source. It seeds the prompt's samples, so they do not depend on other prompts."""
    prompt: Prompt
    tokens: np.ndarray
    """[P] int32."""


def read_prompts(source: str, limit: int = 0) -> list[Prompt]:
    """The distinct prompts of a source, in order; only the first ``limit`` unless that is 0.

    Raises:
        FileNotFoundError: there is no such file or data set.
        ValueError: an entry has no prompt, or an empty one; the message names file, line and field.
    """
    found: dict[tuple[Message, ...], Prompt] = {}
    for entry in read_entries(source):
        prompt = _prompt(entry)
        found.setdefault(prompt.messages, prompt)
        if limit and len(found) == limit:
            break
    return list(found.values())


def _prompt(entry: Entry) -> Prompt:
    fields = {name: value for name, value in entry.fields.items() if value is not None}
    if any(name in fields for name in ANSWERED):
        messages = parse_entry(fields, entry.where, ParseOptions(prefill="refuse")).prompt
    else:
        messages = read_prompt(fields, entry.where)
    if not messages[-1].content.strip():
        raise FieldError(entry.where, request_column(fields) or "prompt", "is empty; a prompt needs text")
    return Prompt(messages, entry.where)


def encode_prompts(
    prompts: Sequence[Prompt], chat: ChatFormat, *, max_length: int, too_long: str = "refuse"
) -> list[EncodedPrompt]:
    """Tokenises prompts. ``too_long`` "drop" drops prompts of more than ``max_length`` tokens; the others keep their
    numbers.

    Raises:
        ValueError: a prompt is too long, or the template refuses it; one line that names the prompt.
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
                f"{prompt.where}: the prompt takes {len(tokens.prompt)} tokens, max_length is {max_length}; raise "
                "max_length, or set too_long='drop'"
            )
    if not encoded:
        raise ValueError(f"no prompt fits into max_length={max_length} tokens")
    return encoded


def part_of(prompts: Iterable[EncodedPrompt], iteration: int, parts: int) -> list[EncodedPrompt]:
    """The prompts of an iteration, counted from 1: every ``parts``-th prompt, so that all parts are alike.

    >>> part_of("abcdef", iteration=5, parts=3)
    ['b', 'e']
    """
    return list(prompts)[(iteration - 1) % parts :: parts]
