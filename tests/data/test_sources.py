"""Every kind of file gives the same entries; an unreadable entry is refused in one line that names the place."""

import csv
import gzip
import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from gpmjax.data.sources import read_entries, split_source

ENTRIES = [
    {"prompt": "Größe?", "chosen": "a,\nb", "rejected": "c", "config": "x"},
    {"prompt": "q", "chosen": "d" * 200_000, "rejected": "e", "config": "y"},
]
DEEP = b"[" * 100_000 + b"]" * 100_000


def write(path, entries=ENTRIES):
    path.parent.mkdir(exist_ok=True)
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    if path.name.endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(lines)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(entries), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(entries[0]))
            writer.writeheader()
            writer.writerows(entries)
    else:
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(entries), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.json", "r.parquet", "r.csv"])
def test_every_kind_of_file_reads_alike(tmp_path, name):
    entries = list(read_entries(write(tmp_path / name)))
    assert [entry.fields for entry in entries] == ENTRIES
    assert all(entry.where.startswith(str(tmp_path / name)) and entry.where[-1].isdigit() for entry in entries)


def test_a_json_file_may_have_json_lines_and_blank_lines_count(tmp_path):
    (tmp_path / "r.json").write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [entry.where.rpartition(":")[2] for entry in read_entries(str(tmp_path / "r.json"))] == ["1", "3"]


def test_csv_lines_and_missing_values(tmp_path):
    (tmp_path / "r.csv").write_text('a,b\n"1\n2",\n3,4\n')
    first, second = read_entries(str(tmp_path / "r.csv"))
    assert first.fields == {"a": "1\n2", "b": None}
    assert first.where.endswith("r.csv:3") and second.where.endswith("r.csv:4")


def test_filter(tmp_path):
    path = write(tmp_path / "r.jsonl", [{"config": ["a", "b"], "n": 1}, {"config": ["a"], "n": 1}, {"n": 2}])
    assert [entry.fields["n"] for entry in read_entries(f"{path}?config=a,b")] == [1]
    assert len(list(read_entries(f"{path}?n=1"))) == 2 and len(list(read_entries(f"{path}?config=a&n=1"))) == 1
    with pytest.raises(ValueError, match="column 'config' holds: a,b, a$"):
        list(read_entries(f"{path}?config=b"))
    with pytest.raises(ValueError, match="there is no column 'colour'"):
        list(read_entries(f"{path}?colour=red"))
    with pytest.raises(ValueError, match="must be column=value"):
        list(read_entries(f"{path}?colour"))


def test_a_question_mark_in_a_files_name_is_not_a_filter(tmp_path):
    path = write(tmp_path / "what?.jsonl")
    assert split_source(path) == (path, {}) and len(list(read_entries(path))) == 2


