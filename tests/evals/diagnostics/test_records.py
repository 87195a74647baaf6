"""Records: what is read from them, and which files are refused."""

import json

import numpy as np
import pytest

from gpmjax.evals.diagnostics.records import by_tag, labelled, read_records, skew_scores

NAN = np.nan


def test_both_orders_are_averaged_and_one_is_enough(make_record):
    record = make_record([[9.0, 3.0, NAN], [-1.0, NAN, 4.0], [NAN, NAN, 0.0]])
    np.testing.assert_array_equal(skew_scores(record), [[0, 2, NAN], [-2, 0, 4], [NAN, -4, 0]])


def test_labelled_comparisons_have_their_own_groups_lengths(make_record):
    first = make_record([[0, 1], [-1, 0]], [(0, 1), (1, 1)], tokens=[7, 8])
    second = make_record([[0, 5], [-5, 0]], [(1, 0, 0.5)], tokens=[3, 4])
    known = labelled([first, second])
    assert known.record.tolist() == [0, 1] and known.score.tolist() == [1, -5] and known.target.tolist() == [1, 0.5]
    assert [side.tolist() for side in known.of_responses([first, second], "tokens")] == [[7, 4], [8, 3]]


def test_values_of_tags_are_compared_as_text(make_record):
    records = [make_record([[0]], tags={"subset": value}) for value in (2, "chat", 2)]
    assert {value: len(part) for value, part in by_tag(records, ["subset"])["subset"].items()} == {"2": 2, "chat": 1}


def test_a_written_record_is_read_back(make_record, tmp_path):
    record = make_record([[0, NAN], [2.0, 0]], [(1, 0)])
    path = tmp_path / "a.groups.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert read_records(str(path)) == [record]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [[0, 1]]}, r"field 'scores\[0\]': must have 1 entries, has 2"),
        ({"scores": "no"}, "field 'scores': must be a list"),
        ({"tau": 0}, "field 'tau': must be a finite number"),
        ({"tokens": [1]}, "field 'tokens': must have 2 entries, has 1"),
        ({"comparisons": [[0, 2, 1.0]]}, r"field 'comparisons\[0\]': must be the index of a response"),
        ({"comparisons": [[0, 1]]}, r"field 'comparisons\[0\]': must have 3 entries, has 2"),
        ({"comparisons": [[0, 1, 1.0]], "scores": [[0, None], [None, 0]]}, "of which there is no finite score"),
        ({"embedding": [[1.0, 2.0]] * 2, "scale": [1.0, 2.0]}, "field 'scale': must have 1 entries, has 2"),
        ({"ratings": {"wit": [1]}}, "field 'ratings.wit': must have 2 entries, has 1"),
        ({"forward_tokens": ...}, "field 'forward_tokens': missing"),
    ],
    ids=str,
)
def test_a_malformed_record_is_named_with_its_line_and_field(make_record, tmp_path, change, message):
    record = make_record([[0, 1], [-1, 0]]) | change
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not ...}) + "\n")
    with pytest.raises(ValueError, match=f"a.jsonl:1: .*{message}") as refusal:
        read_records(str(path))
    assert "\n" not in str(refusal.value)
