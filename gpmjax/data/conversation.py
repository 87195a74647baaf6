"""Reads the conversation that an entry's responses answer from the entry's columns.

One column holds the request: the first that is present of

    prompt instruction question query document context input messages conversations

Other columns may add to it:

    input           text after the instruction (alpaca)
    history         earlier turns: pairs [[asked, answered], …], or messages
    system          (or system_prompt, system_message) the system message, before all turns
    tools           the tools that the model may call, before the system message

No other column whose name suggests part of a conversation is ignored. Either its text is already in the conversation or
the responses, or the entry is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpmjax.data.fields import FieldError, kind, short_repr
from gpmjax.data.groups import TOOLS, Message, user
from gpmjax.data.messages import (
    DESCRIPTIVE,
    MEDIA,
    conversation,
    empty,
    held_messages,
    literal,
    text_or_messages,
    tools_message,
    transcript_turns,
)

REQUESTS = ("prompt", "instruction", "question", "query", "document", "context", "input")
CONVERSATIONS = ("messages", "conversations", "conversation")
SYSTEM = ("system", "system_prompt", "system_message")
BESIDE = ("history", "tools", *SYSTEM)

_MAY_NOT_BE_LOST = {*REQUESTS, *CONVERSATIONS, *BESIDE}
_MAY_NOT_BE_LOST |= {"dialogue", "dialog", "documents", "passage", "passages", "background", "functions"}
_MAY_NOT_BE_LOST |= {"tool_calls", "function_call", "reasoning_content", "prefill", "prefix", "assistant_prefix"}
_NO_TEXT = frozenset(("role", "from")) | DESCRIPTIVE


def request_column(fields: Mapping[str, Any], columns: Sequence[str] = REQUESTS + CONVERSATIONS) -> str | None:
    """The column that holds the request: the first that is not empty, else the first present, else None.

    >>> request_column({"input": "6 · 7", "instruction": "Calculate."})
    'instruction'
    """
    there = [name for name in columns if name in fields]
    return next((name for name in there if not empty(fields[name])), there[0] if there else None)


def request(
    fields: Mapping[str, Any], name: str, where: str, document_prompt: str = "{document}"
) -> tuple[Message, ...]:
    """The turns in column ``name``; alpaca's ``input`` is appended to an ``instruction``."""
    if name == "document" and isinstance(text := text_or_messages(fields, name, where), str):
        return user(document_prompt.replace("{document}", text))
    turns = conversation(fields, name, where)
    if name == "instruction" and not empty(fields.get("input")):
        if not isinstance(fields["input"], str) or turns != user(turns[0].content):
            raise FieldError(
                where, "input", f"must be a string behind an instruction that is one, is {kind(fields['input'])}"
            )
        return user(f"{turns[0].content}\n{fields['input']}")  # as LLaMA-Factory joins them
    return turns


def beside(fields: Mapping[str, Any], turns: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """The turns, preceded by the columns ``history``, ``system`` and ``tools`` unless the turns begin with them."""
    tools, turns = _leading(TOOLS, turns)
    system, turns = _leading("system", turns)
    if not empty(fields.get("history")):
        earlier = _history(fields["history"], where)
        if not system:
            system, earlier = _leading("system", earlier)
        turns = turns if turns[: len(earlier)] == earlier else (*earlier, *turns)
    for name in SYSTEM:
        if not empty(fields.get(name)):
            said = _one_text(fields, name, where)
            if system and system != (said,):
                raise FieldError(where, name, "differs from the system message at the beginning of the conversation")
            system = (said,)
    if not empty(fields.get("tools")):
        named = tools_message(fields["tools"], "tools", where)
        if tools and tools != (named,):
            raise FieldError(where, "tools", "differs from the tools at the beginning of the conversation")
        tools = (named,)
    return (*tools, *system, *turns)


def refuse_lost(
    fields: Mapping[str, Any], taken: set[str], prompt: Sequence[Message], responses: Sequence[str], where: str
) -> None:
    """Raises FieldError for a column that may be part of the conversation and whose text was not read anywhere."""
    read = None
    for name, value in fields.items():
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        if name in taken or empty(value):
            continue
        if plain in MEDIA:
            raise FieldError(where, name, "is not supported; conversations are text")
        if plain not in _MAY_NOT_BE_LOST or isinstance(value, bool | int | float):
            continue
        if read is None:
            read = "\n".join([*(message.content for message in prompt), *responses])
        if not all(text.strip() in read for text in _texts(value)):
            column = next(
                (column for column in REQUESTS + CONVERSATIONS if column in taken and column in fields), "chosen"
            )
            raise FieldError(
                where,
                name,
                f"may be part of the conversation, and is not read beside {column!r}; write it in there, or drop it",
            )


def read_prompt(
    fields: Mapping[str, Any], where: str, *, column: str | None = None, responses: Sequence[str] = ()
) -> tuple[Message, ...]:
    """An entry's whole prompt: the request (in ``column``), with history, system message and tools before it.

    The caller reads the responses.

    >>> [message.role for message in read_prompt({"system": "Be brief.", "question": "Why?"}, "f.jsonl:1")]
    ['system', 'user']

    Raises:
        FieldError: there is no request, it ends in an assistant's turn, or a column would be lost.
    """
    column = column or request_column(fields) or "prompt"
    prompt = beside(fields, request(fields, column, where), where)
    if prompt[-1].role == "assistant":
        raise FieldError(where, column, "ends with an assistant's turn; a prompt ends with the user's")
    taken = {column, *BESIDE, *(["input"] if column == "instruction" else [])}
    refuse_lost(fields, taken, prompt, responses, where)
    return prompt


def _leading(role: str, turns: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """(the first message if it has this role, the other messages)."""
    count = int(turns[:1] != () and turns[0].role == role)
    return turns[:count], turns[count:]


def _one_text(fields: Mapping[str, Any], name: str, where: str) -> Message:
    value = text_or_messages(fields, name, where)
    if isinstance(value, str):
        return Message("system", value)
    if [message.role for message in value] != ["system"]:
        raise FieldError(where, name, "must be a string, or one system message")
    return value[0]


def _history(value: Any, where: str) -> tuple[Message, ...]:
    """Earlier turns, written as messages, as pairs [asked, answered], or as a string that holds either."""
    if isinstance(value, str):
        held = held_messages(value, "history", where)
        value = transcript_turns(value) or (literal(held) if isinstance(held, str) else held)
    if isinstance(value, tuple):
        return value
    if isinstance(value, list) and value and all(_is_pair(item) for item in value):
        return tuple(
            Message(role, text) for pair in value for role, text in zip(("user", "assistant"), pair, strict=True)
        )
    if not isinstance(value, list):
        raise FieldError(where, "history", f"must be pairs [[asked, answered], …], or messages, is {short_repr(value)}")
    return conversation({"history": value}, "history", where)


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item)


def _texts(value: Any) -> Iterator[str]:
    """All strings of a column, at any depth, without those that name a speaker or describe a message."""
    if isinstance(value, str):
        held = held_messages(value)
        if isinstance(held, str):
            yield held
        else:
            yield from _texts(held)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key in value.keys() - _NO_TEXT:
            yield from _texts(value[key])
