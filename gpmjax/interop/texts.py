"""Prompts in any trainer's form: strings or lists of {"role", "content"}. Completions are read by
`gpmjax.data.messages.read_reply`."""

from typing import Any

import numpy as np

from gpmjax.data.fields import FieldError
from gpmjax.data.groups import Message
from gpmjax.data.messages import conversation


def messages_of(value: Any, name: str, where: str) -> tuple[Message, ...]:
    """Reads a prompt: a string is one user message, a list of messages is a conversation.

    Raises ValueError, which names ``where``, the field and the value, for anything else, or if the last turn is an
    assistant's.

    >>> messages_of("Why?", "prompt", "row 1") == messages_of([{"role": "user", "content": "Why?"}], "prompt", "row 1")
    True
    """
    if isinstance(value, np.ndarray | tuple):  # parquet's lists come back as arrays
        value = list(value)
    messages = conversation({name: value}, name, where)
    if messages[-1].role == "assistant":
        raise FieldError(where, name, "ends with an assistant's turn; a prompt ends with the user's")
    return messages
