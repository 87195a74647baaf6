"""What a data set is made of: groups of responses to one prompt, and comparisons between them."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


class Comparison(NamedTuple):
    """One label: how likely one response of a group is to be preferred over another."""

    chosen: int
    """Index into the group's responses."""
    rejected: int
    """Index into the group's responses."""
    target: float = 1.0
    """P(chosen ≻ rejected): 1 for a plain label, ½ for a tie, below ½ when the other side won after all."""
    margin: float = 0.0
    """In units of the score."""
    weight: float = 1.0
    row: int = -1
    """Index of the comparison in its data set, which names it in results and errors."""

    @property
    def winner(self) -> int | None:
        """The preferred response, None for a tie."""
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
    comparisons: tuple[Comparison, ...] = ()
    tags: Mapping[str, str | int | float | bool] = dataclasses.field(default_factory=dict)
    """Other columns of the row, such as subset or group; results are broken down by them."""
    where: str = ""
    """File and line (or row) it was read from, for messages."""


def user(text: str) -> tuple[Message, ...]:
    """A prompt of one user message."""
    return (Message("user", text),)
