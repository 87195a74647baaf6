"""Whatever stands in a field of a file, every reader of rows takes it or refuses it in one line that names file and
row."""

import copy
import json

import pytest

from gpmjax.data.aspects import aspect_cycles
from gpmjax.data.group_files import read_groups
from gpmjax.data.prompts import read_prompts
from gpmjax.data.ratings import rated_groups
from gpmjax.data.sources import read_entries
from gpmjax.evals.benchmarks.cyclic import CYCLIC
from gpmjax.evals.benchmarks.judgebench import JUDGEBENCH
from gpmjax.evals.benchmarks.reading import read_examples
from gpmjax.evals.benchmarks.rewardbench import REWARDBENCH
from gpmjax.evals.benchmarks.rewardbench2 import REWARDBENCH2
from gpmjax.evals.benchmarks.rm_bench import RM_BENCH
from gpmjax.evals.diagnostics.records import labelled, read_records
from gpmjax.evals.policies.length_controlled import read_difficulty
from gpmjax.evals.policies.mt_bench import read_answers, read_questions
from gpmjax.evals.policies.outputs import read_instructions, read_outputs

RATED = {"response": "x", "ratings": {"a": 4}, "annotations": {"b": {"Rating": "4"}}}
CALL = {"function": {"name": "f", "arguments": {"a": 1}}}
RECORD = {
    "scores": [[0.0, 1.0], [-1.0, 0.0]], "tau": 1.0, "comparisons": [[0, 1, 1.0]],
    "tokens": [1, 2], "characters": [1, 2],
    "forward_tokens": 3, "tags": {"a": "b"}, "embedding": [[1.0, 2.0], [0.0, 1.0]], "scale": [1.0],
    "asked": [[True, True], [True, True]], "ratings": {"a": [1, None]},
    "texts": {"prompt": "p", "responses": ["a", "b"]},
}  # fmt: skip
ASK = {"role": "user", "content": "q"}
ODD = [10**400, 1e300, float("nan"), "9" * 400, True, None, "", {}, [], [None], {"a": 1}, -1, 3.5, "text", [[1]]]


def examples(benchmark):
    return lambda path: read_examples(benchmark, path)


READERS = {
    "pairs": (
        read_groups,
        {
            "prompt": "q",
            "chosen": "a",
            "rejected": "b",
            "margin": 1,
            "chosen_probs": 0.5,
            "history": [["a", "b"]],
            "tools": [CALL],
        },
    ),
    "conversations": (
        read_groups,
        {
            "chosen": [ASK, {"role": "assistant", "content": "a", "tool_calls": [CALL]}],
            "rejected": [ASK, {"role": "assistant", "content": "b"}],
        },
    ),
    "groups": (
        read_groups,
        {
            "prompt": "q",
            "responses": ["a", "b"],
            "comparisons": [{"chosen_idx": 0, "rejected_idx": 1, "target": 1, "weight": 1}],
        },
    ),
    "preferences": (read_groups, {"document": "q", "responses": ["a", "b"], "prefer": [[0, 1]]}),
    "ranked": (
        read_groups,
        {"context": "q", "completions": [{"rank": 1, "completion": "a"}, {"rank": 2, "completion": "b"}]},
    ),
    "prompts": (read_prompts, {"instruction": "q", "input": "x", "system": "s"}),
    "rated": (
        lambda path: rated_groups(read_entries(path)),
        {"prompt": "q", "responses": ["a", "b"], "ratings": {"a": [1, 2]}},
    ),
    "completions": (lambda path: rated_groups(read_entries(path)), {"instruction": "q", "completions": [RATED, RATED]}),
    "aspects": (
        lambda path: aspect_cycles(read_entries(path), ("a", "b", "c")),
        {"instruction": "q", "completions": [RATED, RATED]},
    ),
    "outputs": (read_outputs, {"instruction": "q", "output": "a", "generator": "g", "dataset": "d"}),
    "instructions": (read_instructions, {"instruction": "q", "dataset": "d"}),
    "questions": (
        read_questions,
        {"question_id": 1, "category": "math", "turns": ["a", "b"], "reference": ["x"], "required_temperature": 0.5},
    ),
    "answers": (read_answers, {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}]}),
    "difficulty": (
        read_difficulty,
        {"index": 1, "instruction_difficulty": 0.5, "preference": 0.5, "std_delta_len": 0.1},
    ),
    "records": (lambda path: labelled(read_records(path)), RECORD),
    "rewardbench": (
        examples(REWARDBENCH),
        {"prompt": "q", "chosen": "a", "rejected": "b", "subset": "hep-go", "id": 1},
    ),
    "rewardbench2": (
        examples(REWARDBENCH2),
        {"prompt": "q", "chosen": ["a", "e"], "rejected": ["b"], "subset": "Ties", "id": "tied:1", "num_correct": 2},
    ),
    "rm_bench": (
        examples(RM_BENCH),
        {"prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"},
    ),
    "judgebench": (
        examples(JUDGEBENCH),
        {"question": "q", "response_A": "a", "response_B": "b", "label": "A>B", "source": "mmlu-pro", "pair_id": "1"},
    ),
    "cyclic": (examples(CYCLIC), {"instruction": "q", "chosen": "a", "reject": "b", "label": 1}),
}


def places(value, place=()):
    """Every place in a row, as keys and indices."""
    if place:
        yield place
    for key, inside in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inside, (*place, key))


@pytest.mark.parametrize("name", READERS)
def test_every_field_with_every_odd_value(tmp_path, name):
    read, row = READERS[name]
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    read(str(path))
    refused = 0
    for place in places(row):
        for odd in ODD:
            spoilt = copy.deepcopy(row)
            inside = spoilt
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = odd
            path.write_text(json.dumps(spoilt) + "\n", encoding="utf-8")
            try:
                read(str(path))
            except ValueError as error:
                refused += 1
                assert "odd.jsonl:1: " in str(error) and "\n" not in str(error) and len(str(error)) < 500, (place, odd)
    assert refused > len(ODD)
