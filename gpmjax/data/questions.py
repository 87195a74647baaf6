"""Questions about one response or two, for models that give a verdict instead of embedding a response.

    pointwise   {prompt} {response}           one question for each response: a verifier says Yes or No (GenRM)
    pairwise    {prompt} {first} {second}     one question for each ordered pair: which is better? (PairRM, PairPM)

A question ends where its answer would begin. The model is read there, by a head or by the logits of the two verdicts.
The questions about a group are encoded as a group themselves: their common tokens are its prompt, the rest of each
question is one of its responses. So the shared text is encoded once, and code for groups of responses works unchanged.
"""

import dataclasses
import functools
import hashlib
import os
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.arrays import ordered_pairs
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Comparison, Group, Message
from gpmjax.data.window import shares

ORDERS = ("both", "shuffled")
"""How a pair is asked: in both orders, or in one order that a hash of the texts picks."""

_POINTWISE = {"prompt", "response"}
_PAIRWISE = {"prompt", "first", "second"}
_SPARE = 8
"""Tokens kept free, because joined texts may have more tokens than the texts alone."""


@dataclasses.dataclass(frozen=True)
class QuestionTemplate:
    """The template of a question; {eos} stands for the tokenizer's EOS."""

    text: str
    verdicts: tuple[str, str] = ("", "")
    """The two answers, each one token: for the response (or the first of two), and against it."""
    wrapping: str = "chat"
    """"chat": the question is a user's message, answered by the assistant; "plain": the text is used as it is."""

    @property
    def pairwise(self) -> bool:
        """Whether the question is about two responses."""
        return "first" in _fields(self.text)


QUESTIONS = {
    # Jiang et al. 2023 (arXiv 2306.02561): segments with separators, for a head on the last token.
    "candidates": QuestionTemplate(
        "<source>{prompt}{eos}<candidate1>{first}{eos}<candidate2>{second}{eos}", wrapping="plain"
    ),
    # Munos et al. 2023 (arXiv 2312.00886), their template for summaries. It ends in a space, because tokenizers that
    # split digits have no token for a space and a digit.
    "one_or_two": QuestionTemplate(
        "You are an expert summary rater. Given a piece of text and two of its possible summaries, output 1 or 2 to "
        "indicate which summary is better.\nText - {prompt}, Summary 1 - {first}, Summary 2 - {second}.\n"
        "Preferred Summary - ",
        ("1", "2"),
        wrapping="plain",
    ),
    # Dong et al. 2024 (arXiv 2405.07863): the released pairwise preference models.
    "a_or_b": QuestionTemplate("[CONTEXT] {prompt} [RESPONSE A] {first} [RESPONSE B] {second} \n", ("A", "B")),
    # Zhang et al. 2024 (arXiv 2408.15240): the verifier's question.
    "yes_or_no": QuestionTemplate(
        "Question: {prompt}\nAnswer: {response}\nIs the answer correct (Yes/No)?", ("Yes", "No")
    ),
}


def question_named(name: str) -> QuestionTemplate:
    """A built-in question by its name, or a template from its text; such a template's verdicts must be declared.

    >>> question_named("yes_or_no").pairwise, question_named("{prompt} -> {first} or {second}?").pairwise
    (False, True)

    Raises:
        ValueError: ``name`` is neither a name nor a template with the fields of a question.
    """
    if name in QUESTIONS:
        return QUESTIONS[name]
    if not _fields(name):
        raise ValueError(
            f"question={name!r}: must be one of {', '.join(map(repr, QUESTIONS))}, or a template with "
            "{prompt} and {response}, or with {prompt}, {first} and {second}"
        )
    return QuestionTemplate(name)


def question_for(name: str, kind: str) -> QuestionTemplate | None:
    """The question that a preference model of this kind is asked; None if it reads responses as replies.

    Raises:
        ValueError: there is no such question, or it is about another number of responses.
    """
    if not name:
        return None
    question = question_named(name)
    if question.pairwise != (kind == "pairwise"):
        about = "two responses" if question.pairwise else "one response"
        raise ValueError(f"question={name!r}: is about {about}, which does not fit kind={kind!r}")
    return question


def _fields(text: str) -> set[str]:
    """The fields of a template; empty unless they are those of a pointwise or a pairwise question."""
    try:
        found = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None} - {"eos"}
    except ValueError:  # a lone brace
        return set()
    return found if found in (_POINTWISE, _PAIRWISE) else set()


