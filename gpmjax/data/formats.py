"""One row of any known layout → one Group. Which layout it is shows in the names of its fields.

    pair          prompt? chosen rejected margin? chosen_probs?     strings or [{"role", "content"}, …]
    cyclic        instruction chosen reject label                   the released cyclic sets
    group         prompt responses comparisons: [{chosen_idx, rejected_idx, margin?, target?, weight?}]
    prefer        prompt|document|context responses prefer: [[i, j], …]           i is preferred over j
    completions   context completions: [{rank, completion}]         the smallest rank is the best (NeMo)

``chosen_probs`` (SPPO) is P(chosen ≻ rejected) and becomes the target. All other scalar columns become tags,
``chosen_probs_win`` and ``chosen_probs_lose`` among them; a list of strings is joined by commas.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpmjax.data.fields import RowError, index, items, kind, number, reply, roles, strings, text_or_messages
from gpmjax.data.groups import Comparison, Group, Message, user

LAYOUTS = "chosen + rejected (or reject), responses + comparisons, responses + prefer, completions"

_PROMPT_FIELDS = ("prompt", "instruction", "document", "context")
_TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclasses.dataclass(frozen=True)
class Reading:
    """How rows are read where their layout leaves it open."""

    ties: str = "half"
    """Equal ranks: "half" makes a comparison with target ½ of them, "drop" none."""
    document_prompt: str = "Summarise the following text.\n\n{document}"
    """The request that responses to a ``document`` answer."""
    dialogue_prompt: str = "Write the next reply in this conversation.\n\n{context}"
    """The request that responses to a ``context`` string answer, when they are compared by ``prefer``."""

    def __post_init__(self):
        if self.ties not in ("half", "drop"):
            raise ValueError(f"ties={self.ties!r}: must be one of 'half', 'drop'")
        for name, text, slot in (
            ("document_prompt", self.document_prompt, "{document}"),
            ("dialogue_prompt", self.dialogue_prompt, "{context}"),
        ):
            if slot not in text:
                raise ValueError(f"{name}={text!r}: must contain {slot}")


def parse_row(fields: Mapping[str, Any], where: str, reading: Reading = Reading()) -> Group:
    """The group that a row describes; its comparisons are not numbered yet.

    >>> group = parse_row({"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "subset": "sums"}, "f.jsonl:1")
    >>> group.responses, group.comparisons[0].chosen, group.tags
    (('4', '5'), 0, {'subset': 'sums'})

    Raises:
        RowError: a field is missing or of the wrong type.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if "chosen" in fields:
        return _parse_pair(fields, where, reading)
    if "responses" in fields:
        return _parse_responses(fields, where, reading)
    if "completions" in fields:
        return _parse_completions(fields, where, reading)
    raise RowError(where, "chosen", f"missing; the row has {', '.join(fields) or 'no fields'}; allowed: {LAYOUTS}")


def _parse_pair(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
    names = ("chosen", "reject" if "reject" in fields else "rejected")
    sides = [text_or_messages(fields, name, where) for name in names]
    prompt, prompt_field = None, _prompt_field(fields)
    if prompt_field in fields:
        prompt = _prompt(fields, where, reading)
    else:
        sides = [_transcript(side) if isinstance(side, str) else side for side in sides]
    if type(sides[0]) is not type(sides[1]):
        raise RowError(where, names[1], f"must be {kind(sides[0])} like {names[0]!r}, is {kind(sides[1])}")
    if isinstance(sides[0], tuple):
        prompt, sides = _split_conversations(prompt, sides, names, where)
    elif prompt is None:
        raise RowError(where, "prompt", "missing, and 'chosen' is no conversation that would hold it")
    comparison = Comparison(
        chosen=0,
        rejected=1,
        target=number(fields.get("chosen_probs"), "chosen_probs", where, default=1.0, low=0.0, high=1.0),
        margin=number(fields.get("margin"), "margin", where, default=0.0),
    )
    used = {prompt_field, *names, "chosen_probs", "margin"}
    return Group(prompt, tuple(sides), (comparison,), _tags(fields, used), where)


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
            raise RowError(where, name, f"must be one assistant message after those shared, is {roles(rest)}")
        replies.append(rest[0].content)
    if prompt is None and not shared:
        raise RowError(where, "prompt", f"missing, and {names[0]!r} and {names[1]!r} share no leading message")
    # A system message may stand before what the prompt column repeats.
    if prompt is not None and shared and shared[-len(prompt) :] != prompt:
        raise RowError(where, "prompt", f"differs from the messages that {names[0]!r} and {names[1]!r} share")
    return shared or prompt, replies


def _transcript(text: str) -> str | tuple[Message, ...]:
    """A dialogue written out as "\\n\\nHuman: …\\n\\nAssistant: …" (Anthropic HH) as messages."""
    if not text.startswith("\n\nHuman:"):
        return text
    _, *parts = _TRANSCRIPT_TURN.split(text)
    return tuple(
        Message(_TRANSCRIPT_ROLES[speaker], content.strip())
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    )


def _parse_responses(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
    responses = strings(fields["responses"], "responses", where)
    if "comparisons" in fields:
        comparisons = _index_comparisons(fields["comparisons"], len(responses), where)
    elif "prefer" in fields:
        comparisons = _preferred(fields["prefer"], len(responses), where)
        if isinstance(fields.get("context"), str):
            fields |= {"context": reading.dialogue_prompt.replace("{context}", fields["context"])}
    else:
        raise RowError(where, "comparisons", "missing; 'responses' need 'comparisons' or 'prefer'")
    used = {_prompt_field(fields), "comparisons", "prefer", "responses"}
    return Group(_prompt(fields, where, reading), responses, comparisons, _tags(fields, used), where)


def _index_comparisons(value: Any, count: int, where: str) -> tuple[Comparison, ...]:
    comparisons = []
    for n, item in enumerate(items(value, "comparisons", where)):
        name = f"comparisons[{n}]"
        if not isinstance(item, Mapping):
            raise RowError(where, name, f"must be an object, is {kind(item)}")
        comparisons.append(
            Comparison(
                chosen=index(item.get("chosen_idx"), count, f"{name}.chosen_idx", where),
                rejected=index(item.get("rejected_idx"), count, f"{name}.rejected_idx", where),
                target=number(item.get("target"), f"{name}.target", where, default=1.0, low=0.0, high=1.0),
                margin=number(item.get("margin"), f"{name}.margin", where, default=0.0),
                weight=number(item.get("weight"), f"{name}.weight", where, default=1.0, low=0.0),
            )
        )
    return tuple(comparisons)


def _preferred(value: Any, count: int, where: str) -> tuple[Comparison, ...]:
    comparisons = []
    for n, pair in enumerate(items(value, "prefer", where)):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise RowError(where, f"prefer[{n}]", f"must be two indices [better, worse], is {pair!r}")
        comparisons.append(Comparison(*(index(side, count, f"prefer[{n}]", where) for side in pair)))
    return tuple(comparisons)


def _parse_completions(fields: Mapping[str, Any], where: str, reading: Reading) -> Group:
    responses, ranks = [], []
    for n, item in enumerate(items(fields["completions"], "completions", where)):
        name = f"completions[{n}]"
        if not isinstance(item, Mapping):
            raise RowError(where, name, f"must be an object, is {kind(item)}")
        ranks.append(number(item.get("rank"), f"{name}.rank", where))
        responses.append(reply(item.get("completion"), f"{name}.completion", where))
    comparisons = []
    for i, j in itertools.combinations(range(len(responses)), 2):
        if ranks[i] != ranks[j]:
            comparisons.append(Comparison(*((i, j) if ranks[i] < ranks[j] else (j, i))))
        elif reading.ties == "half":
            comparisons.append(Comparison(i, j, target=0.5))
    used = {_prompt_field(fields), "completions"}
    return Group(_prompt(fields, where, reading), tuple(responses), tuple(comparisons), _tags(fields, used), where)


def _prompt_field(fields: Mapping[str, Any]) -> str:
    return next((name for name in _PROMPT_FIELDS if name in fields), "prompt")


def _prompt(fields: Mapping[str, Any], where: str, reading: Reading) -> tuple[Message, ...]:
    name = _prompt_field(fields)
    content = text_or_messages(fields, name, where)
    if not isinstance(content, str):
        return content
    return user(reading.document_prompt.replace("{document}", content) if name == "document" else content)


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
