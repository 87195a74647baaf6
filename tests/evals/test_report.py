"""An interrupted evaluation goes on; another one begins anew."""

import json

from gpmjax.evals.report import RowsFile


def write(path, identity, *records):
    with RowsFile(path, identity) as file:
        for record in records:
            file.write(record)
        return file.kept


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_evaluation_keeps_its_records_but_not_half_a_line(tmp_path):
    path = tmp_path / "deep" / "dev.rows.jsonl"
    write(path, {"model": "a", "by": ("x",)}, {"row": 0}, {"row": 1, "text": "line\u2028break"})
    with path.open("a") as file:
        file.write('{"row": 2, "sco')
    assert write(path, {"model": "a", "by": ("x",)}, {"row": 2}) == [{"row": 0}, {"row": 1, "text": "line\u2028break"}]
    assert [json.loads(line)["row"] for line in path.read_text().split("\n") if line] == [0, 1, 2]


def test_another_evaluation_replaces_them(tmp_path):
    path = tmp_path / "dev.rows.jsonl"
    write(path, {"model": "a"}, {"row": 0})
    assert write(path, {"model": "b"}, {"row": 5}) == [] and lines(path) == [{"row": 5}]
    assert write(path, None, {"row": 6}) == [] and lines(path) == [{"row": 6}]
    assert write(path, {"model": "b"}, {"row": 7}) == [] and lines(path) == [{"row": 7}]
