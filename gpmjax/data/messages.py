"""Reads messages in every form that files write them: lists, strings that hold a list, transcripts.

    [{"role": "user", "content": "Hi"}, …]            content: a string, or parts [{"type": "text", "text": "Hi"}]
    [{"from": "human", "value": "Hi"}, …]             ShareGPT's names
    '[{"role": "user", "content": "Hi"}]'             a list inside a string, as JSON or as Python prints it
    "Human: Hi\\n\\nAssistant: Hello\\n\\nHuman: …"      a transcript, as in Anthropic's HH

A message's other fields are kept in a ``RichText``: ``tool_calls``, ``reasoning_content``, ``name`` and any other field
with text in it. Numbers, and fields that only describe a message, such as ``id``, are dropped.
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gpmjax.data.fields import FieldError, kind, short_repr, too_deep
from gpmjax.data.groups import TOOLS, Message, RichText, user

_DESCRIPTIVE = """
id message_id uuid parent_id turn turn_id turn_identifier index timestamp time date created created_at updated_at model
model_name language lang country hashed_ip header state source author metadata finish_reason stop_reason usage
openai_moderation detoxify_moderation type tool_call_id category task dataset subset label
"""
DESCRIPTIVE = frozenset(_DESCRIPTIVE.split())
"""Fields that describe a message and are not part of its text; they are not read."""

_MEDIA = "image images image_url input_image audio audios input_audio video videos video_url"
MEDIA = tuple(_MEDIA.split())
"""Names of messages' fields, types of their parts, and columns, that this library does not support yet."""

_SHAREGPT = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
    "observation": "tool", "tool": "tool",
}  # fmt: skip
_KNOWN_ROLES = ("user", "assistant", "system", "developer", "tool")
_ROLE_IN_STRING = re.compile(r"""['"]role['"]\s*:\s*['"](user|assistant|system|developer|tool)['"]""")
_FROM_IN_STRING = re.compile(r"""['"]from['"]\s*:\s*['"](human|gpt|system)['"]""")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = {"\n\n": re.compile(r"\n\n(Human|Assistant):"), "\n": re.compile(r"\n(Human|Assistant):")}


def text_or_messages(fields: Mapping[str, Any], name: str, where: str) -> str | tuple[Message, ...]:
    """The conversation that a field holds in any form but a transcript; any other string as it is.

    Raises:
        FieldError: the field holds neither, or a message in it has a part that this library cannot read.
    """
    value = fields.get(name)
    if value is None:
        raise FieldError(
            where, name, f"missing; there is {', '.join(key for key in fields if key != name) or 'no other'}"
        )
    if isinstance(value, str):
        value = held_messages(value, name, where)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and ("role" in value or "from" in value) and len(value) > 1:
        return (_message(value, name, where),)
    if not isinstance(value, list) or not value:
        raise FieldError(where, name, f"must be a string or a list of messages, is {kind(value)}")
    return tuple(_message(item, f"{name}[{n}]", where) for n, item in enumerate(value))


def conversation(fields: Mapping[str, Any], name: str, where: str) -> tuple[Message, ...]:
    """The turns that a field holds; a string that is no transcript is one user's turn."""
    value = text_or_messages(fields, name, where)
    return value if isinstance(value, tuple) else transcript_turns(value) or user(value)


def read_reply(value: Any, name: str, where: str) -> str:
    """One response: a string, or the text of one assistant message, a ``RichText`` if the message has other fields."""
    content = text_or_messages({name: value}, name, where)
    if isinstance(content, str):
        return content
    if [message.role for message in content] != ["assistant"]:
        raise FieldError(where, name, f"must be one assistant message, is {roles(content)}")
    return content[0].content


def roles(messages: Sequence[Message]) -> str:
    """The roles of messages, for an error message."""
    return "nothing" if not messages else "messages of " + ", ".join(f"{message.role:.40}" for message in messages[:20])


def held_messages(text: str, name: str = "", where: str = "") -> Any:
    """The message or list of messages that a string holds, as ``DataFrame.to_csv`` writes it; otherwise the string.

    >>> held_messages("[{'role': 'user', 'content': 'Hi'}]"), held_messages("[1]")
    ([{'role': 'user', 'content': 'Hi'}], '[1]')

    Raises:
        FieldError: the string looks like messages but is neither JSON nor Python.
    """
    start = text.lstrip()[:1]
    if start not in ("[", "{") or not (_ROLE_IN_STRING.search(text) or _FROM_IN_STRING.search(text)):
        return text
    value = literal(text)
    if value is None:
        # numpy prints messages without commas between them. Any other string may be a reply that quotes code.
        if re.match(r"""\s*\[?\s*\{\s*['"](role|content|from|value)['"]\s*:""", text):
            raise FieldError(where, name, "looks like messages inside a string, but is neither JSON nor a Python list")
        return text
    listed = value if isinstance(value, list) else [value]
    return value if listed and all(map(_is_message, listed)) else text


