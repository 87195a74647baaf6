"""MT-Bench by grading, with a real server."""

import numpy as np
import pytest

from gpmjax.evals.policies.grading import UNREADABLE, grade, grade_figures
from gpmjax.evals.policies.mt_bench import answer_record, read_answers, read_questions


@pytest.fixture
def files(write):
    """Three questions, the last one of mathematics with a reference, and answers to the last two and to an unknown
    one."""
    rows = [
        {"question_id": n, "category": category, "turns": [f"ask {n}", f"ask {n} more"]} | more
        for n, category, more in (
            (1, "writing", {}),
            (2, "roleplay", {"reference": ["unused", "unused"]}),
            (3, "math", {"reference": ["42", ""]}),
        )
    ]
    answers = [answer_record(n, "gpm", [f"first {n}", f"second {n}"], 0.0) for n in (2, 3, 9)]
    questions, _ = read_questions(write("q.jsonl", rows))
    return questions, read_answers(write("a.jsonl", [*answers, {"question_id": 4}]))


def test_each_turn_is_shown_with_the_turns_before_it(http_server, completion, replying, open_endpoint, files):
    http_server.script = [replying(lambda prompt: completion("Fine. [[7]]"))]
    records = grade(open_endpoint(), *files)
    assert [(r["question_id"], r["turn"], r["score"]) for r in records] == [(2, 1, 7), (2, 2, 7), (3, 1, 7), (3, 2, 7)]
    one, two, three, four = (record["user_prompt"] for record in records)
    assert "User: ask 2\n\nAssistant: first 2\n" in one and "more" not in one and "second 2" not in one
    assert "Assistant: first 2\n\nUser: ask 2 more\n\nAssistant: second 2\n" in two
    assert "Rate only the last answer" in two and "unused" not in one + two
    assert "To turn 1: 42" in three and "To turn 1: 42" in four and "To turn 2" not in four
    assert records[0]["model"] == "gpm" and records[0]["judge"] == ["judge", "rating"]


def test_figures_of_turns_their_average_and_missing_rows(http_server, completion, replying, open_endpoint, files):
    ratings = {"first 2": "[[8]]", "second 2": "[[4]]", "first 3": "[[6]]", "second 3": "no idea"}

    def rate(prompt):
        last = max(ratings, key=lambda text: prompt.rfind(f"Assistant: {text}"))
        return completion(ratings[last])

    http_server.script = [replying(rate)]
    records = grade(open_endpoint(), *files)
    figures = grade_figures(records, *files)
    assert records[-1]["score"] == UNREADABLE
    assert figures["first_turn"]["mean"] == 7 and figures["second_turn"]["mean"] == 4
    assert figures["average"]["mean"] == 6  # of all three ratings
    math = figures["by"]["category"]["math"]
    assert math["second_turn"] is None and math["average"]["mean"] == 6
    rows = figures["rows"]
    assert (rows["questions"], rows["ratings"]) == (3, 3)
    assert rows["unreadable_ratings"] == {"count": 1, "at": ["question 3, turn 2"]}
    assert rows["unanswered"]["count"] == rows["unknown_questions"]["count"] == rows["malformed"]["count"] == 1
    assert rows["unanswered"]["at"][0].endswith("q.jsonl:1")
    assert rows["unknown_questions"]["at"][0].endswith("a.jsonl:3")


def test_the_interval_draws_both_ratings_of_a_question_together(files):
    """If a question's two ratings are equal, the interval of the average is that of one turn."""
    draw = np.random.default_rng(0)
    records = [
        {"question_id": n, "category": "c", "turn": turn, "score": int(score)}
        for n, score in enumerate(draw.integers(1, 11, 60))
        for turn in (1, 2)
    ]
    figures = grade_figures(records, *files)
    assert figures["average"]["interval"] == pytest.approx(figures["first_turn"]["interval"], abs=0.12)


def test_figures_without_a_readable_rating_are_none(files):
    figures = grade_figures([{"question_id": 2, "category": "c", "turn": 1, "score": UNREADABLE}], *files)
    assert figures["first_turn"] is figures["average"] is None and figures["rows"]["unreadable_ratings"]["count"] == 1
