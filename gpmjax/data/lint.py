"""Finds the mistakes in a data set before a model is trained on it.

Errors make a result meaningless: contradicting labels, equal sides, unreadable entries. Warnings change the result:
truncated texts, pinned dates, labels that length predicts.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, EncodeReport, encode_each
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import DEFAULT_OPTIONS, READ, ParseOptions, parse_entry
from gpmjax.data.group_files import BUILTIN, number_comparisons, read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.data.groups import Group
from gpmjax.data.messages import empty, held_messages
from gpmjax.data.sources import read_entries

SUSPICIOUS_LENGTH_ACCURACY = 0.65
"""Accuracy of "the longer one wins" (or the shorter one) from which the labels are reported as biased by length."""

TOLERATED_CONTRADICTIONS = 0.01
"""Share of contradicted pairs above which they are an error. Up to it they are a warning: noise of human labels."""

_EXAMPLES = 3
_CHUNK = 256


class Finding(NamedTuple):
    """One problem, or one fact, of a data set."""

    level: str
    """"error", "warning" or "info"."""
    check: str
    """Name of the check."""
    count: int
    """How many entries, pairs or columns the check found."""
    detail: str
    """Explanation, and the places of the first few."""


def lint(source: str, chat: ChatFormat, *, max_length: int, options: ParseOptions = DEFAULT_OPTIONS) -> list[Finding]:
    """All findings about a source, errors first.

    Raises:
        FileNotFoundError, ValueError: the source as a whole cannot be read, or the template fails on every message.
    """
    groups, findings = _read(source, options)
    findings += _tokenizer_findings(chat)
    if groups:
        findings += _label_findings(groups)
        findings += _token_findings(groups, chat, max_length)
        findings += _length_findings(groups)
    return sorted(findings, key=lambda finding: ("error", "warning", "info").index(finding.level))


def longer_wins(groups: Iterable[Group]) -> float | None:
    """Accuracy of "the longer response is better", by characters; equal lengths count ½. None if every label is a tie.

    >>> from gpmjax.data.groups import Comparison, user
    >>> longer_wins([Group(user("?"), ("long", "no"), (Comparison(0, 1), Comparison(1, 0), Comparison(0, 1)))])
    0.666...
    """
    signs = [
        np.sign(len(group.responses[c.chosen]) - len(group.responses[c.rejected])) * np.sign(c.target - 0.5)
        for group in groups
        for c in group.comparisons
        if c.winner is not None
    ]
    return 0.5 + 0.5 * float(np.mean(signs)) if signs else None


def _read(source: str, options: ParseOptions) -> tuple[list[Group], list[Finding]]:
    """The readable groups, numbered, and the findings about reading them."""
    if source.startswith(BUILTIN):
        return read_groups(source), []
    groups, broken, in_strings, tags, unread = [], [], [], {}, {}
    folder = f"{Path(source.partition('?')[0]).parent}/"
    for entry in read_entries(source, refuse=lambda line: broken.append(line.removeprefix(folder))):
        where = entry.where.removeprefix(folder)
        try:
            group = parse_entry(entry.fields, where, options)
        except FieldError as error:
            broken.append(str(error))
            continue
        groups.append(group)
        in_strings += [where] * _holds_messages(entry.fields)
        tags |= dict.fromkeys(group.tags)
        unread |= dict.fromkeys(
            name for name, value in entry.fields.items() if name not in READ | group.tags.keys() and not empty(value)
        )
    findings = [
        *_found("error", "unreadable entries", broken, ""),
        *_found(
            "warning", "messages in strings", in_strings, "a column holds messages as a string; it is read as messages"
        ),
        *_listed(
            "warning", "columns not read", [name for name in unread if name not in tags], "neither text nor numbers"
        ),
        *_listed("info", "columns read as tags", list(tags), "no model reads them"),
    ]
    return number_comparisons(groups), findings


def _holds_messages(fields: Mapping[str, Any]) -> bool:
    """Whether a column that is read holds messages inside a string."""
    texts = (value for name, value in fields.items() if name in READ and isinstance(value, str))
    return any(held_messages(text) is not text for text in texts)


def _label_findings(groups: Sequence[Group]) -> list[Finding]:
    contradictions, repeated, blank, pairs = [], [], [], 0
    # One model answers for all tags, so groups of the same prompt are compared whatever their tags.
    for group in merge_groups(groups, sections=()):
        seen: dict[tuple[int, int], int] = {}
        for c in group.comparisons:
            if c.winner is not None and c.chosen != c.rejected:
                pair = (c.winner, c.chosen + c.rejected - c.winner)
                seen[pair] = seen.get(pair, 0) + 1
        pairs += len({frozenset(pair) for pair in seen})
        for (i, j), times in seen.items():
            if i < j and (j, i) in seen:
                contradictions.append(f"{group.where}: {_short(group.responses[i])} and {_short(group.responses[j])}")
            if times > 1:
                repeated.append(
                    f"{group.where}: {_short(group.responses[i])} ≻ {_short(group.responses[j])}, {times} times"
                )
        blank += [f"{group.where}: an empty response" for text in group.responses if not text.strip()]
    silent = [group.where for group in groups if not all(message.content.strip() for message in group.prompt)]
    unlabelled = [group.where for group in groups if not group.comparisons]
    level = "error" if len(contradictions) > TOLERATED_CONTRADICTIONS * pairs else "warning"
    return [
        *_found(
            level, "contradicting labels", contradictions, f"of {pairs} pairs; labels prefer each side over the other"
        ),
        *_found("warning", "repeated labels", repeated, "they have more weight than the others"),
        *_found("warning", "empty responses", blank, ""),
        *_found("warning", "empty turns", silent, "a message of the prompt is empty"),
        *_found("warning", "no comparison", unlabelled, "entries without a label"),
    ]


def _tokenizer_findings(chat: ChatFormat) -> list[Finding]:
    findings = []
    if chat.writes_date:
        findings += [
            Finding(
                "warning", "date in template", 1, f"the template writes today's date; it is always told {chat.date}"
            )
        ]
    if not chat.ends_turn:
        findings += [
            Finding("warning", "missing EOS", 1, "the template does not end a reply with EOS; EOS is appended")
        ]
    return findings


def _token_findings(groups: Sequence[Group], chat: ChatFormat, max_length: int) -> list[Finding]:
    total, identical, collapsed, cut, double_bos, early_eos, widest = EncodeReport(), [], [], [], [], [], 0
    bos, eos = chat.tokenizer.bos_token_id, chat.tokenizer.eos_token_id
    refused: list[str] = []
    for encoded, report in _each_encoded(groups, chat, max_length, refused):
        total += report
        widest = max(widest, encoded.size[0])
        identical += [encoded.where] * report.identical
        collapsed += [encoded.where] * report.collapsed
        cut += [encoded.where] * bool(report.prompts_cut or report.responses_cut)
        if bos is not None and bos != eos and list(encoded.prompt[:2]) == [bos, bos]:
            double_bos.append(encoded.where)
        texts = (encoded.sequence(n)[2] for n in range(len(encoded.responses)))
        early_eos += [encoded.where for text in texts if eos in text[:-1].tolist()]
    summary = f"{total.comparisons} usable comparisons, at most {widest} tokens in an entry's prompt and responses"
    return [
        *_found("error", "refused by the template", refused, ""),
        *_found("error", "chosen == rejected", identical, "both sides have the same text"),
        *_found(
            "error", "equal after encoding", collapsed, "the difference between the two sides is cut or trimmed away"
        ),
        *_found("error", "double BOS", double_bos, "the prompt's own text begins with BOS"),
        *_found("warning", "truncation", cut, total.cut_line(max_length)),
        *_found("warning", "EOS inside a response", early_eos, "the response's own text contains the EOS token"),
        Finding("info", "entries", total.groups, summary),
    ]


def _each_encoded(
    groups: Sequence[Group], chat: ChatFormat, max_length: int, refused: list[str]
) -> Iterator[tuple[EncodedGroup, EncodeReport]]:
    """Yields each group that can be encoded; adds a line to ``refused`` for each that cannot."""
    for start in range(0, len(groups), _CHUNK):
        chunk = groups[start : start + _CHUNK]
        try:
            yield from list(encode_each(chunk, chat, max_length=max_length))
        except ValueError:
            for group in chunk:
                try:
                    yield from list(encode_each([group], chat, max_length=max_length))
                except ValueError as error:
                    refused.append(str(error))


def _length_findings(groups: Sequence[Group]) -> list[Finding]:
    accuracy = longer_wins(groups)
    if accuracy is None:
        return []
    biased = max(accuracy, 1 - accuracy) >= SUSPICIOUS_LENGTH_ACCURACY
    decided = sum(c.winner is not None for group in groups for c in group.comparisons)
    detail = f'"the longer one wins" is {accuracy:.1%} accurate; report it with a model\'s accuracy'
    return [Finding("warning" if biased else "info", "length bias", decided, detail)]


def _found(level: str, check: str, places: Sequence[str], detail: str) -> list[Finding]:
    """One finding that names the first few places; none if there are no places."""
    if not places:
        return []
    examples = "; ".join(itertools.islice(dict.fromkeys(places), _EXAMPLES))
    return [Finding(level, check, len(places), f"{detail}: {examples}" if detail else examples)]


def _listed(level: str, check: str, names: Sequence[str], detail: str) -> list[Finding]:
    """One finding that lists all names; none if there are no names."""
    return [Finding(level, check, len(names), f"{detail}: {', '.join(names)}")] if names else []


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "…")
