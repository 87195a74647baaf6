"""One row of any known layout → one Group. Which layout it is shows in the names of its fields.

    pair          prompt? chosen rejected margin? chosen_probs?     strings, messages, or conversations that share a prompt
    cyclic        instruction chosen reject label                   the released cyclic sets
    group         prompt responses comparisons: [{chosen_idx, rejected_idx, margin?, target?, weight?}]
    prefer        prompt|document|context responses prefer: [[i, j], …]           i is preferred over j
    completions   context completions: [{rank, completion}]         the smallest rank is the best (NeMo)

The prompt is read by `gpmjax.data.conversation`, from whichever columns hold it, and messages by `gpmjax.data.messages`.
A prompt that ends in an assistant's turn is continued: that turn becomes the beginning of every response.

``chosen_probs`` (SPPO) is P(chosen ≻ rejected) and becomes the target. All other scalar columns become tags,
``chosen_probs_win`` and ``chosen_probs_lose`` among them; a list of strings is joined by commas.
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

READ = frozenset(
    (
        *REQUESTS,
        *CONVERSATIONS,
        *BESIDE,
        "chosen",
        "rejected",
        "reject",
        "margin",
        "chosen_probs",
        "responses",
        "comparisons",
    )
    + ("prefer", "completions")
)
"""Columns that are no tags."""

PREFILLS = ("continue", "refuse")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How rows are read where their layout leaves it open."""

    ties: str = "half"
    """Equal ranks: "half" makes a comparison with target ½ of them, "drop" none."""
    document_prompt: str = "Summarise the following text.\n\n{document}"
    """The request that responses to a ``document`` answer."""
    dialogue_prompt: str = "Write the next reply in this conversation.\n\n{context}"
    """The request that responses to a ``context`` string answer, when they are compared by ``prefer``."""
    prefill: str = "continue"
    """A prompt that ends in an assistant's turn: "continue" puts that turn before every response, "refuse" is an error."""

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


def parse_entry(fields: Mapping[str, Any], where: str, reading: Reading = Reading()) -> Group:
    """The group that a row describes; its comparisons are not numbered yet.

    >>> group = parse_entry({"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "subset": "sums"}, "f.jsonl:1")
    >>> group.responses, group.comparisons[0].chosen, group.tags
    (('4', '5'), 0, {'subset': 'sums'})

    Raises:
        FieldError: a field is missing or of the wrong type.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if "chosen" in fields:
        return _parse_pair(fields, where, reading)
    if "responses" in fields:
        return _parse_responses(fields, where, reading)
    if "completions" in fields:
        return _parse_completions(fields, where, reading)
    raise FieldError(where, "chosen", f"missing; the row has {', '.join(fields) or 'no fields'}; allowed: {LAYOUTS}")


def _parse_pair(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
    names = ("chosen", "reject" if "reject" in fields else "rejected")
    sides = [text_or_messages(fields, name, where) for name in names]
    # With or without a prompt column: "\n\nHuman: …" is no reply, but a conversation that ends with one.
    sides = [
        transcript_turns(side) or side if isinstance(side, str) and side.startswith("\n\nHuman:") else side
        for side in sides
    ]
    if type(sides[0]) is not type(sides[1]):
        raise FieldError(where, names[1], f"must be {kind(sides[0])} like {names[0]!r}, is {kind(sides[1])}")
    whole = isinstance(sides[0], tuple) and any(len(side) > 1 for side in sides)
    column = request_column(fields, REQUESTS if whole else REQUESTS + CONVERSATIONS)
    prompt = None if column is None else request(fields, column, where, reading.document_prompt)
    if isinstance(sides[0], tuple):
        prompt, sides = _split_conversations(prompt, sides, names, where)
    elif prompt is None:
        raise FieldError(where, "prompt", "missing, and 'chosen' is no conversation that would hold it")
    comparison = Comparison(
        chosen=0,
        rejected=1,
        target=as_number(fields.get("chosen_probs"), "chosen_probs", where, default=1.0, low=0.0, high=1.0),
        margin=as_number(fields.get("margin"), "margin", where, default=0.0),
    )
    found = _Found(column, prompt, sides, (comparison,), (*names, "chosen_probs", "margin"))
    return _group(fields, where, reading, found)


def _split_conversations(prompt, sides, names, where) -> tuple[tuple[Message, ...], list[str]]:
    """Leading messages that both sides share are the prompt; what is left must be one reply on each side."""
    # A reply is never part of the prompt, not even when both sides are the same.
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
            where, names[0], "is a message of its own after an assistant's turn; a string would continue that turn"
        )
    # A system message may stand before what the prompt column repeats.
    if prompt is not None and shared and shared[-len(prompt) :] != prompt:
        raise FieldError(where, "prompt", f"differs from the messages that {names[0]!r} and {names[1]!r} share")
    return shared or prompt, replies


def _parse_responses(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
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
    prompt = request(fields, column, where, reading.document_prompt)
    if column == "context" and "comparisons" not in fields and prompt == user(fields["context"]):
        prompt = user(reading.dialogue_prompt.replace("{context}", fields["context"]))
    return _group(
        fields, where, reading, _Found(column, prompt, responses, comparisons, ("comparisons", "prefer", "responses"))
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


def _parse_completions(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
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
        elif reading.ties == "half":
            comparisons.append(Comparison(i, j, target=0.5))
    column = request_column(fields) or "prompt"
    prompt = request(fields, column, where, reading.document_prompt)
    return _group(fields, where, reading, _Found(column, prompt, responses, tuple(comparisons), ("completions",)))


class _Found(NamedTuple):
    """What a layout found in a row."""

    column: str | None
    """That of the request; None where the responses hold it."""
    prompt: tuple[Message, ...]
    responses: Sequence[str]
    comparisons: tuple[Comparison, ...]
    used: tuple[str, ...]
    """The other columns that were read."""


def _group(fields: Mapping[str, Any], where: str, reading: Reading, found: _Found) -> Group:
    """The group, with the columns that stand beside the request, and with no part of the conversation lost."""
    prompt, responses = beside(fields, found.prompt, where), found.responses
    taken = {
        *found.used,
        *BESIDE,
        *([found.column] if found.column else []),
        *(["input"] if found.column == "instruction" else []),
    }
    refuse_lost(fields, taken, prompt, responses, where)
    if prompt[-1].role == "assistant":
        prompt, responses = _continued(prompt, responses, reading, where)
    elif isinstance(text := fields.get(found.column), str) and transcript_turns(text):
        # In a transcript the blank before a reply belongs to "Assistant: ".
        responses = [response if isinstance(response, RichText) else response.strip() for response in responses]
    return Group(prompt, tuple(responses), found.comparisons, _tags(fields, taken), where)


def _continued(
    prompt: tuple[Message, ...], responses: Sequence[str], reading: Reading, where: str
) -> tuple[tuple[Message, ...], list[str]]:
    """The prompt without the assistant's turn that ends it, which now begins every response."""
    begun = prompt[-1].content
    if reading.prefill == "refuse":
        raise FieldError(where, "prompt", "ends with an assistant's turn; a prompt ends with the user's")
    if any(isinstance(text, RichText) for text in (begun, *responses)):
        raise FieldError(
            where,
            "prompt",
            "ends with an assistant's turn that cannot be continued, for more than text is in it or a reply",
        )
    if len(prompt) == 1:
        raise FieldError(where, "prompt", "is an assistant's turn alone; there must be one before it")
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
