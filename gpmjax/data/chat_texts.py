"""Renders a conversation and replies to it as text, and finds where a reply begins.

The generation header (what a template writes to open an answer) and what the template writes before a finished reply
can differ. DeepSeek-R1's header opens "<think>", its finished replies do not, and it drops a reply's own "<think> …
</think>". So the prompt ends where header and finished reply begin to differ, and a reply keeps its reasoning, opened
and closed once.

A template that leaves out part of a message is refused. Texts are compared without whitespace to detect this.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.data.groups import REASONING, TOOLS, Message, RichText
from gpmjax.data.templates import Ends

_PROBE = "\ue000"
"""A reply that no template changes and no header contains: a character of Unicode's private-use area."""
_OPEN, _CLOSE = "<think>", "</think>"

Render = Callable[[Sequence[Ends]], list[list[str]]]


class Texts(NamedTuple):
    """A prompt and its responses as text."""

    plain: str
    """The prompt up to the gate."""
    header: str
    """The prompt up to where replies begin."""
    opening: str
    """The rest of the generation header, which begins the answer ("<think>\\n"); "" for most templates."""
    tails: tuple[str, ...]
    """The text after ``header``, one for each response."""


def chat_texts(items: Sequence[tuple[Sequence[Message], Sequence[str]]], render: Render) -> list[Texts]:
    """Renders prompts with their responses.

    Raises:
        ValueError: an empty prompt, or a template that has no boundary between prompt and reply or leaves out part of a
            message.
    """
    asked = []
    for prompt, responses in items:
        if not prompt:
            raise ValueError("a prompt needs at least one message")
        replies = [(Message("assistant", text),) for text in (_PROBE, *responses)]
        asked.append(Ends(tuple(prompt), [((), False), ((), True), *((reply, False) for reply in replies)]))
    written = []
    for (prompt, responses), (plain, header, probe, *fulls) in zip(items, render(asked), strict=True):
        if not header.startswith(plain):
            raise ValueError(
                "the chat template's generation header rewrites the prompt, so prompt and reply have no boundary"
            )
        _check_prompt(prompt, header)
        shared, closing = _boundary(plain, header, probe)
        opening = header[len(shared) :]
        tails = [_tail(text, full, shared, opening, closing) for text, full in zip(responses, fulls, strict=True)]
        written.append(Texts(plain, shared, opening, tuple(tail.rstrip() for tail in tails)))
    _check_fields(items, render)
    return written


def _boundary(plain: str, header: str, probe: str) -> tuple[str, str | None]:
    """(prompt up to where replies begin, how the template closes a reply).

    The second is None where a finished reply does not begin like the header.
    """
    before, found, closing = probe.partition(_PROBE)
    if not found or not before.startswith(plain):
        return header, None
    if before.startswith(header):
        return header, closing
    opened = header.find(_OPEN, len(plain))
    shared = os.path.commonprefix([header, before])
    if 0 <= opened < len(shared):
        shared = header[:opened]
    if len(shared) < len(plain) or (len(shared) < len(before) and len(shared) != opened):
        return header, None
    return shared, closing


def _tail(text: str, full: str, shared: str, opening: str, closing: str | None) -> str:
    """The text of one reply after the prompt."""
    kept = closing is not None and full.startswith(shared)
    said = text.fields["content"] if isinstance(text, RichText) else text
    unopened = _CLOSE in said and _OPEN not in said and _OPEN in opening  # a reply sampled after the opening
    if kept and not unopened and _holds(full[len(shared) :], said):
        return full[len(shared) :]
    if isinstance(text, RichText):
        raise ValueError("the chat template has no place for a reply with more than text, such as tool calls")
    if kept and _CLOSE not in text:
        raise ValueError(f"the chat template leaves out part of the reply {_short(text)}")
    # The template would drop the reasoning, or its output cannot be split after the prompt: use the text itself.
    return (opening if unopened else "") + text + (closing or "")


