"""A conversation and replies to it as text, with the place where a reply begins.

What a chat template writes before a reply and what it writes when it opens the answer (the generation header) are not always
the same: DeepSeek-R1's header opens "<think>" where a finished reply has none, and what such a template makes of a reply's
own "<think> … </think>" is nothing. So the prompt of replies ends where header and finished reply part, and a reply keeps its
reasoning, opened and closed once.

A template that leaves out part of a message is found out by comparing texts, blanks aside, and refused.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gpmjax.data.groups import REASONING, TOOLS, Message, RichText
from gpmjax.data.templates import Ends

_PROBE = "\ue000"
"""A reply that no template changes and no header contains: a character for private use."""
_OPEN, _CLOSE = "<think>", "</think>"

Render = Callable[[Sequence[Ends]], list[list[str]]]


class Texts(NamedTuple):
    """A prompt and what follows it."""

    plain: str
    """The prompt up to the gate."""
    header: str
    """The prompt up to where replies begin."""
    opening: str
    """What the generation header writes beyond that, the beginning of an answer ("<think>\\n"); "" for most templates."""
    tails: tuple[str, ...]
    """What follows ``header``, response by response."""


def chat_texts(items: Sequence[tuple[Sequence[Message], Sequence[str]]], render: Render) -> list[Texts]:
    """Prompts with their responses as the template writes them.

    Raises:
        ValueError: an empty prompt, a template without a boundary between prompt and reply, or one that leaves out part of
            what was said.
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
                "the chat template's generation header rewrites the prompt, so there is no boundary to read"
            )
        _check_prompt(prompt, header)
        shared, closing = _boundary(plain, header, probe)
        opening = header[len(shared) :]
        tails = [_tail(text, full, shared, opening, closing) for text, full in zip(responses, fulls, strict=True)]
        written.append(Texts(plain, shared, opening, tuple(tail.rstrip() for tail in tails)))
    _check_fields(items, render)
    return written


def _boundary(plain: str, header: str, probe: str) -> tuple[str, str | None]:
    """Where replies begin, and how the template closes one; None where a finished reply does not begin like the header."""
    before, found, closing = probe.partition(_PROBE)
    if not found or not before.startswith(plain):
        return header, None
    if before.startswith(header):
        return header, closing
    opened = header.find(_OPEN, len(plain))
    shared = os.path.commonprefix([header, before])
    if 0 <= opened < len(shared):
        shared = header[:opened]
    if len(shared) < len(plain) or len(shared) < len(before) and len(shared) != opened:
        return header, None
    return shared, closing


def _tail(text: str, full: str, shared: str, opening: str, closing: str | None) -> str:
    """What follows the prompt for one reply."""
    kept = closing is not None and full.startswith(shared)
    said = text.fields["content"] if isinstance(text, RichText) else text
    unopened = _CLOSE in said and _OPEN not in said and _OPEN in opening  # sampled after the header
    if kept and not unopened and _holds(full[len(shared) :], said):
        return full[len(shared) :]
    if isinstance(text, RichText):
        raise ValueError("the chat template has no place for a reply that is more than text")
    if kept and _CLOSE not in text:
        raise ValueError(f"the chat template leaves out part of the reply {_short(text)}")
    # The template would leave the reasoning out, or has no place to cut at: the text itself.
    return (opening if unopened else "") + text + (closing or "")


def _check_prompt(prompt: Sequence[Message], header: str) -> None:
    """ValueError for a message whose text the template does not write."""
    for message in prompt:
        if message.role == TOOLS:
            continue
        text = message.as_dict()["content"]
        if message.role == "assistant":  # earlier reasoning, which templates leave out on purpose
            text = text.rpartition(_CLOSE)[2]
        if not _holds(header, text):
            raise ValueError(
                f"the chat template leaves out the {_short(message.role)[1:-1]} message {_short(text)}, or part of it"
            )


def _holds(written: str, text: str) -> bool:
    """Whether a text stands in what was written, blanks aside."""
    return text.strip() in written or "".join(text.split()) in "".join(written.split())


def _check_fields(items: Sequence[tuple[Sequence[Message], Sequence[str]]], render: Render) -> None:
    """ValueError for a field of a message, or tools, without which the template writes the same."""
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
                f"the chat template leaves out {what}; take a model whose template writes it, or write it into the content"
            )


def _written(messages: tuple[Message, ...], render: Render, opens: bool) -> str | None:
    """The text, or None where the template refuses the conversation."""
    try:
        return render([Ends(messages, [((), opens)])])[0][0]
    except ValueError:
        return None


def _without(message: Message) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """The message without each of its fields, and without each call and each call's arguments."""
    if message.role == TOOLS:
        yield TOOLS, ()
        return
    fields: dict[str, Any] = getattr(message.content, "fields", {})
    put = lambda name, value: (Message(message.role, RichText({**fields, name: value})),)
    for name in fields.keys() - {"content", "tool_call_id"}:
        rest = {key: value for key, value in fields.items() if key != name}
        yield name, (Message(message.role, RichText(rest)),)
        if name == "tool_calls":
            calls = fields[name]
            for n, call in enumerate(calls):
                others = [*calls[:n], *calls[n + 1 :]]
                if others:
                    yield name, put(name, others)
                function = call.get("function", call)
                if function.get("arguments"):
                    bare = {**function, "arguments": {}}
                    yield (
                        name,
                        put(
                            name,
                            [*calls[:n], {**call, "function": bare} if "function" in call else bare, *calls[n + 1 :]],
                        ),
                    )


def _said_elsewhere(field: str, messages: tuple[Message, ...], place: int, render: Render) -> bool:
    """Whether a field may be left out: a tool's name that its call has, and earlier reasoning of templates that write it once."""
    message = messages[place]
    if field == "name" and message.role == "tool":
        calls = [
            call
            for earlier in messages[:place]
            for call in getattr(earlier.content, "fields", {}).get("tool_calls", ())
        ]
        return any(call.get("function", call)["name"] == message.content.fields["name"] for call in calls)
    if field in REASONING and place < len(messages) - 1:
        asked, bare = Message("user", "a"), Message("assistant", "b")
        reasoned = Message("assistant", RichText({"content": "b", field: _PROBE}))
        return _written((asked, reasoned), render, False) != _written((asked, bare), render, False)
    return False


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "…")