def verdict_tokens(verdicts: Sequence[str], tokenizer: Any) -> tuple[int, int]:
    """The token of each of the two verdicts.

    Raises:
        ValueError: there are not two verdicts, they are equal, or one is not a single token.
    """
    if len(verdicts) != 2 or not all(verdicts):
        raise ValueError(f"verdicts={tuple(verdicts)!r}: must be two verdicts, such as ('Yes', 'No')")
    ids = [tokenizer(verdict, add_special_tokens=False)["input_ids"] for verdict in verdicts]
    for verdict, tokens in zip(verdicts, ids, strict=True):
        if len(tokens) != 1:
            raise ValueError(
                f"verdicts={tuple(verdicts)!r}: {verdict!r} is {len(tokens)} tokens for this tokenizer, must be 1"
            )
    if ids[0] == ids[1]:
        raise ValueError(f"verdicts={tuple(verdicts)!r}: must differ")
    return ids[0][0], ids[1][0]


class Asked(NamedTuple):
    """The questions about one group, as tokens."""

    prompt: list[int]
    """The common beginning of all questions."""
    questions: list[list[int]]
    """The rest of each question, at least one token."""
    comparisons: tuple[Comparison, ...]
    """The group's comparisons, with indices of questions. If a pair is asked in one order only, its comparison is of
    that question with itself, and the target is the probability of the first verdict."""
    differ: tuple[bool, ...]
    """For each comparison, whether its two responses still differ after truncation."""
    responses: list["Excerpt"]
    """Each of the group's responses, as the question with the least of it holds it."""
    prompt_lost: list[int]
    """For each response, the tokens of the request that were cut in the question that lost the most of it."""


class Excerpt(NamedTuple):
    """A text in a question, possibly truncated."""

    text: str
    tokens: int
    lost: int = 0
    """Tokens that were cut."""

    @property
    def cut(self) -> bool:
        return self.lost > 0


TokenizedText = tuple[str, list[tuple[int, int]]]
"""A text, and the (begin, end) characters of each of its tokens."""


