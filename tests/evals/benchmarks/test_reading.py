"""Reading of benchmark rows: every row becomes a group or is named as malformed."""

import pytest

from gpmjax.evals.benchmarks import BENCHMARKS
from gpmjax.evals.benchmarks.reading import read_examples

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "math-prm", "id": 1}
FOUR = {"prompt": "p", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math", "id": "1"}
TIES = {"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"], "subset": "Ties", "id": "tied:1"}
STYLES = {"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat", "id": 1}
JUDGE = {
    "question": "q",
    "response_A": "a",
    "response_B": "b",
    "label": "B>A",
    "source": "mmlu-pro-law",
    "pair_id": "x",
}
CYCLE = {"prompt": "p", "responses": ["a", "b", "c"], "prefer": [[0, 1], [1, 2], [2, 0]], "config": ["x", "y", "z"]}

WHOLE = {
    "rewardbench": [PAIR],
    "rewardbench2": [FOUR, TIES],
    "rm_bench": [STYLES],
    "judgebench": [JUDGE],
    "cyclic": [CYCLE],
}


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_well_formed_rows_are_read_and_the_right_response_wins(rows_file, name):
    path = rows_file(WHOLE[name])
    groups, malformed = read_examples(BENCHMARKS[name], path)
    assert malformed == [] and [group.where for group in groups] == [f"{path}:{n + 1}" for n in range(len(groups))]
    for group, row in zip(groups, WHOLE[name], strict=True):
        assert group.prompt[0].role == "user" and group.prompt[0].content in ("p", "q")
        right = {"judgebench": {"b"}, "cyclic": {"a", "b", "c"}}.get(name, set(row.get("chosen", "")))
        assert {group.responses[c.winner] for c in group.comparisons} == right


def test_messages_are_read_like_strings(rows_file):
    asked = [{"role": "user", "content": "p"}]

    def said(text):
        return [{"role": "assistant", "content": text}]

    rows = [
        ("rewardbench", PAIR | {"prompt": asked}, PAIR),
        ("rewardbench", PAIR | {"prompt": asked, "chosen": asked + said("a"), "rejected": asked + said("b")}, PAIR),
        ("rewardbench2", FOUR | {"prompt": asked, "chosen": [said("a")], "rejected": list(map(said, "bcd"))}, FOUR),
        ("rm_bench", STYLES | {"prompt": asked, "chosen": list(map(said, "abc"))}, STYLES),
        ("judgebench", JUDGE | {"question": [{"role": "user", "content": "q"}], "response_A": said("a")}, JUDGE),
    ]
    for name, messages, strings in rows:
        (one,), _ = read_examples(BENCHMARKS[name], rows_file([messages]))
        (other,), _ = read_examples(BENCHMARKS[name], rows_file([strings]))
        assert one == other


@pytest.mark.parametrize(
    "name, row, reason",
    [
        ("rewardbench", without(PAIR, "subset"), "field 'subset': missing; there is prompt, chosen, rejected, id"),
        ("rewardbench", PAIR | {"rejected": None}, "field 'rejected': missing; there is"),
        ("rewardbench", PAIR | {"chosen": 3}, "field 'chosen': must be a string or a list of messages, is int 3"),
        ("rewardbench", PAIR | {"subset": ""}, "field 'subset': must be a string that is not empty, is ''"),
        (
            "rewardbench2",
            FOUR | {"rejected": ["b"]},
            "field 'chosen': must hold 1 response and 'rejected' 3, hold 1 and 1",
        ),
        ("rewardbench2", FOUR | {"chosen": "a"}, "field 'chosen': must be a list, is a string"),
        ("rewardbench2", FOUR | {"chosen": [7]}, "field 'chosen[0]': must be a string or a list of messages, is int 7"),
        ("rewardbench2", FOUR | {"num_correct": 2}, "field 'num_correct': 2, but 'chosen' holds 1"),
        ("rewardbench2", TIES | {"id": "1"}, "field 'id': must be 'ref:NUMBER' or 'tied:NUMBER' in Ties, is '1'"),
        ("rewardbench2", TIES | {"chosen": ["a"]}, "field 'chosen': a tied prompt needs at least 2 right"),
        ("rewardbench2", TIES | {"id": "tied:01"}, "field 'id': 'tied:1' was at "),
        ("rm_bench", STYLES | {"rejected": ["d"]}, "field 'rejected': must hold 3 styles of one response, holds 1"),
        ("rm_bench", STYLES | {"domain": "law"}, "field 'domain': must begin with chat, math, code, safety, is 'law'"),
        ("judgebench", JUDGE | {"label": "A=B", "pair_id": "y"}, "field 'label': must be 'A>B' or 'B>A', is 'A=B'"),
        (
            "judgebench",
            without(JUDGE, "response_B"),
            "field 'response_B': missing; there is question, response_A, label",
        ),
        ("judgebench", JUDGE, "field 'id': 'x' was at "),
        ("cyclic", CYCLE | {"prefer": [[0, 5]]}, "field 'prefer[0]': must be the index of a response, 0 to 2, is 5"),
        ("cyclic", PAIR | {"chosen_probs": 0.5}, "field 'comparisons': none of them has a winner"),
    ],
)
def test_a_malformed_row_is_named_with_its_reason(rows_file, name, row, reason):
    whole = WHOLE[name]
    path = rows_file([*whole, row])
    groups, (bad,) = read_examples(BENCHMARKS[name], path)
    assert len(groups) == len(whole)
    assert bad.where == f"{path}:{len(whole) + 1}" and bad.reason.startswith(reason) and "\n" not in bad.reason


def test_a_file_without_a_well_formed_row_is_an_error(rows_file):
    path = rows_file([PAIR, PAIR])
    with pytest.raises(
        ValueError, match=r"rows.jsonl:1: field 'domain': missing.*none of the 2 rows is a row of rm_bench"
    ):
        read_examples(BENCHMARKS["rm_bench"], path)
