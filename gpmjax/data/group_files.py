"""Reads groups from a source, and writes groups to a file.

A source is anything that `gpmjax.data.sources` describes (files, hub ids, filters), or ``builtin:NAME`` for a game of
`gpmjax.data.cyclic`.
"""

import gzip
import inspect
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from gpmjax.data import cyclic
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import DEFAULT_OPTIONS, ParseOptions, parse_entry
from gpmjax.data.groups import Comparison, Group, Message
from gpmjax.data.messages import conversation, read_reply
from gpmjax.data.sources import read_entries, split_source
from gpmjax.files import replacing

__all__ = ["Comparison", "Group", "Message", "ParseOptions", "read_groups", "write_groups"]

BUILTIN = "builtin:"


def read_groups(source: str, options: ParseOptions = DEFAULT_OPTIONS, *, first_number: int = 0) -> list[Group]:
    """All groups of a source, one for each entry, in order; comparisons are numbered from ``first_number``.

    >>> [len(group.responses) for group in read_groups("builtin:n_cycle?n=5")]
    [5]

    Raises:
        FileNotFoundError: there is no such file or data set.
        ValueError: the file is unreadable, or an entry fits no layout; the message names file, line and field.
    """
    if source.startswith(BUILTIN):
        groups = _builtin(source)
    else:
        groups = [parse_entry(entry.fields, entry.where, options) for entry in read_entries(source)]
    return number_comparisons(groups, first_number)


def number_comparisons(groups: Iterable[Group], first_number: int = 0) -> list[Group]:
    """The groups with their comparisons numbered from ``first_number``."""
    numbered, number = [], first_number
    for group in groups:
        comparisons = tuple(c._replace(number=number + n) for n, c in enumerate(group.comparisons))
        number += len(comparisons)
        numbered.append(Group(group.prompt, group.responses, comparisons, group.tags, group.where))
    return numbered


def _builtin(source: str) -> list[Group]:
    name, arguments = split_source(source.removeprefix(BUILTIN))
    if name not in cyclic.GAMES:
        raise ValueError(f"{source}: no such game; allowed: {', '.join(BUILTIN + game for game in cyclic.GAMES)}")
    game = cyclic.GAMES[name]
    allowed = list(inspect.signature(game).parameters)
    for argument, value in arguments.items():
        if argument not in allowed or not value.isdecimal():
            choices = ", ".join(f"{name}=NUMBER" for name in allowed) or "nothing"
            raise ValueError(f"{source}: {argument}={value!r}; allowed: {choices}")
    groups = game(**{argument: int(value) for argument, value in arguments.items()})
    return [Group(g.prompt, g.responses, g.comparisons, g.tags, f"{source}[{n}]") for n, g in enumerate(groups)]


def write_groups(path: str | os.PathLike, groups: Sequence[Group]) -> None:
    """Writes groups as JSON lines that ``read_groups`` reads back; compresses them if the name ends in .gz.

    A group of one pair is written {prompt, chosen, rejected}, any other {prompt, responses, comparisons}; tags are
    columns. The file is written completely or not at all.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"{path}: must end in .jsonl or .jsonl.gz")
    with replacing(path) as partial, open(partial, "wb") as raw, _maybe_gzip(raw, path.suffix == ".gz") as file:
        for group in groups:
            file.write((json.dumps(_entry(group), ensure_ascii=False) + "\n").encode())


def _maybe_gzip(raw: IO[bytes], compress: bool) -> IO[bytes] | gzip.GzipFile:
    """The file, behind gzip if ``compress``; mtime 0, so that the same groups give the same bytes."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compress else raw


def _entry(group: Group) -> dict:
    """The fields of the entry that describes a group."""
    fields = {"prompt": _prompt(group.prompt)}
    lone = group.comparisons[0] if len(group.responses) == 2 and len(group.comparisons) == 1 else None
    if lone is not None and lone.weight == 1.0 and lone.chosen != lone.rejected:
        sides = [group.responses[lone.chosen], group.responses[lone.rejected]]
        written = [_response(text) for text in sides]
        if not all(isinstance(side, str) for side in written):  # both sides are strings, or both are messages
            written = [[Message("assistant", text).as_dict()] for text in sides]
        fields |= dict(zip(("chosen", "rejected"), written, strict=True))
        fields |= _unless_default(chosen_probs=(lone.target, 1.0), margin=(lone.margin, 0.0))
    else:
        fields |= {
            "responses": list(map(_response, group.responses)),
            "comparisons": [_comparison(c) for c in group.comparisons],
        }
    return fields | {name: value for name, value in group.tags.items() if name not in fields}


def _prompt(prompt: Sequence[Message]) -> str | list[dict]:
    """The prompt as a string if that is read back as the same prompt, otherwise as messages."""
    if len(prompt) == 1 and type(text := prompt[0].content) is str and _reads_back(text, prompt):
        return text
    return [message.as_dict() for message in prompt]


def _response(text: str) -> str | list[dict]:
    return text if type(text) is str and _reads_back(text, None) else [Message("assistant", text).as_dict()]


def _reads_back(text: str, prompt: Sequence[Message] | None) -> bool:
    """Whether ``read_groups`` reads the string as this prompt, or, if ``prompt`` is None, as the same response."""
    try:
        if prompt is None:
            return read_reply(text, "", "") == text and not text.startswith("\n\nHuman:")
        return conversation({"": text}, "", "") == tuple(prompt)
    except FieldError:
        return False


def _comparison(c: Comparison) -> dict:
    optional = _unless_default(margin=(c.margin, 0.0), target=(c.target, 1.0), weight=(c.weight, 1.0))
    return {"chosen_idx": c.chosen, "rejected_idx": c.rejected} | optional


def _unless_default(**pairs: tuple[float, float]) -> dict[str, float]:
    return {name: value for name, (value, default) in pairs.items() if value != default}
