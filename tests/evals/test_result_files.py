"""Files of records: resumption, replacement, ownership and damage."""

import json

import pytest

from gpmjax.evals.result_files import RowsFile
from gpmjax.owner import InUse


def write(path, identity, *records):
    with RowsFile(path, identity) as file:
        for record in records:
            file.write(record)
        return file.kept


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_of_the_same_identity_are_kept_without_an_unfinished_line(tmp_path):
    path = tmp_path / "deep" / "dev.rows.jsonl"
    write(path, {"model": "a", "by": ("x",)}, {"row": 0}, {"row": 1, "text": "line\u2028break"})
    with path.open("a") as file:
        file.write('{"row": 2, "sco')
    assert write(path, {"model": "a", "by": ("x",)}, {"row": 2}) == [{"row": 0}, {"row": 1, "text": "line\u2028break"}]
    assert [json.loads(line)["row"] for line in path.read_text().split("\n") if line] == [0, 1, 2]


def test_records_of_another_identity_are_replaced(tmp_path):
    path = tmp_path / "dev.rows.jsonl"
    write(path, {"model": "a"}, {"row": 0})
    assert write(path, {"model": "b"}, {"row": 5}) == [] and lines(path) == [{"row": 5}]
    assert write(path, None, {"row": 6}) == [] and lines(path) == [{"row": 6}]
    assert write(path, {"model": "b"}, {"row": 7}) == [] and lines(path) == [{"row": 7}]


def test_two_processes_do_not_write_one_file(tmp_path):
    path = tmp_path / "dev.rows.jsonl"
    with RowsFile(path, {"model": "a"}) as file:
        with pytest.raises(InUse, match="records=.*dev.rows.jsonl: in use by process"):
            write(path, {"model": "a"})
        file.write({"row": 0})
    assert write(path, {"model": "a"}) == [{"row": 0}] and not list(tmp_path.glob("*.lock"))


def test_a_full_disk_keeps_whole_records_and_names_the_file(tmp_path, full_disk):
    path = tmp_path / "dev.rows.jsonl"
    write(path, {"model": "a"}, {"row": 0})
    with full_disk(600), pytest.raises(OSError, match="dev.rows.jsonl: the last record is not written "):
        write(path, {"model": "a"}, *({"row": n, "text": "x" * 37} for n in range(1, 100)))
    kept = write(path, {"model": "a"})
    assert 1 < len(kept) < 100 and [record["row"] for record in kept] == list(range(len(kept)))


def test_an_unreadable_identity_is_another_and_a_malformed_record_is_named(tmp_path):
    path = tmp_path / "dev.rows.jsonl"
    write(path, {"model": "a"}, {"row": 0})
    path.with_suffix(".plan.json").write_bytes(b"\xff{")
    assert write(path, {"model": "a"}, {"row": 1}) == []
    path.write_text('{"row": 1}\n{"row"\n{"row": 2}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="dev.rows.jsonl:2: not JSON .*delete the file to begin again"):
        write(path, {"model": "a"})
