"""Files of answers."""

import json

import pytest


@pytest.fixture
def write(tmp_path):
    """(name, rows) → path of a file that holds them as an array or, if it ends in .jsonl, as lines."""

    def make(name, rows):
        path = tmp_path / name
        lines = name.endswith(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))
        return str(path)

    return make


@pytest.fixture
def outputs(write):
    """(name, generator, texts) → path of AlpacaEval-format answers to instructions 0, 1, …"""

    def make(name, generator, texts, **columns):
        rows = [
            {"instruction": f"instruction {n}", "output": text, "generator": generator} for n, text in enumerate(texts)
        ]
        return write(name, [row | {key: values[n] for key, values in columns.items()} for n, row in enumerate(rows)])

    return make
