"""MT-Bench's files of questions and answers in FastChat's format."""

import pytest

from gpmjax.evals.policies.mt_bench import answer_record, read_answers, read_questions, with_references
from gpmjax.evals.policies.outputs import write_records

QUESTION = {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}


def test_questions_are_read_with_their_temperature_and_reference(write):
    math = QUESTION | {"question_id": "m", "category": "math", "reference": ["3", ""]}
    own = QUESTION | {"question_id": 2, "category": "new", "required_temperature": 0.2}
    questions, malformed = read_questions(
        write("q.jsonl", [QUESTION, math, own, own | {"question_id": 3, "required_temperature": None}])
    )
    assert [q.temperature for q in questions] == [0.7, 0.0, 0.2, 0.7] and not malformed
    assert [q.reference for q in questions] == [(), ("3", ""), (), ()]
    assert [q.id for q in questions] == [81, "m", 2, 3]


def test_malformed_questions_are_named(write):
    bad = [{"turns": ["one"]}, {"turns": ["a", " "]}, {"turns": "ab"}, {"question_id": None}, {"category": 1}]
    questions, malformed = read_questions(write("q.jsonl", [QUESTION, *(QUESTION | change for change in bad)]))
    assert len(questions) == 1
    fields = [
        "'turns': must be 2 strings, is 1",
        "'turns': has an empty turn",
        "'turns': must be a list",
        "'question_id'",
        "'category'",
    ]
    assert len(malformed) == 5
    for number, (line, field) in enumerate(zip(malformed, fields, strict=True), 2):
        assert f"q.jsonl:{number}: field {field}" in line
    with pytest.raises(ValueError, match="q.jsonl:2: question_id 81 is that of .*q.jsonl:1 already"):
        read_questions(write("q.jsonl", [QUESTION, QUESTION]))


def test_written_answers_are_read_back(tmp_path):
    write_records(tmp_path / "a.jsonl", [answer_record(n, "gpm", [f"first {n}", ""], 1.5) for n in (81, 82)])
    answers = read_answers(str(tmp_path / "a.jsonl"))
    assert answers.model == "gpm" and {n: a.turns for n, a in answers.by_question.items()} == {
        81: ("first 81", ""),
        82: ("first 82", ""),
    }


def test_malformed_answers_are_named_and_several_models_refused(write):
    good = answer_record(81, "gpm", ["a", "b"], 0.0)
    bad = [
        good | {"question_id": 1, "choices": []},
        good | {"question_id": 2, "choices": [{"turns": ["a"]}]},
        {"question_id": 3},
    ]
    answers = read_answers(write("a.jsonl", [good, *bad]))
    assert list(answers.by_question) == [81] and len(answers.malformed) == 3
    with pytest.raises(ValueError, match="a.jsonl:2: model_id 'bt', must be 'gpm' as in .*a.jsonl:1"):
        read_answers(write("a.jsonl", [good, good | {"question_id": 82, "model_id": "bt"}]))


def test_references_of_a_file_replace_the_questions_own(write):
    questions, _ = read_questions(
        write("q.jsonl", [QUESTION | {"reference": ["x", "y"]}, QUESTION | {"question_id": 82}])
    )
    references = read_answers(write("r.jsonl", [answer_record(81, "gpt-4", ["good", "better"], 0.0)]))
    assert [q.reference for q in with_references(questions, references)] == [("good", "better"), ()]
