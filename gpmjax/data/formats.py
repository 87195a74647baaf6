"""Parses one entry of any known layout into one Group. The names of an entry's fields determine its layout:

    pair          prompt? chosen rejected margin? chosen_probs?    strings, messages, or conversations with one prompt
    cyclic        instruction chosen reject label                   the released cyclic sets
    group         prompt responses comparisons: [{chosen_idx, rejected_idx, margin?, target?, weight?}]
    prefer        prompt|document|context responses prefer: [[i, j], …]           i is preferred over j
    completions   context completions: [{rank, completion}]         the smallest rank is the best (NeMo)

`gpmjax.data.conversation` reads the prompt from the columns that hold it, and `gpmjax.data.messages` reads messages.
If a prompt ends in an assistant's turn, that turn becomes the beginning of every response.

``chosen_probs`` (SPPO) is P(chosen ≻ rejected) and becomes the target. All other scalar columns become tags, including
``chosen_probs_win`` and ``chosen_probs_lose``. A list of strings becomes one tag, joined by commas.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.data.conversation import BESIDE, CONVERSATIONS, REQUESTS, beside, refuse_lost, request, request_column
from gpmjax.data.fields import FieldError, as_index, as_list, as_number, kind, short_repr
from gpmjax.data.groups import Comparison, Group, Message, RichText, user
from gpmjax.data.messages import read_reply, roles, text_or_messages, transcript_turns

LAYOUTS = "chosen + rejected (or reject), responses + comparisons, responses + prefer, completions"

_LABELS = {
    "chosen",
    "rejected",
    "reject",
    "margin",
    "chosen_probs",
    "responses",
    "comparisons",
    "prefer",
    "completions",
}
READ = frozenset({*REQUESTS, *CONVERSATIONS, *BESIDE, *_LABELS})
"""Columns that do not become tags."""

PREFILLS = ("continue", "refuse")


@dataclasses.dataclass(frozen=True)
class ParseOptions:
    """How entries are read where their layout leaves a choice."""

    ties: str = "half"
    """Two equal ranks: "half" makes a comparison with target ½, "drop" makes none."""
    document_prompt: str = "Summarise the following text.\n\n{document}"
    """The request that responses to a ``document`` answer."""
    dialogue_prompt: str = "Write the next reply in this conversation.\n\n{context}"
    """The request that responses to a ``context`` string answer, when they are compared by ``prefer``."""
    prefill: str = "continue"
    """A prompt that ends in an assistant's turn: "continue" puts it before every response, "refuse" is an error."""

    def __post_init__(self):
        if self.prefill not in PREFILLS:
            raise ValueError(f"prefill={self.prefill!r}: must be one of {', '.join(map(repr, PREFILLS))}")
        if self.ties not in ("half", "drop"):
            raise ValueError(f"ties={self.ties!r}: must be one of 'half', 'drop'")
        for name, text, slot in (
            ("document_prompt", self.document_prompt, "{document}"),
            ("dialogue_prompt", self.dialogue_prompt, "{context}"),
        ):
            if slot not in text:
                raise ValueError(f"{name}={text!r}: must contain {slot}")


DEFAULT_OPTIONS = ParseOptions()


