"""Reads and writes MT-Bench's files in FastChat's format, one JSON object per line.

    questions   question_id, category, turns [2], reference? [≤ 2], required_temperature?
    answers     question_id, answer_id, model_id, choices: [{index, turns [2]}], tstamp
    ratings     question_id, model, judge: [model, prompt], user_prompt, judgment, score, turn

The first of several choices is graded, as in FastChat. Source: Zheng et al. 2023, arXiv 2306.05685; lm-sys/FastChat,
fastchat/llm_judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.data.fields import FieldError, as_list, as_number, as_strings, short_repr
from gpmjax.data.sources import Entry
from gpmjax.evals.policies.outputs import read_each, text_field

TURNS = 2
REFERENCED = frozenset({"math", "reasoning", "coding"})
"""Categories that are graded against a reference answer."""
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1,
    "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
}  # fmt: skip
"""Category → temperature that it is answered at."""
OTHER_TEMPERATURE = 0.7


class MTBenchQuestion(NamedTuple):
    """A request and its follow-up."""

    id: int | str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, ...]
    """Reference answers to the turns; fewer than two, or "", where there is none."""
    temperature: float
    """The temperature that FastChat answers it at."""
    where: str


class Answer(NamedTuple):
    """A policy's replies to both turns."""

    question: int | str
    model: str
    turns: tuple[str, str]
    where: str


class Answers(NamedTuple):
    """A file of answers by one policy."""

    source: str
    by_question: dict[int | str, Answer]
    malformed: list[str]

    @property
    def model(self) -> str:
        return next(iter(self.by_question.values())).model


def read_questions(source: str) -> tuple[list[MTBenchQuestion], list[str]]:
    """Questions in their order, and a line for each malformed row.

    Raises FileNotFoundError; ValueError for a file without a well-formed row or with a repeated question.
    """
    questions, malformed = read_each(source, _question)
    _refuse_twins((question.id, question.where) for question in questions)
    return questions, malformed


def read_answers(source: str) -> Answers:
    """One policy's answers, or the file of references that FastChat keeps in the same format.

    Raises FileNotFoundError; ValueError for a file without a well-formed row, with two answers to one question or with
    answers of several models.
    """
    answers, malformed = read_each(source, _answer)
    _refuse_twins((answer.question, answer.where) for answer in answers)
    other = next((answer for answer in answers if answer.model != answers[0].model), None)
    if other is not None:
        raise ValueError(
            f"{other.where}: model_id {other.model!r}, must be {answers[0].model!r} as in {answers[0].where}"
        )
    return Answers(source, {answer.question: answer for answer in answers}, malformed)


def with_references(questions: Sequence[MTBenchQuestion], references: Answers) -> list[MTBenchQuestion]:
    """Questions whose reference answers are replaced by those of a file, where it has them."""
    found = references.by_question
    return [q._replace(reference=found[q.id].turns) if q.id in found else q for q in questions]


def answer_record(question: int | str, model: str, turns: Sequence[str], seconds: float) -> dict[str, Any]:
    """A line of an answers file; ``seconds`` since 1970.

    >>> answer_record(81, "gpm-1", ["Hello.", "Bye."], 0.0)["answer_id"]
    'gpm-1-81'
    """
    return {
        "question_id": question,
        "answer_id": f"{model}-{question}",
        "model_id": model,
        "choices": [{"index": 0, "turns": list(turns)}],
        "tstamp": seconds,
    }


def _question(row: Entry) -> MTBenchQuestion:
    category = text_field(row, "category")
    turns = _two(row.fields.get("turns"), "turns", row.where)
    if not all(turn.strip() for turn in turns):
        raise FieldError(row.where, "turns", "has an empty turn; a question needs text")
    reference = row.fields.get("reference")
    usual = TEMPERATURES.get(category, OTHER_TEMPERATURE)
    return MTBenchQuestion(
        _id(row),
        category,
        turns,
        () if reference is None else as_strings(reference, "reference", row.where)[:TURNS],
        as_number(row.fields.get("required_temperature"), "required_temperature", row.where, default=usual, low=0.0),
        row.where,
    )


def _answer(row: Entry) -> Answer:
    choices = as_list(row.fields.get("choices"), "choices", row.where)
    if not choices or not isinstance(choices[0], Mapping):
        raise FieldError(row.where, "choices", f"must hold at least one object with turns, is {choices!r:.40}")
    turns = _two(choices[0].get("turns"), "choices[0].turns", row.where)
    return Answer(_id(row), text_field(row, "model_id"), turns, row.where)


def _two(value: Any, name: str, where: str) -> tuple[str, str]:
    turns = as_strings(value, name, where)
    if len(turns) != TURNS:
        raise FieldError(where, name, f"must be {TURNS} strings, is {len(turns)}")
    return turns


def _id(row: Entry) -> int | str:
    value = row.fields.get("question_id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(row.where, "question_id", f"must be an integer or a string, is {short_repr(value)}")
    return value


def _refuse_twins(named: Iterable[tuple[int | str, str]]) -> None:
    first: dict[int | str, str] = {}
    for name, where in named:
        if name in first:
            raise ValueError(f"{where}: question_id {name!r} is that of {first[name]} already")
        first[name] = where