def transcript_turns(text: str) -> tuple[Message, ...] | None:
    """The turns of "Human: …\\n\\nAssistant: …"; None for any other text. A final "Assistant:" opens the answer and is
    dropped.

    >>> turns = transcript_turns("\\n\\nHuman: Who?\\n\\nAssistant: Me.\\n\\nHuman: When?\\n\\nAssistant:")
    >>> [message.content for message in turns]
    ['Who?', 'Me.', 'When?']
    """
    if not text.lstrip().startswith("Human:"):
        return None
    bare = text.strip()
    between = "\n\n" if "\n\nAssistant:" in bare or text.startswith("\n\nHuman:") else "\n"
    _, *parts = _SPEAKER[between].split(between + bare)
    turns = [
        Message(_SPEAKERS[speaker], content.strip()) for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    if len(turns) == 1 and bare.endswith("Assistant:"):  # question and "Assistant:" are on one line
        turns = [Message("user", turns[0].content.removesuffix("Assistant:").rstrip()), Message("assistant", "")]
    if len(turns) == 1 and not text.startswith("\n\nHuman:"):
        return None
    return tuple(turns[:-1] if turns[-1] == ("assistant", "") and len(turns) > 1 else turns)


def tools_message(value: Any, name: str, where: str) -> Message:
    """A message of role TOOLS, from a list of functions' schemas or a string that holds such a list."""
    if isinstance(value, str):
        value = literal(value)
    value = [literal(tool) if isinstance(tool, str) else tool for tool in value] if isinstance(value, list) else None
    if not value or not all(isinstance(tool, Mapping) for tool in value):
        raise FieldError(where, name, "must be a list of functions' schemas, or a JSON string of such a list")
    return Message(TOOLS, json.dumps(value, ensure_ascii=False))


def empty(value: Any) -> bool:
    """Whether a field holds no text and no number.

    >>> [empty(value) for value in (None, " ", [], {}, [None, ""], 0, False)]
    [True, True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(map(empty, value.values()))
    return value is None or (isinstance(value, list) and all(map(empty, value)))


def _message(item: Any, name: str, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise FieldError(where, name, f"must be a message {{'role': string, 'content': string}}, is {kind(item)}")
    who, what = ("from", "value") if "from" in item and "role" not in item else ("role", "content")
    role = item.get(who)
    if who == "from":
        if role not in _SHAREGPT:
            raise FieldError(where, f"{name}.from", f"must be one of {', '.join(_SHAREGPT)}, is {short_repr(role)}")
        role = _SHAREGPT[role]
    elif not isinstance(role, str):
        raise FieldError(where, name, f"must be a message {{'role': string, 'content': string}}, is {kind(item)}")
    if role == TOOLS:
        return tools_message(item.get(what), f"{name}.{what}", where)
    fields = {
        key: value for key, value in item.items() if key not in (who, what) and _part_of_what_was_said(key, value)
    }
    for key in fields:
        if key in MEDIA:
            raise FieldError(where, f"{name}.{key}", "is not supported; messages are text")
    if "tool_calls" in fields:
        fields["tool_calls"] = _tool_calls(fields["tool_calls"], f"{name}.tool_calls", where)
    if item.get("tool_call_id") is not None:
        fields["tool_call_id"] = item["tool_call_id"]
    if item.get(what) is None and not fields:
        raise FieldError(where, name, f"must be a message {{'role': string, 'content': string}}, is {kind(item)}")
    content = _content(item.get(what), bool(fields), f"{name}.{what}", where)
    return Message(role, RichText({"content": content, **fields}) if fields else content)


def _part_of_what_was_said(name: str, value: Any) -> bool:
    return name not in DESCRIPTIVE and not isinstance(value, bool | int | float) and not empty(value)


def _content(value: Any, more: bool, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if empty(value) and more:  # a message may consist of tool calls alone
        return ""
    if not isinstance(value, list) or not value:
        raise FieldError(
            where, name, f"must be a string or a list of parts {{'type': 'text', 'text': string}}, is {kind(value)}"
        )
    texts = []
    for n, part in enumerate(value):
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            what = part.get("type") if isinstance(part, Mapping) else part
            raise FieldError(
                where, f"{name}[{n}]", f"must be a part of type 'text'; {short_repr(what)} is not supported"
            )
        if other := next((key for key in part if key in MEDIA and not empty(part[key])), None):
            raise FieldError(where, f"{name}[{n}].{other}", "is not supported; messages are text")
        texts.append(part["text"])
    return "\n".join(texts)


def _tool_calls(value: Any, name: str, where: str) -> list[dict[str, Any]]:
    """Tool calls in the form that templates expect: arguments are an object, not a JSON string."""
    must_be = "must be a list of calls {'function': {'name', 'arguments'}}"
    value = literal(value) if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(call, Mapping) for call in value):
        raise FieldError(where, name, f"{must_be}, is {kind(value)}")
    calls = []
    for call in value:
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise FieldError(where, name, f"{must_be}, has {short_repr(call)}")
        arguments = function.get("arguments")
        parsed = literal(arguments) if isinstance(arguments, str) and arguments.lstrip().startswith("{") else arguments
        function = dict(function) | ({"arguments": parsed} if isinstance(parsed, Mapping) else {})
        calls.append({**call, "function": function} if "function" in call else function)
    return calls


def literal(text: str) -> Any:
    """The value of a JSON or Python literal; None for any other string."""
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns about invalid escapes in literals
                value = read(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return None if too_deep(value) else value
    return None


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    if value.get("from") in _SHAREGPT and "value" in value:
        return True
    return value.get("role") in _KNOWN_ROLES and ("content" in value or "tool_calls" in value)