def parse_entry(fields: Mapping[str, Any], where: str, options: ParseOptions = DEFAULT_OPTIONS) -> Group:
    """The group that an entry describes; its comparisons are not numbered yet.

    >>> group = parse_entry({"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "subset": "sums"}, "f.jsonl:1")
    >>> group.responses, group.comparisons[0].chosen, group.tags
    (('4', '5'), 0, {'subset': 'sums'})

    Raises:
        FieldError: a field is missing or of the wrong type.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if "chosen" in fields:
        return _parse_pair(fields, where, options)
    if "responses" in fields:
        return _parse_responses(fields, where, options)
    if "completions" in fields:
        return _parse_completions(fields, where, options)
    raise FieldError(where, "chosen", f"missing; the entry has {', '.join(fields) or 'no fields'}; allowed: {LAYOUTS}")


def _parse_pair(fields: Mapping[str, Any], where: str, options: ParseOptions) -> Group:
    names = ("chosen", "reject" if "reject" in fields else "rejected")
    sides: list[Any] = [text_or_messages(fields, name, where) for name in names]
    # "\n\nHuman: …" is a whole conversation that ends with a reply, whether or not there is a prompt column.
    sides = [
        transcript_turns(side) or side if isinstance(side, str) and side.startswith("\n\nHuman:") else side
        for side in sides
    ]
    if type(sides[0]) is not type(sides[1]):
        raise FieldError(where, names[1], f"must be {kind(sides[0])} like {names[0]!r}, is {kind(sides[1])}")
    whole = isinstance(sides[0], tuple) and any(len(side) > 1 for side in sides)
    column = request_column(fields, REQUESTS if whole else REQUESTS + CONVERSATIONS)
    prompt = None if column is None else request(fields, column, where, options.document_prompt)
    if isinstance(sides[0], tuple):
        prompt, sides = _split_conversations(prompt, sides, names, where)
    elif prompt is None:
        raise FieldError(where, "prompt", "missing, and 'chosen' is not a conversation that contains it")
    comparison = Comparison(
        chosen=0,
        rejected=1,
        target=as_number(fields.get("chosen_probs"), "chosen_probs", where, default=1.0, low=0.0, high=1.0),
        margin=as_number(fields.get("margin"), "margin", where, default=0.0),
    )
    found = _Found(column, prompt, sides, (comparison,), (*names, "chosen_probs", "margin"))
    return _group(fields, where, options, found)


def _split_conversations(prompt, sides, names, where) -> tuple[tuple[Message, ...], list[str]]:
    """(prompt, the two replies): the leading messages that both sides share, and the one reply left on each side."""
    # The last message of a side is its reply, never part of the prompt, even when both sides are equal.
    longest = min(len(side) for side in sides) - 1
    pairs = itertools.islice(zip(*sides, strict=False), longest)
    shared = tuple(left for left, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    replies = []
    for name, side in zip(names, sides, strict=True):
        rest = side[len(shared) :]
        if len(rest) != 1 or rest[0].role != "assistant":
            raise FieldError(where, name, f"must be one assistant message after those shared, is {roles(rest)}")
        replies.append(rest[0].content)
    if prompt is None and not shared:
        raise FieldError(where, "prompt", f"missing, and {names[0]!r} and {names[1]!r} share no leading message")
    if (prompt or shared)[-1].role == "assistant":
        raise FieldError(
            where, names[0], "is a separate message after an assistant's turn; a string would continue that turn"
        )
    # The shared messages may have a system message before those that the prompt column repeats.
    if prompt is not None and shared and shared[-len(prompt) :] != prompt:
        raise FieldError(where, "prompt", f"differs from the messages that {names[0]!r} and {names[1]!r} share")
    return shared or prompt or (), replies


def _parse_responses(fields: Mapping[str, Any], where: str, options: ParseOptions) -> Group:
    responses = [
        read_reply(text, f"responses[{n}]", where)
        for n, text in enumerate(as_list(fields["responses"], "responses", where))
    ]
    if "comparisons" in fields:
        comparisons = _index_comparisons(fields["comparisons"], len(responses), where)
    elif "prefer" in fields:
        comparisons = _preferred(fields["prefer"], len(responses), where)
    else:
        raise FieldError(where, "comparisons", "missing; 'responses' need 'comparisons' or 'prefer'")
    column = request_column(fields) or "prompt"
    prompt = request(fields, column, where, options.document_prompt)
    if column == "context" and "comparisons" not in fields and prompt == user(fields["context"]):
        prompt = user(options.dialogue_prompt.replace("{context}", fields["context"]))
    return _group(
        fields, where, options, _Found(column, prompt, responses, comparisons, ("comparisons", "prefer", "responses"))
    )


def _index_comparisons(value: Any, count: int, where: str) -> tuple[Comparison, ...]:
    comparisons = []
    for n, item in enumerate(as_list(value, "comparisons", where)):
        name = f"comparisons[{n}]"
        if not isinstance(item, Mapping):
            raise FieldError(where, name, f"must be an object, is {kind(item)}")
        comparisons.append(
            Comparison(
                chosen=as_index(item.get("chosen_idx"), count, f"{name}.chosen_idx", where),
                rejected=as_index(item.get("rejected_idx"), count, f"{name}.rejected_idx", where),
                target=as_number(item.get("target"), f"{name}.target", where, default=1.0, low=0.0, high=1.0),
                margin=as_number(item.get("margin"), f"{name}.margin", where, default=0.0),
                weight=as_number(item.get("weight"), f"{name}.weight", where, default=1.0, low=0.0),
            )
        )
    return tuple(comparisons)


def _preferred(value: Any, count: int, where: str) -> tuple[Comparison, ...]:
    comparisons = []
    for n, pair in enumerate(as_list(value, "prefer", where)):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise FieldError(where, f"prefer[{n}]", f"must be two indices [better, worse], is {short_repr(pair)}")
        comparisons.append(Comparison(*(as_index(side, count, f"prefer[{n}]", where) for side in pair)))
    return tuple(comparisons)


def _parse_completions(fields: Mapping[str, Any], where: str, options: ParseOptions) -> Group:
    responses, ranks = [], []
    for n, item in enumerate(as_list(fields["completions"], "completions", where)):
        name = f"completions[{n}]"
        if not isinstance(item, Mapping):
            raise FieldError(where, name, f"must be an object, is {kind(item)}")
        ranks.append(as_number(item.get("rank"), f"{name}.rank", where))
        responses.append(read_reply(item.get("completion"), f"{name}.completion", where))
    comparisons = []
    for i, j in itertools.combinations(range(len(responses)), 2):
        if ranks[i] != ranks[j]:
            comparisons.append(Comparison(*((i, j) if ranks[i] < ranks[j] else (j, i))))
        elif options.ties == "half":
            comparisons.append(Comparison(i, j, target=0.5))
    column = request_column(fields) or "prompt"
    prompt = request(fields, column, where, options.document_prompt)
    return _group(fields, where, options, _Found(column, prompt, responses, tuple(comparisons), ("completions",)))


class _Found(NamedTuple):
    """The parts of an entry that its layout identified."""

    column: str | None
    """The request's column; None where the responses contain the request."""
    prompt: tuple[Message, ...]
    responses: Sequence[str]
    comparisons: tuple[Comparison, ...]
    used: tuple[str, ...]
    """The other columns that the layout reads."""


