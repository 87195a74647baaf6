"""AlpacaEval's files: reading, writing, matching, and malformed rows."""

import pytest

from gpmjax.evals.policies.outputs import match, read_instructions, read_outputs, write_records


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_written_records_are_read_back(tmp_path, name):
    records = [{"instruction": f"{n}?", "output": "é\u2028" * n, "generator": "gpm", "dataset": "d"} for n in range(3)]
    write_records(tmp_path / name, records)
    read = read_outputs(str(tmp_path / name))
    assert [{k: v for k, v in row._asdict().items() if k != "where"} for row in read.rows] == records
    assert read.generator == "gpm" and read.malformed == []


def test_malformed_rows_are_named_and_the_others_kept(write):
    good = {"instruction": "a", "output": "", "generator": "g"}
    rows = [
        good,
        {"instruction": "b", "generator": "g"},
        good | {"output": 3},
        good | {"instruction": "c", "dataset": ["x"]},
    ]
    path = write("a.jsonl", rows)
    read = read_outputs(path)
    assert [row.instruction for row in read.rows] == ["a"]
    assert [line.removeprefix(path) for line in read.malformed] == [
        ":2: field 'output': missing",
        ":3: field 'output': must be a string, is int 3",
        ":4: field 'dataset': must be a string, is list ['x']",
    ]


def test_files_that_cannot_be_used_are_refused(write, outputs):
    with pytest.raises(
        ValueError, match=r"a.jsonl:1: field 'instruction': missing \(all 2 rows of .*a.jsonl are malformed\)"
    ):
        read_outputs(write("a.jsonl", [{}, {}]))
    rows = [{"instruction": "a", "output": "b", "generator": name} for name in ("one", "two")]
    with pytest.raises(ValueError, match="row 2: generator 'two', must be 'one' as in .*row 1"):
        read_outputs(write("b.json", rows))
    other = write("d.json", [{"instruction": "another", "output": "", "generator": "h"}])
    with pytest.raises(ValueError, match="c.json: answers none of the instructions of .*d.json"):
        match(read_outputs(outputs("c.json", "g", ["x"])), read_outputs(other))


def test_instructions_need_text_but_no_answers(write):
    rows, malformed = read_instructions(write("a.json", [{"instruction": "a", "dataset": "d"}, {"instruction": " "}]))
    assert [(row.instruction, row.dataset) for row in rows] == [("a", "d")]
    assert "is empty; an instruction needs text" in malformed[0]


def test_answers_are_matched_by_instruction_in_the_references_order(write):

    def row(instruction, output):
        return {"instruction": instruction, "output": output, "generator": "g"}

    policy = write("p.jsonl", [row("b", "p1"), row("twice", "p2"), row("new", "p3"), row("twice", "p4")])
    reference = write(
        "r.jsonl", [row("twice", "r1"), row("old", "r2"), row("b", "r3") | {"dataset": "d"}, row("twice", "r4")]
    )
    matched = match(read_outputs(policy), read_outputs(reference))
    assert [group.responses for group in matched.groups] == [("p2", "r1"), ("p1", "r3"), ("p4", "r4")]
    assert matched.places == [0, 2, 3] and [dict(group.tags) for group in matched.groups] == [{}, {"dataset": "d"}, {}]
    assert matched.unanswered == [f"{reference}:2"] and matched.unmatched == [f"{policy}:3"]
