"""Every layout is read as a Group, and an entry of no layout is refused in one line."""

import pytest

from gpmjax.data.fields import FieldError
from gpmjax.data.formats import ParseOptions, parse_entry
from gpmjax.data.groups import Comparison, Message, user

ASK, SYSTEM = {"role": "user", "content": "Q"}, {"role": "system", "content": "S"}


def reply(text):
    return {"role": "assistant", "content": text}


def pair(**more):
    return {"prompt": "Q", "chosen": "good", "rejected": "bad"} | more


PAIR = (user("Q"), ("good", "bad"), (Comparison(0, 1),))


@pytest.mark.parametrize(
    "fields",
    [
        pair(),
        pair(prompt=[ASK]),
        {"instruction": "Q", "chosen": "good", "reject": "bad", "label": 3},
        {"chosen": [ASK, reply("good")], "rejected": [ASK, reply("bad")]},
        pair(chosen=[ASK, reply("good")], rejected=[ASK, reply("bad")]),
        pair(chosen=[reply("good")], rejected=[reply("bad")]),
        {"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"},
        pair(margin=None),
    ],
)
def test_all_forms_of_a_pair_are_read_alike(fields):
    group = parse_entry(fields, "f:1")
    assert (group.prompt, group.responses, group.comparisons) == PAIR


def test_shared_messages_are_the_prompt():
    turns = [SYSTEM, ASK, reply("A1"), {"role": "user", "content": "Q2"}]
    fields = {"chosen": [*turns, reply("good")], "rejected": [*turns, reply("good")]}
    group = parse_entry(fields, "f:1")
    assert [m.role for m in group.prompt] == ["system", "user", "assistant", "user"]
    assert group.responses == ("good", "good")  # equal sides are kept; the linter reports them


def test_a_system_message_may_stand_before_the_prompt_column():
    group = parse_entry(pair(chosen=[SYSTEM, ASK, reply("a")], rejected=[SYSTEM, ASK, reply("b")]), "f:1")
    assert group.prompt == (Message("system", "S"), Message("user", "Q"))


def test_margin_soft_target_and_tags():
    more = dict(chosen_probs_win=0.7, subset="s", aspects=["a", "b"], other={})
    group = parse_entry(pair(chosen_probs=0.8, margin="1.5", **more), "f:1")
    assert group.comparisons == (Comparison(0, 1, target=0.8, margin=1.5),)
    assert group.tags == {"chosen_probs_win": 0.7, "subset": "s", "aspects": "a,b"}


def test_indexed_comparisons():
    items = [
        {"chosen_idx": 2, "rejected_idx": 0, "margin": 2},
        {"chosen_idx": 0, "rejected_idx": 1, "target": 0.5, "weight": 3},
    ]
    group = parse_entry({"prompt": "Q", "responses": ["a", "b", "c"], "comparisons": items}, "f:1")
    assert group.comparisons == (Comparison(2, 0, margin=2.0), Comparison(0, 1, target=0.5, weight=3.0))


def test_prefer_over_a_document_or_a_dialogue():
    cycle = {"responses": ["a", "b", "c"], "prefer": [[0, 1], [1, 2], [2, 0]], "config": ["x", "y"]}
    group = parse_entry({"document": "{context} D", **cycle}, "f:1")
    assert group.prompt == user("Summarise the following text.\n\n{context} D")
    assert [(c.chosen, c.rejected) for c in group.comparisons] == [(0, 1), (1, 2), (2, 0)]
    assert group.tags == {"config": "x,y"}
    assert parse_entry({"context": "D", **cycle}, "f:1").prompt == user(
        "Write the next reply in this conversation.\n\nD"
    )
    assert parse_entry({"context": [ASK], **cycle}, "f:1").prompt == user("Q")
    assert parse_entry({"prompt": "Q", **cycle}, "f:1").prompt == user("Q")
    assert parse_entry(
        {"document": "D", **cycle}, "f:1", ParseOptions(document_prompt="TL;DR {document}")
    ).prompt == user("TL;DR D")