def _group(fields: Mapping[str, Any], where: str, options: ParseOptions, found: _Found) -> Group:
    """The group; adds history, system message and tools to the prompt, and refuses columns that would be lost."""
    prompt, responses = beside(fields, found.prompt, where), found.responses
    taken = {
        *found.used,
        *BESIDE,
        *([found.column] if found.column else []),
        *(["input"] if found.column == "instruction" else []),
    }
    refuse_lost(fields, taken, prompt, responses, where)
    if prompt[-1].role == "assistant":
        prompt, responses = _continued(prompt, responses, options, where)
    elif found.column and isinstance(text := fields.get(found.column), str) and transcript_turns(text):
        # In a transcript the space before a reply belongs to "Assistant: ".
        responses = [response if isinstance(response, RichText) else response.strip() for response in responses]
    return Group(prompt, tuple(responses), found.comparisons, _tags(fields, taken), where)


def _continued(
    prompt: tuple[Message, ...], responses: Sequence[str], options: ParseOptions, where: str
) -> tuple[tuple[Message, ...], list[str]]:
    """The prompt without its last turn, the assistant's; every response now begins with that turn."""
    begun = prompt[-1].content
    if options.prefill == "refuse":
        raise FieldError(where, "prompt", "ends with an assistant's turn; a prompt ends with the user's")
    if any(isinstance(text, RichText) for text in (begun, *responses)):
        raise FieldError(
            where,
            "prompt",
            "ends with an assistant's turn that cannot be continued, because it or a reply holds more than text",
        )
    if len(prompt) == 1:
        raise FieldError(where, "prompt", "is an assistant's turn alone; another turn must come before it")
    return prompt[:-1], [begun + response for response in responses]


def _tags(fields: Mapping[str, Any], used: set) -> dict[str, str | int | float | bool]:
    tags = {}
    for name, value in fields.items():
        if name in used:
            continue
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        if isinstance(value, str | int | float | bool):
            tags[name] = value
    return tags