@dataclasses.dataclass(frozen=True)
class QuestionFormat:
    """How groups become questions; used in place of a ``ChatFormat``.

    Args:
        chat: writes a user's message, and has the tokenizer.
        question: the question's template.
        order: the order in which pairs are asked, see ``ORDERS``.
    """

    chat: ChatFormat
    question: QuestionTemplate
    order: str = "both"

    def __post_init__(self):
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order!r}: must be one of {', '.join(map(repr, ORDERS))}")

    @property
    def tokenizer(self) -> Any:
        return self.chat.tokenizer

    def ask(self, group: Group, max_length: int) -> Asked:
        """The questions that a group's comparisons need; without comparisons, questions about all of its responses.

        A question that fits ``max_length`` tokens is not cut. Of a longer one the request is cut first, from the left,
        to no less than half of the room. Then the responses are cut, from the right: each of two keeps half of the room
        left, plus what the other does not need. So the cut depends on the question's own texts alone.

        Raises:
            ValueError: ``max_length`` has no room for the template.
        """
        pairs = self.pairs(group)
        request, *sides = self._pieces([prompt_text(group.prompt), *group.responses])
        filled = self._fill(request, [[sides[index] for index in pair] for pair in pairs], max_length)
        ids = [tokens for tokens, _ in filled]
        shared = min(len(os.path.commonprefix(ids)), min(map(len, ids)) - 1)
        held = {pair: [part.text for part in parts[1:]] for pair, (_, parts) in zip(pairs, filled, strict=True)}
        responses, lost = [_whole(side) for side in sides], [0] * len(sides)
        for pair, (_, (asked, *parts)) in zip(pairs, filled, strict=True):
            for index, part in zip(pair, parts, strict=True):
                responses[index] = max(responses[index], part, key=lambda part: part.lost)
                lost[index] = max(lost[index], asked.lost)
        return Asked(
            prompt=ids[0][:shared],
            questions=[tokens[shared:] for tokens in ids],
            comparisons=self._comparisons(group, {pair: n for n, pair in enumerate(pairs)}),
            differ=tuple(self._differ(group, c, held) for c in group.comparisons),
            responses=responses,
            prompt_lost=lost,
        )

    def _fill(
        self, request: TokenizedText, sides: Sequence[Sequence[TokenizedText]], max_length: int
    ) -> list[tuple[list[int], list[Excerpt]]]:
        """(tokens, excerpts) of each question; the excerpts are of the request and of its one or two responses."""
        room = max_length - self._frame - _SPARE
        if room < 4:
            raise ValueError(f"max_length={max_length}: too short for the question's template; must be larger")
        parts = [[_whole(request), *map(_whole, texts)] for texts in sides]
        ids = self._tokenize([self._render(*(part.text for part in held)) for held in parts])
        long = [n for n, tokens in enumerate(ids) if len(tokens) > max_length]
        for n in long:
            lengths = [len(places) for _, places in sides[n]]
            kept = _keep_end(request, max(room - sum(lengths), room - room // 2))
            cuts = shares(lengths, room - kept.tokens)
            parts[n] = [kept, *(_keep_start(side, limit) for side, limit in zip(sides[n], cuts, strict=True))]
        for n, tokens in zip(
            long, self._tokenize([self._render(*(part.text for part in parts[n])) for n in long]), strict=True
        ):
            if len(tokens) > max_length:
                raise ValueError(
                    f"max_length={max_length}: a question takes {len(tokens)} tokens even after its texts were cut"
                )
            ids[n] = tokens
        return list(zip(ids, parts, strict=True))

    def _differ(self, group: Group, c: Comparison, held: Mapping[tuple[int, ...], list[str]]) -> bool:
        if self.question.pairwise:
            first, second = held[self.pair(group, c.chosen, c.rejected)]
            return first != second
        return held[c.chosen,] != held[c.rejected,]

    @functools.cached_property
    def _frame(self) -> int:
        """Number of tokens of the template without texts."""
        return len(self._tokenize([self._render("", "", "")])[0])

    def pair(self, group: Group, i: int, j: int) -> tuple[int, int]:
        """The order in which i and j are asked: (i, j), or for "shuffled" the order of the texts' hashes."""
        if self.order == "both":
            return i, j
        first, second = (hashlib.sha256(repr((group.prompt, group.responses[n])).encode()).digest() for n in (i, j))
        return (i, j) if first <= second else (j, i)

    def pairs(self, group: Group) -> list[tuple[int, ...]]:
        """For each question of ``ask``, the responses that it is about: one index, or two in the order asked."""
        count = len(group.responses)
        if not self.question.pairwise:
            return [(n,) for n in range(count)]
        named = [(c.chosen, c.rejected) for c in group.comparisons] or ordered_pairs(count)
        asked: dict[tuple[int, ...], None] = {}
        for i, j in named:
            asked[self.pair(group, i, j)] = None
            if self.order == "both":
                asked[j, i] = None
        return list(asked)

    def _comparisons(self, group: Group, place: dict[tuple[int, ...], int]) -> tuple[Comparison, ...]:
        if not self.question.pairwise:
            return group.comparisons
        mapped = []
        for c in group.comparisons:
            first = self.pair(group, c.chosen, c.rejected)
            asked = place[first]
            if self.order == "both":
                mapped.append(c._replace(chosen=asked, rejected=place[c.rejected, c.chosen]))
            elif first == (c.chosen, c.rejected):
                mapped.append(c._replace(chosen=asked, rejected=asked))
            else:
                mapped.append(c._replace(chosen=asked, rejected=asked, target=1 - c.target, margin=-c.margin))
        return tuple(mapped)

    def _render(self, prompt: str, *sides: str) -> str:
        names = ("first", "second") if self.question.pairwise else ("response",)
        parts = dict(zip(names, sides, strict=False))
        text = self.question.text.format(prompt=prompt, eos=self.tokenizer.eos_token, **parts)
        return self.chat.begin(text) if self.question.wrapping == "plain" else self.chat.ask(text)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _pieces(self, texts: list[str]) -> list[TokenizedText]:
        places = self.tokenizer(texts, add_special_tokens=False, verbose=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return list(zip(texts, places, strict=True))


def prompt_text(messages: Sequence[Message]) -> str:
    """A conversation as one text; a single message of the user is its content alone.

    >>> prompt_text((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Why?")))
    'user: Hi\\n\\nassistant: Hello\\n\\nuser: Why?'
    """
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _whole(piece: TokenizedText) -> Excerpt:
    text, places = piece
    return Excerpt(text, len(places))


def _keep_end(piece: TokenizedText, limit: int) -> Excerpt:
    text, places = piece
    lost = len(places) - limit
    return _whole(piece) if lost <= 0 else Excerpt(text[places[lost][0] :], limit, lost)


def _keep_start(piece: TokenizedText, limit: int) -> Excerpt:
    text, places = piece
    lost = len(places) - limit
    return _whole(piece) if lost <= 0 else Excerpt(text[: places[limit - 1][1]], limit, lost)


def response_format(chat: ChatFormat, question: str, kind: str, *, order: str = "both") -> ChatFormat | QuestionFormat:
    """How a preference model of this kind reads responses: as replies (``question`` is ""), or in a question."""
    asked = question_for(question, kind)
    return chat if asked is None else QuestionFormat(chat, asked, order)
