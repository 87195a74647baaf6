"""The summary of all diagnostics, and its table."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from gpmjax.evals.diagnostics.cycles import count_triads
from gpmjax.evals.diagnostics.diagnose import diagnose
from gpmjax.evals.metrics import comparison_figures
from gpmjax.reports.terminal_tables.diagnosis import diagnosis_table


@pytest.fixture
def records(make_gpm_record):
    draw = np.random.default_rng(0)
    return [
        make_gpm_record(
            draw.normal(size=(3, 4)), draw.random(2), [(0, 1), (1, 2), (2, 0)] if n else [(0, 1), (1, 1)],
            tokens=draw.integers(1, 9, 3).tolist(), tags={"subset": "ab"[n % 2], "config": "x,y,z"}, prompt_tokens=9,
            ratings={"x": draw.random(3).tolist()},
        )
        for n in range(6)
    ]  # fmt: skip


def text_of(summary):
    console = Console(file=io.StringIO(), width=160)
    console.print(diagnosis_table(summary, title="a title"))
    return console.file.getvalue()


def test_the_summary_is_json_and_holds_the_labelled_figures(records):
    found = diagnose(records)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    scores = [record["scores"][i][j] for record in records for i, j, _ in record["comparisons"] if i != j]
    expected = comparison_figures(scores, np.ones(16), 1.0)
    assert found["accuracy"] == expected["accuracy"] and found["calibration"] == expected["calibration"]
    assert found["nll"] == pytest.approx(expected["nll"]) and set(found["longer_wins"]) == {"tokens", "characters"}
    assert (found["groups"], found["responses"], found["comparisons"], found["identical"]) == (6, 18, 16, 1)


def test_parts_by_tag_are_of_the_records_that_have_it(records):
    parts = diagnose(records, by=("subset", "nothing"))["diagnosis"]["by"]
    assert list(parts) == ["subset"] and parts["subset"]["a"]["triads"] == count_triads(records[::2])
    assert parts["subset"]["b"]["gate"]["prompts"] == 3


def test_the_table_has_a_line_for_each_figure(records, make_record):
    text = text_of(diagnose(records))
    for words in (
        "cyclic triads",
        "λ of block 2",
        "block 1: accuracy alone",
        "edges of y",
        "ρ of block 1 with x",
        "pairwise",
    ):
        assert words in text
    plain = diagnose([make_record([[0, 1], [-1, 0]])])
    text = text_of(plain)
    assert plain["comparisons"] == 0 and "accuracy" not in text and "block" not in text and "cyclic triads" in text


def test_records_of_two_judges_are_refused(records):
    with pytest.raises(ValueError, match=r"tau: \[0.5, 1.0\] in one file"):
        diagnose([*records, records[0] | {"tau": 0.5}])
    with pytest.raises(ValueError, match="there are none"):
        diagnose([])
