"""Texts that a chat template has written already, scored as they stand.

OpenRLHF with --data.apply_chat_template and the rewardbench package hand over templated texts. To template them once more would
score something else. So the judge's own template steps aside, and what it would have written is taken as given: whoever wrote
the texts must have used the model's template. The scale gate is still read where it belongs, before the generation header.
"""

import copy
import dataclasses

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Message, user
from gpmjax.judges.judge import Judge

_PROBE = (Message("user", "a"),)
_AS_IT_STANDS = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ HEADER }}{% endif %}{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ HEADER }}{% endif %}"
)


def templated(judge: Judge) -> tuple[Judge, str]:
    """``judge`` for prompts as its chat template writes them, and the generation header that they end in.

    The judge takes a prompt of one message, the templated text without that header (`without_header`).

    Raises ValueError for a judge that does not read prompt and response by a chat template.
    """
    chat = getattr(judge, "chat", None)
    if not isinstance(chat, ChatFormat) or chat.template != "chat":
        raise ValueError(
            "prompts='templated': this model does not read prompt and response by a chat template; say 'user'"
        )
    if chat.gate_at != "prompt":
        raise ValueError(
            f"prompts='templated': gate_at={chat.gate_at!r} needs the messages, which a text does not tell apart; say 'user'"
        )
    plain, full = (chat.write(_PROBE, header=header) for header in (False, True))
    header = full.removeprefix(plain)
    if not header:
        raise ValueError(
            "prompts='templated': the model's chat template opens no answer, so texts cannot be cut there; say 'user'"
        )
    tokenizer = copy.copy(chat.tokenizer)
    tokenizer.chat_template = _AS_IT_STANDS.replace("HEADER", repr(header))
    return dataclasses.replace(judge, chat=dataclasses.replace(chat, tokenizer=tokenizer)), header


def without_header(prompt: str, header: str, where: str) -> tuple[Message, ...]:
    """A templated prompt, as the judge takes it.

    >>> without_header("<user>Why?</s><assistant>", "<assistant>", "prompt 0")
    (Message(role='user', content='<user>Why?</s>'),)
    """
    if not prompt.endswith(header):
        raise ValueError(
            f"{where}: ends in {prompt[-len(header) :]!r}, not in {header!r}, with which the model's own chat template opens an "
            f"answer; for prompts without a template say prompts='user'"
        )
    return user(prompt.removesuffix(header))


def split_at_header(text: str, header: str, where: str) -> tuple[tuple[Message, ...], str]:
    """A whole templated conversation as the prompt, and what follows the last generation header.

    >>> split_at_header("<user>Why?</s><assistant>So.</s>", "<assistant>", "text 0")
    ((Message(role='user', content='<user>Why?</s>'),), 'So.</s>')
    """
    prompt, found, completion = text.rpartition(header)
    if not found:
        raise ValueError(f"{where}: nowhere {header!r}, with which the model's own chat template opens an answer")
    return user(prompt), completion
