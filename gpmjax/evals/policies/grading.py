"""MT-Bench by grading: a chat model rates each turn of each answer from 1 to 10.

Turn 2 is rated with the whole conversation before it. Questions of mathematics, reasoning and coding are rated beside a
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
"""FastChat's score where there is none."""


def grade(endpoint: ChatEndpoint, questions: Sequence[MTBenchQuestion], answers: Answers) -> list[dict[str, Any]]:
    """Two records a question that has an answer, in FastChat's format for ratings and with ``category``.

    Raises OSError when the server gives up; what it had answered is kept.
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
    """JSON-ready: ``first_turn``, ``second_turn`` and ``average``, each with ``interval``, ``by`` category, and what is
    missing.

    The average is that of all ratings, as FastChat takes it; its interval resamples questions, whose two ratings go
    together. A turn without any readable rating is None.
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
    scores = lambda turn: [record["score"] for record in readable if record["turn"] == turn]
    by_question: dict[Any, list[float]] = {}
    for record in readable:
        by_question.setdefault(record["question_id"], []).append(record["score"])
    sums, counts = (np.array([of(s) for s in by_question.values()], np.float64) for of in (sum, len))
    average = lambda sums, counts: sums.sum() / counts.sum()
    interval = bootstrap_interval([sums, counts], average, vectorized=False) if by_question else None
    return {
        "first_turn": mean_figures(scores(1)) if scores(1) else None,
        "second_turn": mean_figures(scores(2)) if scores(2) else None,
        "average": {"mean": float(average(sums, counts)), "interval": interval} if by_question else None,
    }


def _prompt(question: MTBenchQuestion, replies: tuple[str, str], turn: int) -> str:
    conversation = []
    for said, replied in list(zip(question.turns, replies, strict=True))[:turn]:
        conversation += [Message("user", said), Message("assistant", replied)]
    return rating_prompt(conversation, question.reference if question.category in REFERENCED else ())