def _check_prompt(prompt: Sequence[Message], header: str) -> None:
    """Raises ValueError for a message whose text the template does not write."""
    for message in prompt:
        if message.role == TOOLS:
            continue
        text = message.as_dict()["content"]
        if message.role == "assistant":  # templates leave out the reasoning of earlier turns on purpose
            text = text.rpartition(_CLOSE)[2]
        if not _holds(header, text):
            raise ValueError(
                f"the chat template leaves out the {_short(message.role)[1:-1]} message {_short(text)}, or part of it"
            )


def _holds(written: str, text: str) -> bool:
    """Whether ``written`` contains ``text``, whitespace ignored."""
    return text.strip() in written or "".join(text.split()) in "".join(written.split())


def _check_fields(items: Sequence[tuple[Sequence[Message], Sequence[str]]], render: Render) -> None:
    """Raises ValueError for tools, or a field of a message, that do not change the template's output."""
    for prompt, responses in items:
        if any(message.role == TOOLS or isinstance(message.content, RichText) for message in prompt):
            _check_conversation(tuple(prompt), render, opens=True)
        for response in responses:
            if isinstance(response, RichText):
                _check_conversation((*prompt, Message("assistant", response)), render, opens=False)


def _check_conversation(messages: tuple[Message, ...], render: Render, *, opens: bool) -> None:
    checked = range(len(messages)) if opens else [len(messages) - 1]
    whole = _written(messages, render, opens)
    for place in checked:
        message = messages[place]
        for field, less in _without(message):
            changed = (*messages[:place], *less, *messages[place + 1 :])
            if _written(changed, render, opens) != whole or _said_elsewhere(field, messages, place, render):
                continue
            what = "tools" if message.role == TOOLS else f"{field!r} of the {_short(message.role)[1:-1]} message"
            raise ValueError(
                f"the chat template leaves out {what}; use a template that writes it, or write it into the content"
            )


def _written(messages: tuple[Message, ...], render: Render, opens: bool) -> str | None:
    """The rendered text, or None where the template refuses the conversation."""
    try:
        return render([Ends(messages, [((), opens)])])[0][0]
    except ValueError:
        return None


def _without(message: Message) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """(field, the message without it) for each field, each tool call, and each tool call's arguments."""
    if message.role == TOOLS:
        yield TOOLS, ()
        return
    fields: dict[str, Any] = getattr(message.content, "fields", {})
    for name in fields.keys() - {"content", "tool_call_id"}:
        rest = {key: value for key, value in fields.items() if key != name}
        yield name, (Message(message.role, RichText(rest)),)
        for calls in _fewer_calls(fields[name]) if name == "tool_calls" else ():
            yield name, (Message(message.role, RichText({**fields, name: calls})),)


def _fewer_calls(calls: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The calls without one of them, and with one of them without its arguments."""
    for n, call in enumerate(calls):
        before, after = calls[:n], calls[n + 1 :]
        if before or after:
            yield [*before, *after]
        function = call.get("function", call)
        if function.get("arguments"):
            bare = {**function, "arguments": {}}
            yield [*before, {**call, "function": bare} if "function" in call else bare, *after]


def _said_elsewhere(field: str, messages: tuple[Message, ...], place: int, render: Render) -> bool:
    """Whether the template may leave a field out.

    It may for a tool's name that the call states, and for earlier reasoning if the template writes that of the last
    reply.
    """
    message = messages[place]
    if field == "name" and message.role == "tool":
        calls = [
            call
            for earlier in messages[:place]
            for call in getattr(earlier.content, "fields", {}).get("tool_calls", ())
        ]
        name = getattr(message.content, "fields", {}).get("name")
        return any(call.get("function", call)["name"] == name for call in calls)
    if field in REASONING and place < len(messages) - 1:
        asked, bare = Message("user", "a"), Message("assistant", "b")
        reasoned = Message("assistant", RichText({"content": "b", field: _PROBE}))
        return _written((asked, reasoned), render, False) != _written((asked, bare), render, False)
    return False


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "…")
