"""Ratings belong to their own responses in every layout, and a missing rating is NaN."""

import math

import pytest

from gpmjax.data.formats import parse_entry
from gpmjax.data.groups import Group, user
from gpmjax.data.ratings import RatedGroup, find_ratings, rated_groups
from gpmjax.data.sources import Entry

NAN = math.nan


def rated(**fields):
    (found,) = rated_groups([Entry("f.jsonl:1", fields)])
    return found


def same(found, expected):
    return str(found) == str(expected)  # NaN differs from itself


def test_rated_responses():
    found = rated(prompt="?", responses=["x", "y"], ratings={"wit": [1, "2.5"], "depth": [None, 3]}, subset="s")
    assert found.group == Group(user("?"), ("x", "y"), (), {"subset": "s"}, "f.jsonl:1")
    assert same(found.ratings, {"wit": [1.0, 2.5], "depth": [NAN, 3.0]})


def test_ultrafeedback_entries():
    completions = [
        {"response": "x", "annotations": {"honesty": {"Rating": "4"}, "wit": {"Rating": "N/A"}}},
        {"response": "y", "ratings": {"honesty": 2}},
    ]
    found = rated(instruction="?", completions=completions)
    assert found.group.responses == ("x", "y") and found.group.prompt == user("?")
    assert same(found.ratings, {"honesty": [4.0, 2.0], "wit": [NAN, NAN]})


@pytest.mark.parametrize(
    "prompt", [{"document": "d"}, {"context": "c"}, {"prompt": [{"role": "user", "content": "q"}]}], ids=str
)
@pytest.mark.parametrize(
    "labels", [{}, {"prefer": [[1, 0]]}, {"comparisons": [{"chosen_idx": 1, "rejected_idx": 0}]}], ids=str
)
def test_prompts_equal_those_of_labelled_entries(prompt, labels):
    fields = {**prompt, "responses": ["x", "y"], **labels}
    expected = parse_entry(fields if labels else {"prefer": [], **fields}, "f.jsonl:1")
    found = rated(**fields, ratings={"wit": [1, 2]})
    assert found.group == expected and same(find_ratings([expected], [found]), [{"wit": [1.0, 2.0]}])


def test_ratings_are_found_by_prompt_and_text():
    known = [
        RatedGroup(Group(user("p"), ("x", "y")), {"wit": [1.0, NAN]}),
        RatedGroup(Group(user("q"), ("x",)), {"wit": [9.0], "depth": [4.0]}),
        RatedGroup(Group(user("p"), ("x",)), {"wit": [2.0]}),
    ]
    groups = [Group(user("p"), ("z", "y", "x")), Group(user("q"), ("x",))]
    expected = [{"wit": [NAN, NAN, 1.5], "depth": [NAN, NAN, NAN]}, {"wit": [9.0], "depth": [4.0]}]
    assert same(find_ratings(groups, known), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"responses": ["x"], "ratings": {"wit": [1, 2]}},
            "'ratings.wit': must have one number for each of 1 responses, has 2",
        ),
        ({"responses": ["x"], "ratings": {"wit": 3}}, "'ratings.wit': must be a list, is int 3"),
        ({"responses": ["x"], "ratings": [3]}, "'ratings': must be an object"),
        ({"responses": ["x"]}, "'ratings': must be an object"),
        ({"completions": [{"response": "x"}]}, r"'completions\[0\].ratings': must be an object"),
        ({"completions": [{"ratings": {}}]}, r"'completions\[0\].response': must be a string"),
    ],
    ids=str,
)
def test_entries_of_neither_layout_are_named(fields, message):
    with pytest.raises(ValueError, match=f"^f.jsonl:1: field {message}"):
        rated(prompt="?", **fields)


@pytest.mark.parametrize("value", [10**400, float("inf"), "1e999", 1e300, True])
@pytest.mark.parametrize("layout", ["responses", "completions"])
def test_ratings_beyond_float32_are_named(layout, value):
    entries = {
        "responses": {"prompt": "?", "responses": ["x", "y"], "ratings": {"wit": [5, value]}},
        "completions": {
            "instruction": "?",
            "completions": [{"response": "x", "annotations": {"wit": {"Rating": value}}}],
        },
    }
    with pytest.raises(ValueError, match=r"^f:7: field '.*ratings.wit.*': must be a finite number, is .{1,40}$"):
        rated_groups([Entry("f:7", entries[layout])])
