"""Prompts and completions as any trainer writes them: strings, or lists of {"role", "content"}."""

from typing import Any

import numpy as np

from gpmjax.data.fields import RowError, roles, text_or_messages
from gpmjax.data.groups import Message, user


def messages_of(value: Any, name: str, where: str) -> tuple[Message, ...]:
    """A prompt: a string is one message of the user, a list of messages the conversation.

    Raises ValueError naming ``where``, the field and the value for anything else, or where the user has not the last word.

    >>> messages_of("Why?", "prompt", "row 1") == messages_of([{"role": "user", "content": "Why?"}], "prompt", "row 1")
    True
    """
    if isinstance(value, np.ndarray | tuple):  # parquet's lists come back as arrays
        value = list(value)
    read = text_or_messages({name: value}, name, where)
    messages = user(read) if isinstance(read, str) else read
    if messages[-1].role == "assistant":
        raise RowError(where, name, "ends with an assistant's turn; a prompt ends with the user's")
    return messages


def text_of(value: Any, name: str, where: str) -> str:
    """A completion: a string, or a list with the assistant's one message.

    >>> text_of([{"role": "assistant", "content": "Because."}], "completion", "row 1")
    'Because.'
    """
    read = text_or_messages({name: value}, name, where)
    if isinstance(read, str):
        return read
    if [message.role for message in read] != ["assistant"]:
        raise RowError(where, name, f"must be one message of the assistant, is {roles(read)}")
    return read[0].content
