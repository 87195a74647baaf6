"""MT-Bench by grading: a chat model rates each turn of each answer from 1 to 10.

The rating of turn 2 sees the whole conversation. Questions of mathematics, reasoning and coding are rated beside a
reference answer where there is one. Source: Zheng et al. 2023, arXiv 2306.05685, section 3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpmjax.data.groups import Message
from gpmjax.evals.intervals import bootstrap_interval, mean_figures
from gpmjax.evals.policies.mt_bench import REFERENCED, TURNS, Answers, MTBenchQuestion
from gpmjax.evals.policies.outputs import named
from gpmjax.judges.chat_endpoint import ChatEndpoint, ChatQuestion
from gpmjax.judges.chat_prompts import RATING_TOKENS, rating_identity, rating_prompt, read_rating

UNREADABLE = -1
"""FastChat's score of a rating that cannot be read."""


def grade(endpoint: ChatEndpoint, questions: Sequence[MTBenchQuestion], answers: Answers) -> list[dict[str, Any]]:
    """Two records per answered question, in FastChat's format for ratings, with ``category`` added.

    Raises OSError when the server gives up; its earlier answers are kept.
    """
    answered = [question for question in questions if question.id in answers.by_question]
    asked = [(question, turn) for question in answered for turn in range(1, TURNS + 1)]
    prompts = [_prompt(question, answers.by_question[question.id].turns, turn) for question, turn in asked]
    replies = endpoint.ask([ChatQuestion(prompt, RATING_TOKENS) for prompt in prompts])
    records = []
    for (question, turn), prompt, reply in zip(asked, prompts, replies, strict=True):
        rating = read_rating(reply.text)
        records.append(
            {
                "question_id": question.id,
                "category": question.category,
                "model": answers.model,
                "judge": [endpoint.model, rating_identity()["prompt"]],
                "user_prompt": prompt,
                "judgment": reply.text,
                "score": UNREADABLE if rating is None else rating,
                "turn": turn,
            }
        )
    return records


def grade_figures(
    records: Sequence[dict[str, Any]], questions: Sequence[MTBenchQuestion], answers: Answers
) -> dict[str, Any]:
    """JSON-ready: ``first_turn``, ``second_turn`` and ``average``, each with ``interval``, in total and ``by``
    category.

    The average is over all ratings, as in FastChat. Its interval resamples questions with both of their ratings. A turn
    without a readable rating is None. ``rows`` counts and names what is missing.
    """
    readable = [record for record in records if record["score"] != UNREADABLE]
    categories = dict.fromkeys(record["category"] for record in readable)
    names = {question.id for question in questions}
    unreadable = [f"question {r['question_id']}, turn {r['turn']}" for r in records if r["score"] == UNREADABLE]
    unanswered = [question.where for question in questions if question.id not in answers.by_question]
    unknown = [answer.where for name, answer in answers.by_question.items() if name not in names]
    return {
        "model": answers.model,
        "answers": answers.source,
        **_turns(readable),
        "by": {"category": {name: _turns([r for r in readable if r["category"] == name]) for name in categories}},
        "rows": {
            "questions": len(questions),
            "ratings": len(readable),
            "malformed": named(answers.malformed),
            "unanswered": named(unanswered),
            "unknown_questions": named(unknown),
            "unreadable_ratings": named(unreadable),
        },
    }


def _turns(readable: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, second = ([record["score"] for record in readable if record["turn"] == turn] for turn in (1, 2))
    by_question: dict[Any, list[float]] = {}
    for record in readable:
        by_question.setdefault(record["question_id"], []).append(record["score"])
    sums, counts = (np.array([of(s) for s in by_question.values()], np.float64) for of in (sum, len))
    interval = bootstrap_interval([sums, counts], _average, vectorized=False) if by_question else None
    return {
        "first_turn": mean_figures(first) if first else None,
        "second_turn": mean_figures(second) if second else None,
        "average": {"mean": float(_average(sums, counts)), "interval": interval} if by_question else None,
    }


def _average(sums: np.ndarray, counts: np.ndarray) -> float:
    return sums.sum() / counts.sum()


def _prompt(question: MTBenchQuestion, replies: tuple[str, str], turn: int) -> str:
    conversation = []
    for asked, replied in list(zip(question.turns, replies, strict=True))[:turn]:
        conversation += [Message("user", asked), Message("assistant", replied)]
    return rating_prompt(conversation, question.reference if question.category in REFERENCED else ())
