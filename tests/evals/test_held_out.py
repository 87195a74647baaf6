"""What is measured is exactly what the file says, and what is not is named."""

import numpy as np
import pytest

from gpmjax.evals.held_out import held_out


def all_rows(data):
    rows = np.concatenate([batch.comparisons.number.ravel() for batch in data.batches()])
    return sorted(rows[rows >= 0].tolist())


def test_every_comparison_comes_once(pairs, chat, write_rows):
    data = held_out(write_rows(pairs), chat, max_length=64, rows_per_batch=2)
    assert all_rows(data) == sorted(data.facts) == list(range(len(pairs)))
    assert data.dropped == ()


def test_facts_are_the_rows_own_although_rows_are_merged(chat, write_rows):
    rows = [
        {"prompt": "p", "chosen": "a b", "rejected": "c", "annotator": "x"},
        {"prompt": "p", "chosen": "c", "rejected": "a b", "annotator": "y"},
    ]
    path = write_rows(rows)
    data = held_out(path, chat, max_length=64, rows_per_batch=1)
    assert [data.facts[row].tags["annotator"] for row in (0, 1)] == ["x", "y"]
    assert [data.facts[row].source for row in (0, 1)] == [f"{path}:1", f"{path}:2"]
    assert data.facts[0].characters == (3, 1) and data.facts[1].characters == (1, 3)
    assert data.facts[0].tokens == data.facts[1].tokens[::-1] == (3, 2)  # EOS counts


def test_comparisons_without_a_difference_are_named(chat, write_rows):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": "a"},
        {"prompt": "q", "chosen": "word " * 90 + "one", "rejected": "word " * 90 + "two"},
        {"prompt": "q", "chosen": "word " * 90 + "one", "rejected": "short"},
    ]
    path = write_rows(rows)
    data = held_out(path, chat, max_length=96, rows_per_batch=1)
    assert data.dropped == (f"{path}:2", f"{path}:3")
    assert (data.report.identical, data.report.collapsed) == (1, 1)
    assert {row: known.truncated for row, known in data.facts.items()} == {0: False, 3: True}


def test_nothing_to_measure_is_an_error(chat, write_rows):
    path = write_rows([{"prompt": "p", "chosen": "a", "rejected": "a"}])
    with pytest.raises(ValueError, match=f"{path}: no comparison between different texts"):
        held_out(path, chat, max_length=64, rows_per_batch=1)
    with pytest.raises(ValueError, match="rows_per_batch=0: must be at least 1"):
        held_out(path, chat, max_length=64, rows_per_batch=0)