def test_ranked_completions():
    completions = [
        {"rank": 2, "completion": "b"},
        {"rank": 1, "completion": [reply("a")]},
        {"rank": 2, "completion": "c"},
    ]
    fields = {"context": [SYSTEM, ASK], "completions": completions}
    group = parse_entry(fields, "f:1")
    assert group.responses == ("b", "a", "c") and len(group.prompt) == 2
    assert group.comparisons == (Comparison(1, 0), Comparison(0, 2, target=0.5), Comparison(1, 2))
    assert len(parse_entry(fields, "f:1", ParseOptions(ties="drop")).comparisons) == 2


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"prompt": "Q", "text": "t"}, "field 'chosen': missing; the entry has prompt, text; allowed: chosen"),
        ({"prompt": "Q", "chosen": "a"}, "field 'rejected': missing"),
        (pair(chosen=3), "field 'chosen': must be a string or a list of messages, is int 3"),
        (pair(rejected=["a", "b"]), "field 'rejected[0]': must be a message"),
        (pair(rejected=[reply("a")]), "field 'rejected': must be a string like 'chosen', is a list of messages"),
        (pair(margin="wide"), "field 'margin': must be a finite number, is 'wide'"),
        (pair(margin=10**399), "field 'margin': must be a finite number, is an integer of 400 digits"),
        (pair(margin="9" * 400), "field 'margin': must be a finite number, is '99999999999999999...9999"),
        (pair(margin=1e39), "field 'margin': must be a finite number, is 1e+39"),  # infinite in float32
        (pair(margin=float("nan")), "field 'margin': must be a finite number, is nan"),
        (pair(chosen_probs=1.2), r"field 'chosen_probs': must be a finite number in [0, 1], is 1.2"),
        ({"chosen": "a", "rejected": "b"}, "field 'prompt': missing, and 'chosen' is not a conversation"),
        (
            {"chosen": [reply("a")], "rejected": [reply("b")]},
            "field 'prompt': missing, and 'chosen' and 'rejected' share no",
        ),
        (
            {"chosen": [ASK, reply("a"), ASK, reply("c")], "rejected": [ASK, reply("b")]},
            "must be one assistant message after",
        ),
        ({"chosen": [ASK, ASK], "rejected": [ASK, reply("b")]}, "field 'chosen': must be one assistant message"),
        (pair(prompt="other", chosen=[ASK, reply("a")], rejected=[ASK, reply("b")]), "field 'prompt': differs from"),
        (
            {"prompt": "Q", "responses": ["a", 1], "prefer": []},
            "field 'responses[1]': must be a string or a list of messages, is int 1",
        ),
        ({"prompt": "Q", "responses": ["a", "b"]}, "field 'comparisons': missing"),
        ({"prompt": "Q", "responses": ["a", "b"], "prefer": [[0, 2]]}, "field 'prefer[0]': must be the index"),
        ({"prompt": "Q", "responses": ["a", "b"], "prefer": [[0, -(10**400)]]}, "1, is an integer of 401 digits"),
        ({"prompt": "Q", "responses": ["a", "b"], "prefer": [3]}, r"field 'prefer[0]': must be two indices"),
        (
            {"prompt": "Q", "responses": ["a"], "comparisons": [{"chosen_idx": 0}]},
            "'comparisons[0].rejected_idx': must be",
        ),
        ({"responses": ["a", "b"], "prefer": [[0, 1]]}, "field 'prompt': missing"),
        (
            {"context": "Q", "completions": [{"completion": "a"}]},
            "field 'completions[0].rank': must be a finite number",
        ),
        ({"context": "Q", "completions": [{"rank": 1}]}, "field 'completions[0].completion': missing"),
        ({"context": "Q", "completions": "a"}, "field 'completions': must be a list, is a string"),
    ],
)
def test_errors_name_place_field_and_value(fields, message):
    with pytest.raises(FieldError) as caught:
        parse_entry(fields, "f.jsonl:7")
    assert (
        str(caught.value).startswith("f.jsonl:7: ") and message in str(caught.value) and "\n" not in str(caught.value)
    )


def test_reading_refuses_unknown_choices():
    with pytest.raises(ValueError, match="ties='win': must be one of 'half', 'drop'"):
        ParseOptions(ties="win")
    with pytest.raises(ValueError, match="document_prompt='Sum up': must contain {document}"):
        ParseOptions(document_prompt="Sum up")