BROKEN = [
    ("r.jsonl", b"", "r.jsonl: empty, has no entry"),
    ("r.jsonl", b'{"a": 1}\n{"a": \n', "r.jsonl:2: not valid JSON"),
    ("r.jsonl", b'{"a": 1}\n[1]\n', "r.jsonl:2: must be an object with fields, is list"),
    ("r.jsonl", b"\xff\xfe", "r.jsonl:1: not UTF-8 (byte 0xff)"),
    ("r.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', "r.jsonl:2: not UTF-8 (byte 0xe9)"),
    ("r.json", b'[{"a": 1},\n{"a": "\xe9"}]', "r.json: not UTF-8 (byte 0xe9 in line 2)"),
    ("r.csv", b"a,b\n1,2\n3,\xe9\n", "r.csv:3: not UTF-8 (byte 0xe9)"),
    ("r.csv", b"a, a\n1,2\n", "r.csv:1: two columns are named 'a'"),
    ("r.jsonl", b'{"a": 1}\n{"a": ' + DEEP + b"}\n", "r.jsonl:2: cannot be read as JSON (lists or objects nested too"),
    (
        "r.json",
        b'[{"a": 1}, {"a": ' + DEEP + b"}]",
        "r.json: row 2: cannot be read as JSON (lists or objects nested too",
    ),
    ("r.jsonl", b'{"a": ' + DEEP[99_800:100_200] + b"}", "r.jsonl:1: lists or objects are nested more than 100 deep"),
    (
        "r.json",
        b'[{"a": ' + DEEP[99_800:100_200] + b"}]",
        "r.json: row 1: lists or objects are nested more than 100 deep",
    ),
    (
        "r.jsonl",
        b'{"a": 1}\n{"a": ' + b"1" * 5000 + b"}\n",
        "r.jsonl:2: cannot be read as JSON (a number of more than 4300",
    ),
    (
        "r.json",
        b'[{"a": 1}, {"a": ' + b"1" * 5000 + b"}]",
        "r.json: row 2: cannot be read as JSON (a number of more than",
    ),
    ("r.json", b'[{"a": 1}, {"a": nan}]', "r.json: row 2: not valid JSON"),
    ("r.jsonl", b'{"a": 1}\n{"a": {"b": ["x\\uD83D"]}}\n', "r.jsonl:2: field 'a': holds a lone surrogate ('\\ud83d')"),
    ("r.json", b'[{"a": 1}, {"\\udc00": 1}]', "r.json: row 2: field '\\udc00': holds a lone surrogate"),
    ("r.jsonl.gz", b"not gzip", "r.jsonl.gz: cannot be read"),
    ("r.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:-9], "r.jsonl.gz: cannot be read after line 9"),
    ("r.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0)[:10] + b"\xff" * 20, "r.jsonl.gz: cannot be read"),
    ("r.json", b"[1, ", "r.json: not valid JSON"),
    ("r.json", b"[1]", "r.json: row 1: must be an object"),
    ("r.csv", b"a,b\n1\n", "r.csv:2: must have 2 columns"),
    ("r.csv", b'a,b\n"1\n\n\n', "r.csv:2: not valid csv"),
    ("r.parquet", b"PAR1", "r.parquet: not valid parquet"),
    (
        "r.parquet",
        b"PAR1" + b"\xff" * 99 + b"\x20\0\0\0PAR1",
        "r.parquet: not valid parquet (Couldn't deserialize thrift",
    ),
    ("r.txt", b"text", "r.txt: unknown kind of file; allowed: .jsonl, "),
]


@pytest.mark.parametrize("name, content, message", BROKEN, ids=[message[:40] for *_, message in BROKEN])
def test_broken_files_are_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        list(read_entries(str(tmp_path / name)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.json", "r.csv", "r.csv.gz"])
def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path, name):
    content = "margin,prompt\r\n1.5,Größe?\r\n" if "csv" in name else '{"margin": 1.5, "prompt": "Größe?"}'
    content = f"[{content}]" if name.endswith(".json") else content
    encoded = content.encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(encoded, mtime=0) if name.endswith(".gz") else encoded)
    (entry,) = read_entries(str(tmp_path / name))
    assert {field: str(value) for field, value in entry.fields.items()} == {"margin": "1.5", "prompt": "Größe?"}


def test_whitespace_around_csv_headers_is_stripped(tmp_path):
    (tmp_path / "r.csv").write_text("\n prompt ,chosen\t, rejected\n q , a,b\n\n")
    (entry,) = read_entries(str(tmp_path / "r.csv"))
    assert entry.fields == {"prompt": " q ", "chosen": " a", "rejected": "b"}


def test_an_entry_of_parquet_that_is_not_utf8_is_named(tmp_path):
    offsets, letters = np.array([0, 1, 2, 3], np.int32), b"a\xffb"
    column = pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(letters)]
    )
    pyarrow.parquet.write_table(pyarrow.table({"prompt": column}), tmp_path / "r.parquet")
    with pytest.raises(ValueError, match=r"r.parquet: row 2: cannot be read \('utf-8' codec can't decode byte 0xff"):
        list(read_entries(str(tmp_path / "r.parquet")))
    refused = []
    assert [entry.fields["prompt"] for entry in read_entries(str(tmp_path / "r.parquet"), refuse=refused.append)] == [
        "a",
        "b",
    ]
    assert len(refused) == 1


def test_reading_goes_on_after_refused_entries(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n{\n[2]\n{"a": "\\ud83d"}\n{"a": 5}\n')
    (tmp_path / "r.csv").write_bytes(b"a,b\n1,2\n3\n\xff,1\n5,6\n")
    for name in ("r.jsonl", "r.csv"):
        refused = []
        entries = list(read_entries(str(tmp_path / name), refuse=refused.append))
        assert [int(entry.fields["a"]) for entry in entries] == [1, 5]
        assert [line.partition(": ")[0][-1] for line in refused] == {"r.jsonl": ["2", "3", "4"], "r.csv": ["3", "4"]}[
            name
        ]


def test_text_is_utf8_whatever_the_locale(tmp_path):
    path = write(tmp_path / "r.jsonl")
    program = (
        f"from gpmjax.data.sources import read_entries; print(ascii(next(read_entries({path!r})).fields['prompt']))"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "'Gr\\xf6\\xdfe?'\n"


def test_missing_file():
    for source in ("nowhere/pairs.jsonl", "a/b/c", "pairs"):
        with pytest.raises(FileNotFoundError, match="no such file; a hub data set is written owner/name"):
            list(read_entries(source))


def test_hub_ids_go_through_datasets(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        if name == "no/where":
            raise ConnectionError("cannot reach the hub\nmore")
        return datasets.Dataset.from_list(ENTRIES)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (entry,) = read_entries("owner/name:dev?config=y")
    assert entry.fields == ENTRIES[1] and entry.where == "owner/name:dev: row 2"
    list(read_entries("owner/name"))
    assert asked == [("owner/name", "dev"), ("owner/name", "train")]
    with pytest.raises(FileNotFoundError, match=r"no/where: no such file.*\(cannot reach the hub\)$"):
        list(read_entries("no/where"))


def test_a_preferred_split_is_read_if_the_source_names_none(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split, entries in (("train", ENTRIES[:1]), ("test", ENTRIES[1:])):
        write(tmp_path / "both" / f"{split}.jsonl", entries)
    write(tmp_path / "one" / "test.jsonl", ENTRIES[1:])

    def prompts(source, **prefer):
        return [entry.fields["prompt"] for entry in read_entries(str(source), **prefer)]

    assert prompts(tmp_path / "both") == ["Größe?"] and prompts(tmp_path / "both", prefer="test") == ["q"]
    assert prompts(tmp_path / "one", prefer="filtered") == ["q"]  # it has only one split
    for source, prefer in ((tmp_path / "both", {"prefer": "filtered"}), (tmp_path / "one", {})):
        with pytest.raises(FileNotFoundError, match="cannot load its split"):
            prompts(source, **prefer)
    asked = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, split: asked.append(split) or datasets.Dataset.from_list(ENTRIES)
    )
    assert len(prompts("owner/name", prefer="dev")) == len(prompts("owner/name:test", prefer="dev")) == 2
    assert asked == ["dev", "test"]
