"""Scoring of texts that already went through a chat template.

OpenRLHF with --data.apply_chat_template and the rewardbench package pass templated texts. Templating them again would
score other texts. So the judge's template is replaced by one that copies its input, and the texts must have been
written with the model's own template. The scale gate is still read before the generation header.
"""

import copy
import dataclasses
from typing import Any

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Message, user
from gpmjax.judges.judge import Judge

_PROBE = (Message("user", "a"),)
_AS_IT_STANDS = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ HEADER }}{% endif %}"
    "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ HEADER }}{% endif %}"
)


def templated(judge: Judge) -> tuple[Judge, str]:
    """Returns ``judge`` for templated prompts, and the generation header that such prompts end in.

    A prompt is then one message, which holds the templated text without the header (`without_header`).

    Raises ValueError for a judge that does not use a chat template for prompt and response.
    """
    opened: Any = judge
    chat = getattr(judge, "chat", None)
    if not isinstance(chat, ChatFormat) or chat.template != "chat":
        raise ValueError(
            "prompts='templated': this model does not read prompt and response by a chat template; say 'user'"
        )
    if chat.gate_at != "prompt":
        raise ValueError(f"prompts='templated': gate_at={chat.gate_at!r} needs the messages, not one text; say 'user'")
    plain, full = (chat.write(_PROBE, header=header) for header in (False, True))
    header = full.removeprefix(plain)
    if not header:
        raise ValueError(
            "prompts='templated': the model's chat template opens no answer, so texts cannot be cut there; say 'user'"
        )
    tokenizer = copy.copy(chat.tokenizer)
    tokenizer.chat_template = _AS_IT_STANDS.replace("HEADER", repr(header))
    return dataclasses.replace(opened, chat=dataclasses.replace(chat, tokenizer=tokenizer)), header


def without_header(prompt: str, header: str, where: str) -> tuple[Message, ...]:
    """A templated prompt as one message, without the generation header.

    >>> without_header("<user>Why?</s><assistant>", "<assistant>", "prompt 0")
    (Message(role='user', content='<user>Why?</s>'),)
    """
    if not prompt.endswith(header):
        raise ValueError(
            f"{where}: ends in {prompt[-len(header) :]!r}, not in {header!r}, with which the model's own chat template "
            f"opens an answer; for prompts without a template say prompts='user'"
        )
    return user(prompt.removesuffix(header))


def split_at_header(text: str, header: str, where: str) -> tuple[tuple[Message, ...], str]:
    """Splits a templated conversation after the last generation header into the prompt and the completion.

    >>> split_at_header("<user>Why?</s><assistant>So.</s>", "<assistant>", "text 0")
    ((Message(role='user', content='<user>Why?</s>'),), 'So.</s>')
    """
    prompt, found, completion = text.rpartition(header)
    if not found:
        raise ValueError(f"{where}: nowhere {header!r}, with which the model's own chat template opens an answer")
    return user(prompt), completion
