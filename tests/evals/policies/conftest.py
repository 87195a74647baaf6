"""Writers of files of answers."""

import json

import pytest


@pytest.fixture
def write(tmp_path):
    """Writer of rows: (name, rows) → path. The file is a JSON array or, if its name ends in .jsonl, JSON lines."""

    def make(name, rows):
        path = tmp_path / name
        lines = name.endswith(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))
        return str(path)

    return make


@pytest.fixture
def outputs(write):
    """Writer of AlpacaEval's answers to instructions 0, 1, …: (name, generator, texts) → path."""

    def make(name, generator, texts, **columns):
        rows = [
            {"instruction": f"instruction {n}", "output": text, "generator": generator} for n, text in enumerate(texts)
        ]
        return write(name, [row | {key: values[n] for key, values in columns.items()} for n, row in enumerate(rows)])

    return make
