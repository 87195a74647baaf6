"""Questions put to a model about one response or about two, for models that read a verdict instead of embedding an answer.

    pointwise   {prompt} {response}           one question a response: a verifier says Yes or No (GenRM)
    pairwise    {prompt} {first} {second}     one question an ordered pair: which is better? (PairRM, PairPM)

A question ends where its answer would begin. There the model is read, by a head or by the logits of the two verdicts. As tokens
all questions about a group are one prompt, the tokens they have in common, and its "responses", what follows; so the text
that they share is encoded once, and all that works for groups of responses works for groups of questions.
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
"""Of a pair: asked in both orders, or in one that a hash of the texts picks."""

_POINTWISE = {"prompt", "response"}
_PAIRWISE = {"prompt", "first", "second"}
_SPARE = 8
"""Tokens left free for what joining the parts may add to them."""


@dataclasses.dataclass(frozen=True)
class QuestionTemplate:
    """A template; {eos} stands for the tokenizer's own."""

    text: str
    verdicts: tuple[str, str] = ("", "")
    """What a model may answer, each one token: for the response (or the first of two), and against it."""
    wrapping: str = "chat"
    """"chat": a user's message, answered by the assistant; "plain": the text as it is."""

    @property
    def pairwise(self) -> bool:
        """Whether it is about two responses."""
        return "first" in _fields(self.text)


QUESTIONS = {
    # Jiang et al. 2023 (arXiv 2306.02561): segments with separators, for a head on the last token.
    "candidates": QuestionTemplate(
        "<source>{prompt}{eos}<candidate1>{first}{eos}<candidate2>{second}{eos}", wrapping="plain"
    ),
    # Munos et al. 2023 (arXiv 2312.00886), their template for summaries. With a space at its end: tokenizers that split digits have
    # no token for a space and a digit.
    "one_or_two": QuestionTemplate(
        "You are an expert summary rater. Given a piece of text and two of its possible summaries, output 1 or 2 to indicate "
        "which summary is better.\nText - {prompt}, Summary 1 - {first}, Summary 2 - {second}.\nPreferred Summary - ",
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
    """A built-in question, or one's own: a template's text, whose verdicts must then be declared.

    >>> question_named("yes_or_no").pairwise, question_named("{prompt} -> {first} or {second}?").pairwise
    (False, True)

    Raises:
        ValueError: neither, or a template without its places.
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
    """The question that a preference model of this kind is asked; None where it reads responses as replies.

    Raises:
        ValueError: no such question, or one about another number of responses.
    """
    if not name:
        return None
    question = question_named(name)
    if question.pairwise != (kind == "pairwise"):
        about = "two responses" if question.pairwise else "one response"
        raise ValueError(f"question={name!r}: is about {about}, which does not go with kind={kind!r}")
    return question


def _fields(text: str) -> set[str]:
    """The places of a template; empty when they are neither a pointwise nor a pairwise question's."""
    try:
        found = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None} - {"eos"}
    except ValueError:  # a lone brace
        return set()
    return found if found in (_POINTWISE, _PAIRWISE) else set()


def verdict_tokens(verdicts: Sequence[str], tokenizer: Any) -> tuple[int, int]:
    """The one token of each verdict.

    Raises:
        ValueError: not two verdicts, two alike, or one that is not a single token.
    """
    if len(verdicts) != 2 or not all(verdicts):
        raise ValueError(f"verdicts={tuple(verdicts)!r}: must be two, such as ('Yes', 'No')")
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
    """What they begin with, all of them."""
    questions: list[list[int]]
    """What follows, each at least one token."""
    comparisons: tuple[Comparison, ...]
    """The group's, between questions. A comparison of a question with itself was asked in that order alone: its target is
    then the probability of the first verdict."""
    differ: tuple[bool, ...]
    """Of each comparison, whether what its question holds of the two responses still differs."""
    responses: list["Excerpt"]
    """What is left of each of the group's responses, in the question that holds the least of it."""
    prompt_lost: list[int]
    """Tokens of the request that were cut away in a question about each of the responses; the most of them."""


class Excerpt(NamedTuple):
    """A text that fills a place of a template."""

    text: str
    tokens: int
    lost: int = 0
    """Tokens that were cut away."""

    @property
    def cut(self) -> bool:
        return self.lost > 0


TokenizedText = tuple[str, list[tuple[int, int]]]
"""A text, and where its tokens begin and end in it."""


@dataclasses.dataclass(frozen=True)
class QuestionFormat:
    """How groups become questions; takes the place of a ``ChatFormat``.

    Args:
        chat: writes a user's message, and holds the tokenizer.
        question: the template.
        order: of pairs, see ``ORDERS``.
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
        """The questions that a group's comparisons need; without comparisons, those about all of its responses.

        A question has at most ``max_length`` tokens, and nothing is cut of one that has no more. Otherwise the request gives way
        first, from the left, but keeps half of the room if it is that long; then the responses, from the right: of two, each
        keeps half of what is left, and what the shorter one leaves. So what a question holds depends on its own texts alone.

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
        """Each question's tokens, and what it holds: of the request, and of its one or two responses."""
        room = max_length - self._frame - _SPARE
        if room < 4:
            raise ValueError(f"max_length={max_length}: too short for the question's template")
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
                    f"max_length={max_length}: a question takes {len(tokens)} tokens after its parts were cut"
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
        """Tokens of the template alone."""
        return len(self._tokenize([self._render("", "", "")])[0])

    def pair(self, group: Group, i: int, j: int) -> tuple[int, int]:
        """(i, j), or (j, i) where the order is shuffled and the texts' hash says so, whichever was named first."""
        if self.order == "both":
            return i, j
        digest = lambda n: hashlib.sha256(repr((group.prompt, group.responses[n])).encode()).digest()
        return (i, j) if digest(i) <= digest(j) else (j, i)

    def pairs(self, group: Group) -> list[tuple[int, ...]]:
        """What the questions that ``ask`` gives are about, each once: one response, or two in their order."""
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
    """A conversation as one text; a single user's message is its own.

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
    """How a preference model of this kind reads responses: as replies (no ``question``), or through questions about them."""
    asked = question_for(question, kind)
    return chat if asked is None else QuestionFormat(chat, asked, order)
