"""The elements of a data set: groups of responses to one prompt, and comparisons between the responses."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class RichText(str):
    """The text of a message that has more fields than its content: tool calls, reasoning, a name.

    As a string it is the whole message written out, which judges, questions and people read. Messages with equal
    strings are equal. ``fields`` is the message as a chat template takes it, without the role.

    >>> said = RichText({"content": "51", "reasoning_content": "17 · 3 = 51"})
    >>> str(said), said.fields["content"]
    ('<think>\\n17 · 3 = 51\\n</think>\\n\\n51', '51')
    """

    fields: Mapping[str, Any]

    def __new__(cls, fields: Mapping[str, Any]) -> "RichText":
        text = super().__new__(cls, "".join(_written(fields)).lstrip("" if fields["content"] else "\n"))
        text.fields = dict(fields)
        return text

    def __getnewargs__(self) -> tuple[Any]:
        return (self.fields,)


REASONING = ("reasoning_content", "reasoning", "thinking")
"""The field names under which templates and servers put the reasoning before a reply."""


def _written(fields: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a message's text, in the order in which models write them."""
    if name := fields.get("name"):
        yield f"{name}: "
    for reasoning in dict.fromkeys(fields[name] for name in REASONING if name in fields):
        yield f"<think>\n{reasoning}\n</think>\n\n"
    yield fields["content"]
    for call in fields.get("tool_calls", ()):
        yield f"\n<tool_call>\n{_dumped(call.get('function', call))}\n</tool_call>"
    for name, value in fields.items():
        if name not in ("name", "content", "tool_calls", "tool_call_id", *REASONING):
            yield f"\n<{name}>\n{value if isinstance(value, str) else _dumped(value)}\n</{name}>"


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


class Message(NamedTuple):
    """One turn of a conversation. A first message of role TOOLS lists the tools that the model may call, as JSON."""

    role: str
    content: str
    """The text; a ``RichText`` if the message has more fields than its content."""

    def as_dict(self) -> dict[str, Any]:
        """The message with all its fields, in the form of files and chat templates."""
        return {"role": self.role, "content": self.content, **getattr(self.content, "fields", {})}

    def packed(self) -> dict[str, str]:
        """The message as two strings, for tables with a column for each.

        >>> said = Message("user", RichText({"content": "Hi", "name": "Ann"}))
        >>> said.packed(), Message.unpacked(**said.packed()) == said
        ({'role': 'user|json', 'content': '{"content": "Hi", "name": "Ann"}'}, True)
        """
        if not isinstance(self.content, RichText):
            return self._asdict()
        return {"role": self.role + _PACKED, "content": json.dumps(self.content.fields, ensure_ascii=False)}

    @classmethod
    def unpacked(cls, role: str, content: str) -> "Message":
        """The message that ``packed`` turned into these two strings."""
        if not role.endswith(_PACKED):
            return cls(role, content)
        return cls(role.removesuffix(_PACKED), RichText(json.loads(content)))


TOOLS = "tools"
_PACKED = "|json"


class Comparison(NamedTuple):
    """One label: how likely one response of a group is to be preferred over another."""

    chosen: int
    """Index into the group's responses."""
    rejected: int
    """Index into the group's responses."""
    target: float = 1.0
    """P(chosen ≻ rejected): 1 for a plain label, ½ for a tie, below ½ if the rejected side is preferred."""
    margin: float = 0.0
    """In units of the score."""
    weight: float = 1.0
    number: int = -1
    """Index of the comparison in its data set; results and errors name it."""

    @property
    def winner(self) -> int | None:
        """Index of the preferred response; None for a tie."""
        if self.target == 0.5:
            return None
        return self.chosen if self.target > 0.5 else self.rejected


@dataclasses.dataclass(frozen=True)
class Group:
    """A prompt, K responses to it, and any comparisons between them. A pair is K = 2.

    >>> group = Group(user("Tea or coffee?"), ("Tea.", "Coffee."), (Comparison(0, 1),))
    >>> group.responses[group.comparisons[0].winner]
    'Tea.'
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    """The responses' texts; a reply with more fields than its content is a ``RichText``."""
    comparisons: tuple[Comparison, ...] = ()
    tags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Other columns of the entry, such as subset or group; results are broken down by them."""
    where: str = ""
    """The file and line (or row) that the group was read from, for error messages."""


def user(text: str) -> tuple[Message, ...]:
    """A prompt of one user message."""
    return (Message("user", text),)
